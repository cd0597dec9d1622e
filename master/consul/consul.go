// Package consul is the catalog of real Consul: registration that survives Consul losing its state, health by blocking queries, and round trips from
// network coordinates. It is the only importer of Consul's client outside of tests.
package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/serf/coordinate"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/health"
)

const (
	// waitTime is how long a blocking query waits; a change is answered at once.
	waitTime = 30 * time.Second
	// firstPause and maxPause bound the pause after a failed query.
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
	// keepInterval is how often a registration is looked for: an emptied Consul has it back within this time.
	keepInterval = 2 * time.Second
	// checkInterval is how often Consul's agent asks a service for its health: critical within a second of the fault.
	checkInterval = time.Second
	// callTimeout bounds every other call.
	callTimeout = 3 * time.Second
	// coordinateInterval is how often coordinates are read; they drift over minutes.
	coordinateInterval = 30 * time.Second
)

// Config says which agent is asked. Consul's own environment (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_CACERT, ...) holds for what is empty.
type Config struct {
	Address string
	Token   string
	// DeregisterAfter removes a service that stays critical; Consul's floor is one minute; 0: never.
	DeregisterAfter time.Duration
	Logger          *slog.Logger
}

// Catalog implements catalog.Catalog.
type Catalog struct {
	cfg    Config
	log    *slog.Logger
	client *api.Client
	// transport is the client's own pool of connections.
	transport *http.Transport
	coords    atomic.Pointer[map[string]*coordinate.Coordinate] // by node
}

// New makes the client; nothing is asked yet.
func New(cfg Config) (*Catalog, error) {
	// DefaultNonPooledConfig would connect per call; the pooled transport is this client's own, so Close can empty it.
	c := api.DefaultConfig()
	c.Address, c.Token = cmp.Or(cfg.Address, c.Address), cmp.Or(cfg.Token, c.Token)
	client, err := api.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Catalog{cfg: cfg, log: cfg.Logger.With("component", "consul"), client: client, transport: c.Transport}, nil
}

// Close drops idle connections.
func (c *Catalog) Close() { c.transport.CloseIdleConnections() }

// Watch implements catalog.Catalog.
func (c *Catalog) Watch(ctx context.Context, service string, update func(catalog.Update)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.watch(ctx, service, update) })
	if service == catalog.ServiceRelay {
		group.Go(func() error { return c.followCoordinates(ctx) })
	}
	return group.Wait()
}

func (c *Catalog) watch(ctx context.Context, service string, update func(catalog.Update)) error {
	var index uint64
	var last []catalog.Instance
	pause := firstPause
	for ctx.Err() == nil {
		entries, meta, err := c.client.Health().Service(service, "", false, c.blocking(ctx, index))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			update(catalog.Update{Instances: last, Err: err})
			index = 0
			if sleep(ctx, pause) != nil {
				return nil
			}
			pause = min(2*pause, maxPause)
			continue
		}
		pause = firstPause
		if meta.LastIndex < index {
			index = 0 // Consul lost its state: begin anew
		} else {
			index = meta.LastIndex
		}
		last = instances(entries)
		update(catalog.Update{Instances: last})
		if index == 0 && sleep(ctx, firstPause) != nil {
			return nil
		}
	}
	return nil
}

func (c *Catalog) blocking(ctx context.Context, index uint64) *api.QueryOptions {
	// A consistent answer from an agent without a leader is an error, which is what tells stale from true.
	q := &api.QueryOptions{WaitIndex: index, WaitTime: waitTime}
	return q.WithContext(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func instances(entries []*api.ServiceEntry) []catalog.Instance {
	list := make([]catalog.Instance, 0, len(entries))
	for _, e := range entries {
		address := cmp.Or(e.Service.Address, e.Node.Address)
		id := e.Service.Meta[catalog.MetaID]
		if id == "" {
			id = e.Service.ID
		}
		list = append(list, catalog.Instance{
			ID: id, Node: e.Node.Node, Address: net.JoinHostPort(address, strconv.Itoa(e.Service.Port)), Meta: e.Service.Meta,
			Status: statusOf(e.Checks.AggregatedStatus()),
		})
	}
	return list
}

func statusOf(s string) health.Status {
	switch s {
	case api.HealthPassing:
		return health.Passing
	case api.HealthWarning:
		return health.Warning
	case api.HealthCritical, api.HealthMaint:
		return health.Critical
	default:
		return health.Unknown
	}
}

// Instances implements catalog.Catalog.
func (c *Catalog) Instances(ctx context.Context, service string) ([]catalog.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries, _, err := c.client.Health().Service(service, "", false, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("ask consul for %s: %w", service, err)
	}
	return instances(entries), nil
}

// Keep implements catalog.Catalog.
func (c *Catalog) Keep(ctx context.Context, r catalog.Registration) error {
	registration, err := c.registration(r)
	if err != nil {
		return err
	}
	known := false
	for {
		registration.Meta = withOps(r)
		is, err := c.keepOnce(ctx, registration)
		if ctx.Err() == nil && is != known {
			c.log.Info("consul registration", "service", r.Name, "registered", is, "err", err)
		}
		known = is
		if sleep(ctx, keepInterval) == nil {
			continue
		}
		if errors.Is(context.Cause(ctx), catalog.ErrSucceeded) {
			return nil
		}
		return c.leave(registration)
	}
}

// withOps is the service's metadata with where operators look: where the check is, unless the service says another place.
func withOps(r catalog.Registration) map[string]string {
	meta := maps.Clone(r.Meta())
	if u, err := url.Parse(r.CheckURL); err == nil && meta[catalog.MetaOps] == "" {
		meta[catalog.MetaOps] = u.Host
	}
	return meta
}

func (c *Catalog) registration(r catalog.Registration) (*api.AgentServiceRegistration, error) {
	host, portText, err := net.SplitHostPort(r.Address)
	if err != nil {
		return nil, fmt.Errorf("register %s: address %q: %w", r.Name, r.Address, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("register %s: port %q: %w", r.Name, portText, err)
	}
	check := &api.AgentServiceCheck{HTTP: r.CheckURL, Interval: checkInterval.String(), Timeout: callTimeout.String(), TLSSkipVerify: r.TLSSkipVerify}
	if c.cfg.DeregisterAfter > 0 {
		check.DeregisterCriticalServiceAfter = c.cfg.DeregisterAfter.String()
	}
	return &api.AgentServiceRegistration{ID: r.Name + "-" + r.ID, Name: r.Name, Address: host, Port: port, Tags: r.Tags, Check: check}, nil
}

// keepOnce registers when the agent does not know the service as it is now. Registering again would reset the check to critical until it has
// run, so at the same address it begins with what it says now.
func (c *Catalog) keepOnce(ctx context.Context, r *api.AgentServiceRegistration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	known, _, err := c.client.Agent().Service(r.ID, (&api.QueryOptions{}).WithContext(ctx))
	here := err == nil && known.Address == r.Address && known.Port == r.Port
	var status api.StatusError
	switch {
	case here && slices.Equal(known.Tags, r.Tags) && maps.Equal(known.Meta, r.Meta):
		return true, nil
	case here:
		if r.Check.Status, _, err = c.client.Agent().AgentHealthServiceByIDOpts(r.ID, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
			return true, err
		}
	case err == nil, errors.As(err, &status) && status.Code == http.StatusNotFound:
		r.Check.Status = ""
	default:
		return false, err
	}
	if err := c.client.Agent().ServiceRegisterOpts(r, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)); err != nil {
		return false, err
	}
	return true, nil
}

// leave deregisters; when Consul is away the check turns critical by itself.
func (c *Catalog) leave(r *api.AgentServiceRegistration) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := c.client.Agent().ServiceDeregisterOpts(r.ID, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		c.log.Warn("consul registration not removed", "service", r.Name, "err", err)
	}
	return nil
}

func (c *Catalog) followCoordinates(ctx context.Context) error {
	for {
		c.readCoordinates(ctx)
		if sleep(ctx, coordinateInterval) != nil {
			return nil
		}
	}
}

// readCoordinates keeps the old ones when Consul cannot be asked or has none.
func (c *Catalog) readCoordinates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries, _, err := c.client.Coordinate().Nodes((&api.QueryOptions{AllowStale: true}).WithContext(ctx))
	if err != nil {
		c.log.Debug("read coordinates", "err", err)
		return
	}
	byNode := make(map[string]*coordinate.Coordinate, len(entries))
	for _, e := range entries {
		byNode[e.Node] = e.Coord
	}
	c.coords.Store(&byNode)
}

// RTT implements catalog.Catalog.
func (c *Catalog) RTT(nodeA, nodeB string) float64 {
	byNode := c.coords.Load()
	if byNode == nil || nodeA == nodeB {
		return 0
	}
	a, b := (*byNode)[nodeA], (*byNode)[nodeB]
	if a == nil || b == nil || !a.IsCompatibleWith(b) {
		return 0
	}
	return float64(a.DistanceTo(b).Microseconds()) / 1000
}
