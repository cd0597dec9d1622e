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
	"slices"
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
	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
)

// fleetHost is a host of a fleet: it fingerprints its node, then offers it to the master and to Consul.
type fleetHost struct {
	cfg      hostConfig
	settings hostSettings
	log      *slog.Logger
	host     *hostruntime.Host
	link     *masterlink.Link
	catalog  catalog.Catalog // nil: not registered
	registry *prometheus.Registry
	probe    func(context.Context) (*fingerprint.Result, error)
	node     *nomadmeta.Node // nil: nothing is published in Nomad

	result   atomic.Pointer[fingerprint.Result] // nil until the node is fingerprinted
	draining atomic.Bool
}

func newFleetHost(cfg hostConfig, log *slog.Logger, environ []string, owner *pluginhost.Credential) (*fleetHost, error) {
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
	return wireFleetHost(cfg, log, environ, owner, client, cat)
}

// wireFleetHost wires a host to a master that is reached through client.
func wireFleetHost(cfg hostConfig, log *slog.Logger, environ []string, owner *pluginhost.Credential, client *masterclient.Client, cat catalog.Catalog) (*fleetHost, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	f := &fleetHost{cfg: cfg, settings: settings, log: log, catalog: cat, registry: prometheus.NewRegistry()}
	f.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	hostCfg, err := hostRuntimeConfig(cfg, settings, log, f.registry)
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
	newSource := sources(cfg, log, environ, owner, f.registry)
	hostCfg.Verify, hostCfg.Observer, hostCfg.Control, hostCfg.Relayed = f.link.Verify, f.link, f.link.Control, f.link.Relayed
	hostCfg.NewSource = func(sessionID string) (session.Source, error) {
		r := f.result.Load()
		if r == nil {
			return nil, errors.New("the node is still being fingerprinted")
		}
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
	f.probe = func(ctx context.Context) (*fingerprint.Result, error) {
		return takeFingerprint(ctx, cfg, log, environ, owner)
	}
	return f, nil
}

func takeFingerprint(ctx context.Context, cfg hostConfig, log *slog.Logger, environ []string, owner *pluginhost.Credential) (*fingerprint.Result, error) {
	binaries, err := pluginhost.Discover(append(slices.Clone(cfg.PluginDirs), pluginhost.DefaultDirs()...)...)
	if err != nil {
		return nil, err
	}
	return fingerprint.Run(ctx, fingerprint.Config{
		Binaries: binaries, Captures: cfg.Capture, Encoders: cfg.Encode, Frames: probeFrames, FPS: float64(cfg.MaxFPS),
		Env: environ, Owner: owner, Version: version, Logger: log,
	})
}

const (
	// probeFrames of each trial at the start: enough to tell a picture from a still one, in a fraction of a second.
	probeFrames = 10
	// probeRetry is how soon a node on which nothing works is looked at again: its desktop may still be starting.
	probeRetry = 5 * time.Second
)

// Run serves until ctx ends, then drains: no new sessions, the running ones may go on for drain_timeout. The order of the end: out
// of the catalog first, so that nobody is sent here; the host, which says goodbye to viewers; the link to the master last, since it
// reports how the sessions ended.
func (f *fleetHost) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	hostCtx, stopHost := context.WithCancel(background)
	defer stopHost()
	linkCtx, stopLink := context.WithCancel(background)
	defer stopLink()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g := new(errgroup.Group)
	g.Go(func() error { defer stop(); return f.serveOps(hostCtx) })
	g.Go(func() error { defer stop(); defer stopLink(); return f.host.Run(hostCtx) })
	g.Go(func() error { f.node.Run(ctx); return nil })
	g.Go(func() error {
		if err := f.waitUsable(ctx); err != nil {
			return nil // ctx ended before the node was of any use
		}
		keep := make(chan error, 1)
		go func() { keep <- f.keepRegistered(ctx) }() // waited for below
		err := f.link.Run(linkCtx)
		return errors.Join(err, <-keep)
	})
	<-ctx.Done()
	f.drain(hostCtx)
	stopHost()
	err := g.Wait()
	return err
}

// waitUsable fingerprints the node until a session can run on it.
func (f *fleetHost) waitUsable(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		r, err := f.probe(ctx)
		if err != nil {
			return err
		}
		f.result.Store(r)
		f.node.Set(nodeMeta(f.cfg, r))
		if r.Usable() {
			f.log.Info("node fingerprinted", "capture", r.Captures[0].Plugin, "encoder", r.Encoders[0].Plugin, "took", time.Since(r.Time).String())
			return nil
		}
		f.log.Warn("no session can run on this node; wavry host doctor says why", "cause", unusable(r))
		timer.Reset(probeRetry)
	}
}

// nodeMeta is what Nomad's scheduler may place by.
func nodeMeta(cfg hostConfig, r *fingerprint.Result) map[string]string {
	meta := r.Meta()
	published := map[string]string{
		nomadmeta.Capture: meta["capture"], nomadmeta.Encoder: meta["encoder"], nomadmeta.Codecs: meta["codecs"],
		nomadmeta.Slots: fmt.Sprint(cfg.Slots), nomadmeta.Version: version, nomadmeta.Usable: fmt.Sprint(r.Usable()),
	}
	if !r.Usable() {
		published[nomadmeta.Reason] = unusable(r)
	}
	return published
}

// unusable is the first reason of each kind of plugin that does not work.
func unusable(r *fingerprint.Result) string {
	var reasons []error
	for _, p := range r.Plugins {
		if p.Verdict == fingerprint.Fail {
			reasons = append(reasons, fmt.Errorf("%s: %s", p.Name, p.Reason))
		}
	}
	if len(reasons) == 0 {
		return "no plugin is installed"
	}
	return errors.Join(reasons...).Error()
}

func (f *fleetHost) capabilities() *masterapi.HostCapabilities {
	r := f.result.Load()
	if r == nil {
		return nil
	}
	meta := r.Meta()
	return &masterapi.HostCapabilities{
		Compositor: meta["compositor"], CapturePlugin: meta["capture"], EncoderPlugin: meta["encoder"], Codecs: splitList(meta["codecs"]), Attributes: meta,
	}
}

func (f *fleetHost) ready() error {
	r := f.result.Load()
	switch {
	case f.draining.Load():
		return hostruntime.ErrDraining
	case r == nil:
		return errors.New("the node is still being fingerprinted")
	case !r.Usable():
		return errors.New(unusable(r))
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
	if r := f.result.Load(); r != nil {
		return r
	}
	return nil
}

func (f *fleetHost) keepRegistered(ctx context.Context) error {
	if f.catalog == nil {
		return nil
	}
	meta := f.result.Load().Meta()
	meta[catalog.MetaID], meta["pool"], meta["region"], meta["version"] = f.cfg.ID, f.cfg.Pool, f.cfg.Region, version
	meta["slots"] = fmt.Sprint(f.cfg.Slots)
	return f.catalog.Keep(ctx, catalog.Registration{
		Name: catalog.ServiceHost, ID: catalog.ServiceHost + "-" + f.cfg.ID, Address: f.host.Addresses()[0].String(), Meta: meta, CheckURL: f.checkURL(),
	})
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
	f.link.Drain("This host is being maintained. Save your work; the session ends soon.")
	deadline := time.NewTimer(f.settings.drain)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(f.host.Sessions()) > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.log.Warn("sessions are ended by the drain", "left", len(f.host.Sessions()))
			return
		case <-hostCtx.Done():
			return
		}
	}
}
