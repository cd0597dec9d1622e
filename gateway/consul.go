package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	// consulEvery is how soon a registration that Consul lost is made again.
	consulEvery = 5 * time.Second
	// consulTimeout bounds each call to the local agent.
	consulTimeout = 3 * time.Second
	// consulCheck is how often Consul asks /readyz.
	consulCheck = "2s"
	// consulForget is how long a gateway that vanished stays listed as critical; Consul's floor is 1 minute.
	consulForget = "10m"
)

// register keeps the gateway registered in Consul until ctx ends, then takes it out. Consul being away is no reason to stop.
func (g *Gateway) register(ctx context.Context) error {
	if g.cfg.Consul == nil {
		return nil
	}
	c := *g.cfg.Consul
	client, err := newConsul(c)
	if err != nil {
		return err
	}
	service, err := registration(g.cfg.ID, g.cfg.Version, c)
	if err != nil {
		return err
	}
	registered := false
	err = every(ctx, consulEvery, true, func() {
		made, err := ensureRegistered(ctx, client, service)
		switch {
		case err != nil && ctx.Err() == nil && registered:
			g.log.Warn("consul does not answer; the registration is kept up when it is back", "err", err)
		case made:
			g.log.Info("registered in consul", "service", service.Name, "cause", map[bool]string{true: "consul had lost it", false: "start"}[registered])
		}
		registered = registered && err == nil || made
	})
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), consulTimeout)
	defer cancel()
	if e := client.Agent().ServiceDeregisterOpts(service.ID, (&consul.QueryOptions{}).WithContext(leave)); e != nil {
		g.log.Warn("could not leave consul; its check will turn critical", "err", e)
	}
	return err
}

// newConsul keeps no connections: it asks the local agent every few seconds, and nothing is left to close at the end. Empty
// settings come from Consul's own environment variables.
func newConsul(c Consul) (*consul.Client, error) {
	config := consul.DefaultNonPooledConfig()
	if c.Address != "" {
		config.Address = c.Address
	}
	if c.Token != "" {
		config.Token = string(c.Token)
	}
	client, err := consul.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	return client, nil
}

func registration(id, version string, c Consul) (*consul.AgentServiceRegistration, error) {
	host, port, err := net.SplitHostPort(c.AdvertiseAddr)
	if err != nil {
		return nil, fmt.Errorf("consul_advertise_addr: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("consul_advertise_addr: %w", err)
	}
	return &consul.AgentServiceRegistration{
		ID: c.Service + "-" + id, Name: c.Service, Tags: c.Tags, Address: host, Port: number,
		Meta: map[string]string{"gateway_id": id, "version": version, "ops": c.AdvertiseOps},
		Check: &consul.AgentServiceCheck{
			Name: "ready", HTTP: "http://" + c.AdvertiseOps + pathReady, Interval: consulCheck, Timeout: "1s",
			DeregisterCriticalServiceAfter: consulForget,
		},
	}, nil
}

// ensureRegistered registers the service unless the agent has it already.
func ensureRegistered(ctx context.Context, client *consul.Client, service *consul.AgentServiceRegistration) (made bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, consulTimeout)
	defer cancel()
	_, _, err = client.Agent().Service(service.ID, (&consul.QueryOptions{}).WithContext(ctx))
	var status consul.StatusError
	if err == nil || !errors.As(err, &status) || status.Code != 404 {
		return false, err
	}
	err = client.Agent().ServiceRegisterOpts(service, consul.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
	return err == nil, err
}
