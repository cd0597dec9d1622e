package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/fingerprint"
	"github.com/wavry/fleet/hostruntime/masterlink"
	"github.com/wavry/fleet/hostruntime/nomadmeta"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// fleetHost is a host of a fleet: it keeps the fingerprint of its node, and offers what works to the master, to Consul and to Nomad.
type fleetHost struct {
	cfg      hostConfig
	settings hostSettings
	log      *slog.Logger
	host     *hostruntime.Host
	link     *masterlink.Link
	catalog  catalog.Catalog // nil: not registered
	registry *prometheus.Registry
	keeper   *fingerprint.Keeper
	node     *nomadmeta.Node // nil: nothing is published in Nomad
	desktop  *hostDesktop    // nil: each session has a picture of its own

	tried    chan struct{} // closed when the node is fingerprinted
	usable   chan struct{} // closed when a session could run for the first time
	draining atomic.Bool

	triedOnce, usableOnce sync.Once
}

func newFleetHost(cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users) (*fleetHost, error) {
	var cat catalog.Catalog // nil: not registered
	access := masterAccess{
		addresses: cfg.MasterAddrs, tokenFile: cfg.MasterTokenFile,
		files: identity.Files{Authority: cfg.MasterCAFile, Certificate: cfg.MasterCertFile, Key: cfg.MasterKeyFile},
	}
	if cfg.Consul {
		c, err := consul.New(consul.Config{Address: cfg.ConsulAddr, Token: cfg.ConsulTokenSecret, Logger: log})
		if err != nil {
			return nil, err
		}
		cat, access.resolve = c, mastersIn(c)
	}
	if len(cfg.MasterAddrs) == 0 && cat == nil {
		return nil, errors.New("master_addrs: empty, and without -consul there is no way to find the master; or use -standalone")
	}
	client, err := access.client(log)
	if err != nil {
		return nil, err
	}
	return wireFleetHost(cfg, log, environ, users, client, cat)
}

// wireFleetHost wires a host to a master that is reached through client.
func wireFleetHost(cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users, client *masterclient.Client, cat catalog.Catalog) (*fleetHost, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	f := &fleetHost{
		cfg: cfg, settings: settings, log: log, catalog: cat, registry: prometheus.NewRegistry(), tried: make(chan struct{}), usable: make(chan struct{}),
	}
	f.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f.desktop = newHostDesktop(cfg, environ, log)
	hostCfg, err := hostRuntimeConfig(cfg, settings, log, f.registry, f.desktop)
	if err != nil {
		return nil, err
	}
	verifier, err := masterclient.NewVerifier(filepath.Join(cfg.StateDir, "keyset.json"))
	if err != nil {
		return nil, err
	}
	f.link, err = masterlink.New(masterlink.Config{
		Client: client, Verifier: verifier, ID: cfg.ID, Pool: cfg.Pool, Region: cfg.Region, Version: version, Slots: cfg.Slots,
		Identity: hostCfg.Identity, Capabilities: f.capabilities, ConsulNode: cfg.ConsulNode, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	newSource := sources(cfg, log, environ, users, f.registry)
	hostCfg.Verify, hostCfg.Observer, hostCfg.Control = f.link.Verify, doubter{f.link, f}, f.link.Control
	hostCfg.NewSource = func(sessionID string) (session.Source, error) {
		r := f.keeper.Result()
		if r == nil {
			return nil, errors.New("the node is still being fingerprinted")
		}
		if why := r.Unusable(); why != "" {
			return nil, errors.New(why)
		}
		if captures := r.CaptureCandidates(); f.desktop == nil && showsDesktop(captures[0].Name) {
			return nil, errors.New("the node's order of plugins asks for a desktop, and this host was started for the test picture only: restart it")
		}
		f.keeper.Yield()
		return newSource(sessionID, plugins{captures: r.CaptureCandidates(), encoders: r.EncoderCandidates()})
	}
	if f.host, err = hostruntime.New(hostCfg); err != nil {
		return nil, err
	}
	f.link.Bind(f.host)
	if cfg.Nomad {
		if f.node, err = nomadmeta.New(nomadmeta.Config{Address: cfg.NomadAddr, Token: cfg.NomadTokenSecret, Logger: log}); err != nil {
			return nil, err
		}
	}
	f.keeper = fingerprint.NewKeeper(fingerprint.Config{
		Dirs: cfg.pluginDirs(), Order: cfg.order(), Frames: probeFrames, FPS: float64(cfg.MaxFPS), Env: environ, Users: users, Version: version, Logger: log,
	}, func() bool { return len(f.host.Sessions()) > 0 || f.desktop.Why() != nil }, f.found)
	return f, nil
}

const (
	// probeFrames of each trial: enough to tell a picture from a still one, in a fraction of a second.
	probeFrames = 10
	// preferenceWait is how long the first trial waits for the order that the node's agent has; without, the configuration's holds.
	preferenceWait = 5 * time.Second
)

// Run serves until ctx ends, then drains: no new sessions, the running ones may go on for drain_timeout. The order of the end: out
// of the catalog first, so that nobody is sent here; the host, which says goodbye to viewers; the desktop is given back; the link to
// the master last, since it reports how the sessions ended.
func (f *fleetHost) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	hostCtx, stopHost := context.WithCancel(background)
	defer stopHost()
	linkCtx, stopLink := context.WithCancel(background)
	defer stopLink()
	desktopCtx, stopDesktop := context.WithCancel(background)
	defer stopDesktop()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g := new(errgroup.Group)
	g.Go(func() error { defer stop(); return f.serveOps(hostCtx) })
	g.Go(func() error { defer stop(); defer stopLink(); defer stopDesktop(); return f.host.Run(hostCtx) })
	g.Go(func() error { f.desktop.run(desktopCtx); return nil })
	g.Go(func() error { f.node.Run(ctx); return nil })
	g.Go(func() error { f.keepFingerprint(ctx); return nil })
	g.Go(func() error { return f.keepRegistered(ctx) })
	g.Go(func() error {
		if !opened(ctx, f.tried) {
			return nil
		}
		return f.link.Run(linkCtx) // a host on which nothing works says so
	})
	<-ctx.Done()
	f.drain(hostCtx)
	stopHost()
	err := g.Wait()
	return err
}

// opened waits for c, and reports false when ctx ended before.
func opened(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

// keepFingerprint fingerprints the node again and again, by the order of its metadata when it has one.
func (f *fleetHost) keepFingerprint(ctx context.Context) {
	if f.node != nil {
		var told sync.Once
		first := make(chan struct{})
		followed := make(chan struct{})
		go func() { // waited for below
			defer close(followed)
			f.node.Follow(ctx, func(p nomadmeta.Preference) {
				f.keeper.Prefer(fingerprint.Order{Captures: splitList(p.Capture), Encoders: splitList(p.Encode)})
				told.Do(func() { close(first) })
			})
		}()
		defer func() { <-followed }()
		wait, stop := context.WithTimeout(ctx, preferenceWait)
		opened(wait, first)
		stop()
	}
	if f.desktop.claimed(ctx) { // what is tried while it is emptied would fail
		f.keeper.Run(ctx)
	}
}

// found tells Nomad what works on the node now; Consul and the master ask.
func (f *fleetHost) found(r *fingerprint.Result) {
	f.node.Set(nodeMeta(f.cfg, r))
	f.triedOnce.Do(func() { close(f.tried) })
	if r.Usable() {
		f.usableOnce.Do(func() { close(f.usable) })
	}
}

// reload takes over what may change while sessions run, of a configuration that was read again.
func (f *fleetHost) reload(cfg hostConfig, err error) {
	if err != nil {
		f.log.Warn("configuration not read again; the old one holds", "err", err)
		return
	}
	for _, key := range changedKeys(&f.cfg, &cfg) {
		if key != "capture" && key != "encode" {
			f.log.Warn("configuration changed; restart the host to apply it", "key", key)
		}
	}
	f.log.Info("configuration read again", "capture", cfg.Capture, "encode", cfg.Encode)
	f.keeper.Configure(cfg.order())
}

// doubter lets the node be looked at again when a session found nothing that works.
type doubter struct {
	session.Observer
	host *fleetHost
}

// SessionEnded implements session.Observer.
func (d doubter) SessionEnded(id string, why *session.EndedError) {
	d.Observer.SessionEnded(id, why)
	if why.Code == streamwire.CodeHost {
		d.host.keeper.Doubt()
	}
}

// nodeMeta is what Nomad's scheduler may place by.
func nodeMeta(cfg hostConfig, r *fingerprint.Result) map[string]string {
	meta := r.Meta()
	published := map[string]string{
		nomadmeta.Capture: meta["capture"], nomadmeta.Encoder: meta["encoder"], nomadmeta.Codecs: meta["codecs"],
		nomadmeta.Slots: fmt.Sprint(cfg.Slots), nomadmeta.Version: version, nomadmeta.Usable: fmt.Sprint(r.Usable()),
	}
	for key, why := range map[string]string{nomadmeta.Reason: r.Unusable(), nomadmeta.Refused: r.Refused} {
		if why != "" {
			published[key] = why
		}
	}
	return published
}

func (f *fleetHost) capabilities() *masterapi.HostCapabilities {
	r := f.keeper.Result()
	if r == nil {
		return nil
	}
	meta := f.meta(r)
	if why := f.desktop.overdue(); why != nil && meta[masterapi.AttributeUnusable] == "" {
		meta[masterapi.AttributeUnusable] = masterapi.AttributeText(why.Error())
	}
	return &masterapi.HostCapabilities{
		Compositor: meta["compositor"], CapturePlugin: meta["capture"], EncoderPlugin: meta["encoder"], Codecs: splitList(meta["codecs"]), Attributes: meta,
	}
}

// meta is what the fingerprint found, and what becomes of the desktop between people.
func (f *fleetHost) meta(r *fingerprint.Result) map[string]string {
	meta := r.Meta()
	if word := f.desktop.word(); word != "" {
		meta[masterapi.AttributeDesktop] = word
	}
	return meta
}

func (f *fleetHost) ready() error {
	r := f.keeper.Result()
	overdue := f.desktop.overdue()
	switch {
	case f.draining.Load():
		return hostruntime.ErrDraining
	case overdue != nil:
		return overdue
	case r == nil:
		return errors.New("the node is still being fingerprinted")
	case !r.Usable():
		return errors.New(r.Unusable())
	case !f.link.Linked():
		return errors.New("the master does not know this host yet")
	}
	return nil
}

func (f *fleetHost) serveOps(ctx context.Context) error {
	listener, err := net.Listen("tcp", f.settings.http.String())
	if err != nil {
		return fmt.Errorf("open the operators' port %s: %w; choose another with -http-addr", f.settings.http, err)
	}
	server := &http.Server{Handler: hostruntime.Ops(f.ready, f.fingerprint, f.registry), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

func (f *fleetHost) fingerprint() any {
	if r := f.keeper.Result(); r != nil {
		return r
	}
	return nil
}

// keepRegistered offers this host in the catalog from the moment when a session can run on it; later its check says whether one can.
func (f *fleetHost) keepRegistered(ctx context.Context) error {
	if f.catalog == nil || !opened(ctx, f.host.Ready()) || !opened(ctx, f.usable) {
		return nil
	}
	return f.catalog.Keep(ctx, catalog.Registration{
		Name: catalog.ServiceHost, ID: catalog.ServiceHost + "-" + f.cfg.ID, Address: f.host.Addresses()[0].String(), Meta: f.serviceMeta, CheckURL: f.checkURL(),
	})
}

// serviceMeta is what Consul tells of this host.
func (f *fleetHost) serviceMeta() map[string]string {
	meta := f.meta(f.keeper.Result())
	meta[catalog.MetaID], meta["pool"], meta["region"], meta["version"] = f.cfg.ID, f.cfg.Pool, f.cfg.Region, version
	meta["slots"] = fmt.Sprint(f.cfg.Slots)
	return meta
}

// checkURL is where the Consul agent of this node asks whether the host is ready.
func (f *fleetHost) checkURL() string {
	if f.cfg.ConsulCheckURL != "" {
		return f.cfg.ConsulCheckURL
	}
	address := f.settings.http
	if address.Addr().IsUnspecified() {
		address = netip.AddrPortFrom(f.host.Addresses()[0].Addr(), address.Port())
	}
	return "http://" + address.String() + "/readyz"
}

// drain takes no more sessions and waits for the running ones to end by themselves, for drain_timeout at most.
func (f *fleetHost) drain(hostCtx context.Context) {
	f.draining.Store(true)
	select {
	case <-f.host.Ready():
	default:
		return // it never served anybody
	}
	f.link.Drain(fmt.Sprintf("This host goes down for maintenance. Save your work: the session ends within %s.", inWords(f.settings.drain)))
	deadline := time.NewTimer(f.settings.drain)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(f.host.Sessions()) > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.log.Warn("sessions are ended by the drain", "left", len(f.host.Sessions()))
			for _, s := range f.host.Sessions() {
				f.host.End(s.ID, streamwire.CodeDraining, "The time to finish here is over.")
			}
			return
		case <-hostCtx.Done():
			return
		}
	}
}

// inWords is a time limit as people say it.
func inWords(d time.Duration) string {
	n, unit := int(d.Seconds()), "second"
	if d >= 2*time.Minute {
		n, unit = int(d.Minutes()), "minute"
	}
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}
