package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/gateway"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/seal"
	"github.com/wavry/fleet/relay"
	"github.com/wavry/fleet/relay/masterlink"
	"github.com/wavry/fleet/web"
)

// devFleet is the whole system in one process: the code of a cluster with one of each role, links over loopback, no Consul.
type devFleet struct {
	cfg        hostConfig // of the host; HTTPAddr is the gateway's
	forceRelay bool
	environ    []string
	users      *pluginhost.Users
	log        *slog.Logger

	tls     *devTLS
	master  *master.Master
	gateway *gateway.Gateway
	relay   *relay.Relay
	host    *fleetHost
	ready   chan struct{} // closed when a person can sign in
}

// newDevFleet checks what can be checked before the master has an address.
func newDevFleet(cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users, forceRelay bool) (*devFleet, error) {
	if _, err := cfg.settings(); err != nil {
		return nil, err
	}
	d := &devFleet{cfg: cfg, forceRelay: forceRelay, environ: environ, users: users, log: log, ready: make(chan struct{})}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	kek, err := loadKEK(filepath.Join(cfg.StateDir, "master.kek"))
	if err != nil {
		return nil, err
	}
	if d.tls, err = newDevTLS(); err != nil {
		return nil, err
	}
	m := master.DefaultConfig()
	m.ID, m.Bind, m.DataDir, m.BootstrapExpect, m.KEK = "dev", "127.0.0.1:0", filepath.Join(cfg.StateDir, "master"), 1, kek
	m.OpsAddr, m.Version, m.Logger = "", version, log
	if m.HostRules, err = hostrule.Parse([]string{cfg.ID + "=" + cfg.Pool + "/" + fmt.Sprint(cfg.Slots)}); err != nil {
		return nil, err
	}
	if m.Identity, err = d.tls.source(identity.RoleMaster, "dev"); err != nil {
		return nil, err
	}
	d.master, err = master.New(m)
	return d, err
}

// loadKEK reads the key-encryption key, or makes one: in dev nobody else could keep it.
func loadKEK(path string) (*seal.KEK, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return seal.Load(path)
	}
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, fmt.Errorf("make key-encryption key: %w", err)
	}
	if err := os.WriteFile(path, []byte(hex.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("keep key-encryption key: %w", err)
	}
	return seal.Load(path)
}

// client is a master's client for one service, with a certificate that lives as long as this process.
func (d *devFleet) client(role identity.Role, name string) (*masterclient.Client, error) {
	source, err := d.tls.source(role, name)
	if err != nil {
		return nil, err
	}
	return masterclient.New(masterclient.Config{
		// The address is known when the master listens, and nobody calls before.
		Resolve: func(context.Context) ([]string, error) { return []string{d.master.Address()}, nil },
		TLS:     source.Client(identity.RoleMaster),
		Logger:  d.log,
	})
}

// wire creates every other role.
func (d *devFleet) wire() error {
	var clients [3]*masterclient.Client
	for i, id := range []identity.Identity{{Role: identity.RoleGateway, Name: "dev"}, {Role: identity.RoleRelay, Name: "dev"}, {Role: identity.RoleHost, Name: d.cfg.ID}} {
		var err error
		if clients[i], err = d.client(id.Role, id.Name); err != nil {
			return err
		}
	}
	return errors.Join(d.wireGateway(clients[0]), d.wireRelay(clients[1]), d.wireHost(clients[2]))
}

func (d *devFleet) wireGateway(client *masterclient.Client) (err error) {
	g := gateway.DefaultConfig()
	g.ID, g.Version, g.BindAddr, g.OpsAddr = "dev", version, d.cfg.HTTPAddr, ""
	g.TLS = gateway.TLS{CertFile: d.cfg.TLSCertFile, KeyFile: d.cfg.TLSKeyFile}
	g.Store.Driver, g.Store.DSN = store.SQLite, filepath.Join(d.cfg.StateDir, "gateway.db")
	g.KeyFile = filepath.Join(d.cfg.StateDir, "gateway.key")
	g.OpenPools, g.ForceRelay, g.Master, g.Web, g.Logger = []string{"*"}, d.forceRelay, client, web.Handler(), d.log
	g.Announce = func(string) {} // this process asks for a link of its own
	d.gateway, err = gateway.New(g)
	return err
}

func (d *devFleet) wireRelay(client *masterclient.Client) error {
	key, err := relay.LoadKey(filepath.Join(d.cfg.StateDir, "relay.key"))
	if err != nil {
		return err
	}
	link, err := masterlink.New(masterlink.Config{Client: client, Logger: d.log})
	if err != nil {
		return err
	}
	r := relay.DefaultConfig()
	r.ID, r.Bind, r.ControlPort, r.FirstMediaPort, r.MediaPorts, r.HTTPAddr = "dev", netip.MustParseAddr("127.0.0.1"), 0, 0, devMediaPorts, ""
	r.PrivateKey, r.Control, r.Version, r.DrainTimeout = key, link, version, time.Second
	r.Logger, r.Registry = d.log, prometheus.NewRegistry()
	d.relay, err = relay.New(r)
	return err
}

// devMediaPorts are enough for a few tabs; a fleet's relay has 64.
const devMediaPorts = 8

func (d *devFleet) wireHost(client *masterclient.Client) (err error) {
	cfg := d.cfg
	cfg.HTTPAddr, cfg.DrainTimeout = "127.0.0.1:0", "0s"
	d.host, err = wireFleetHost(cfg, d.log, d.environ, d.users, client, nil)
	return err
}

// Run serves until ctx ends. Roles end in the order in which they need each other: gateway (no new sessions), host (says goodbye to
// viewers, through the relay too), relay, master.
func (d *devFleet) Run(ctx context.Context) error {
	if err := d.wire(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	roles := []func(context.Context) error{
		d.master.Run,
		d.relay.Run,
		d.host.Run,
		d.gateway.Run,
	}
	started := []<-chan struct{}{d.master.Listening(), d.relay.Started(), d.host.host.Ready(), d.gateway.Ready()}
	var ends []func() error
	var err error
	for i, run := range roles {
		if ctx.Err() != nil {
			break // a role that came before has failed: starting the others would only bury its reason
		}
		roleCtx, stopRole := context.WithCancel(context.WithoutCancel(ctx))
		g := new(errgroup.Group)
		g.Go(func() error { defer stop(); return run(roleCtx) })
		ends = append(ends, func() error { stopRole(); return g.Wait() })
		select {
		case <-started[i]:
		case <-ctx.Done():
		}
	}
	if d.waitOffered(ctx) {
		if err = d.tls.writeOperator(d.cfg.StateDir, d.master.Address()); err != nil {
			stop()
		} else {
			close(d.ready)
		}
	}
	<-ctx.Done()
	for i := len(ends) - 1; i >= 0; i-- {
		err = errors.Join(err, ends[i]())
	}
	return err
}

// waitOffered waits until the master knows the host: before, a person would sign in to an empty page.
func (d *devFleet) waitOffered(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for d.host.ready() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// SignInURL is a one-time link that signs in as the first admin and opens the desktop. Valid when ready is closed.
func (d *devFleet) SignInURL(ctx context.Context) (string, error) {
	link, err := d.gateway.SignInLink(ctx, "admin", store.RoleAdmin)
	return link + signalapi.LinkTo + "/desktop/" + d.cfg.Pool, err
}
