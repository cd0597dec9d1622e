package relay

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// ConsulConfig says how the relay registers itself.
type ConsulConfig struct {
	// Address of the local agent, host:port or URL; empty means 127.0.0.1:8500.
	Address string
	// Token may write service wavry-relay. Never logged.
	Token string
	// CheckURL is where the agent reaches /ready, such as http://10.0.0.7:7479/ready.
	CheckURL string
	// Every is how often the registration is looked at; 0 means 3 s.
	Every time.Duration
}

// ServiceName is the name relays register under.
const ServiceName = "wavry-relay"

const (
	consulTimeout = 5 * time.Second // for one request; a blocked agent must not hold up the end of Run for longer
	checkInterval = "1s"            // a relay that is not ready gets no lease within 2 s
	forgetAfter   = "30m"           // a relay that died without saying so; which relays are used is the master's decision
)

// register keeps the relay registered in Consul until leaving ends, then takes it out, so that no new circuit is sent to a relay that
// drains. When a successor takes over, the registration stays for it. An agent that cannot be reached is only logged: running
// circuits do not need it.
func (r *Relay) register(leaving, work context.Context, path dataPath) error {
	client, err := r.consulClient()
	if err != nil {
		return err
	}
	service := r.consulService(path)
	every := r.cfg.Consul.Every
	if every == 0 {
		every = 3 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	healthy := true
	for {
		err := r.ensureRegistered(client, service)
		if ok := err == nil; ok != healthy {
			healthy = ok
			r.log.Warn("consul registration", "healthy", healthy, "err", err)
		}
		select {
		case <-work.Done():
			if errors.Is(context.Cause(work), ErrHandedOver) {
				return nil
			}
			return r.deregister(client, service.ID)
		case <-leaving.Done():
			return r.deregister(client, service.ID)
		case <-tick.C:
		}
	}
}

func (r *Relay) consulClient() (*consul.Client, error) {
	cfg := consul.DefaultConfig()
	if a := r.cfg.Consul.Address; a != "" {
		cfg.Address = a
	}
	if t := r.cfg.Consul.Token; t != "" {
		cfg.Token = t
	}
	client, err := consul.NewClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("make consul client: %w", err)
	}
	return client, nil
}

func (r *Relay) consulService(path dataPath) *consul.AgentServiceRegistration {
	key, media := r.PublicKey(), path.mediaPorts()
	address := r.cfg.advertised().String()
	return &consul.AgentServiceRegistration{
		ID: ServiceName + "-" + r.cfg.ID, Name: ServiceName, Address: address, Port: int(path.controlPort()),
		Meta: map[string]string{
			"id": r.cfg.ID, "region": r.cfg.Region, "version": r.cfg.Version, "max_circuits": strconv.Itoa(r.cfg.MaxCircuits),
			"address":     net.JoinHostPort(address, strconv.Itoa(int(path.controlPort()))),
			"public_key":  base64.StdEncoding.EncodeToString(key[:]),
			"media_ports": fmt.Sprintf("%d-%d", media[0], media[len(media)-1]),
		},
		Check: &consul.AgentServiceCheck{
			CheckID: ServiceName + "-" + r.cfg.ID + "-ready", Name: "relay takes circuits", HTTP: r.cfg.Consul.CheckURL, Interval: checkInterval,
			Timeout: "1s", DeregisterCriticalServiceAfter: forgetAfter,
		},
	}
}

// ensureRegistered registers the service unless the agent still has it: agents lose their state.
func (r *Relay) ensureRegistered(client *consul.Client, service *consul.AgentServiceRegistration) error {
	ctx, cancel := context.WithTimeout(context.Background(), consulTimeout)
	defer cancel()
	have, _, err := client.Agent().Service(service.ID, (&consul.QueryOptions{}).WithContext(ctx))
	if err == nil && have.Port == service.Port && have.Address == service.Address && sameMeta(have.Meta, service.Meta) {
		return nil
	}
	var status consul.StatusError
	if err != nil && !(errors.As(err, &status) && status.Code == http.StatusNotFound) {
		return fmt.Errorf("look up own registration: %w", err)
	}
	if err := client.Agent().ServiceRegisterOpts(service, consul.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	r.log.Info("registered in consul", "service", service.ID)
	return nil
}

func sameMeta(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return true
}

func (r *Relay) deregister(client *consul.Client, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), consulTimeout)
	defer cancel()
	if err := client.Agent().ServiceDeregisterOpts(id, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
		r.log.Warn("not taken out of consul; its check will fail", "service", id, "err", err)
		return nil
	}
	r.log.Info("taken out of consul", "service", id)
	return nil
}
