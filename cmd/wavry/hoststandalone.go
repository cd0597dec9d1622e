package main

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/identity"
	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/standalone"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/web"
)

// standaloneHost is a host with its own page, wired but not started.
type standaloneHost struct {
	host    *hostruntime.Host
	page    *standalone.Server
	desktop *hostDesktop // nil: each session has a picture of its own
}

// Run serves until ctx ends or one of the two fails. The page ends first, so that nobody is granted a session that is about to end.
func (r *standaloneHost) Run(ctx context.Context) error {
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHost()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g := new(errgroup.Group)
	desktopCtx, stopDesktop := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDesktop()
	g.Go(func() error { defer stop(); defer stopDesktop(); return r.host.Run(hostCtx) })
	g.Go(func() error { r.desktop.run(desktopCtx); return nil })
	g.Go(func() error {
		defer stopHost()
		select {
		case <-r.host.Ready():
			return r.page.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

// newStandalone wires a host that serves its own page. environ is what the plugins see of the desktop, nil: ours. users says
// as whom they run.
func newStandalone(cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users) (*standaloneHost, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	signingKey, err := identity.Load(filepath.Join(cfg.StateDir, "standalone-signing.pem"))
	if err != nil {
		return nil, err
	}
	public := signingKey.Public().(ed25519.PublicKey)
	signer, err := lease.NewSigner(identity.KeyID(public), signingKey)
	if err != nil {
		return nil, err
	}
	keys, err := lease.NewKeySet(lease.Key{ID: signer.KeyID(), Public: public})
	if err != nil {
		return nil, err
	}
	plugins, err := findPlugins(cfg)
	if err != nil {
		return nil, err
	}
	role := &standaloneHost{desktop: newHostDesktop(cfg, environ, log)}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	hostCfg, err := hostRuntimeConfig(cfg, settings, log, registry, role.desktop)
	if err != nil {
		return nil, err
	}
	hostCfg.Verify, hostCfg.Observer = keys.VerifyViewer, pageObserver{role}
	newSource := sources(cfg, log, environ, users, hostCfg.Registry)
	hostCfg.NewSource = func(sessionID string) (session.Source, error) { return newSource(sessionID, plugins) }
	if role.host, err = hostruntime.New(hostCfg); err != nil {
		return nil, err
	}
	role.page, err = standalone.New(standalone.Config{
		Bind: settings.http, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, Host: role.host, HostID: cfg.ID,
		HostIdentity: role.host.Identity(), Signer: signer, Slots: cfg.Slots, Grace: settings.grace, Web: withOps(web.Handler(), registry), Logger: log,
		Desktop: func() signalapi.Desktop {
			d := signalapi.Desktop{Pool: cfg.Pool, Title: cfg.ID}
			if why := role.desktop.overdue(); why != nil {
				d.Reason = why.Error()
			}
			return d
		},
	})
	return role, err
}

// withOps adds what operators and supervisors ask. The page is up only while the host takes sessions, so it is always ready.
func withOps(page http.Handler, registry *prometheus.Registry) http.Handler {
	ops := hostruntime.Ops(func() error { return nil }, func() any { return nil }, registry)
	mux := http.NewServeMux()
	mux.Handle("/", page)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		mux.Handle("GET "+path, ops)
	}
	return mux
}

// hostRuntimeConfig is what every host has, without Verify, Observer and NewSource.
func hostRuntimeConfig(cfg hostConfig, s hostSettings, log *slog.Logger, registry *prometheus.Registry, desktop *hostDesktop) (hostruntime.Config, error) {
	key, err := identity.Load(filepath.Join(cfg.StateDir, "host-identity.pem"))
	if err != nil {
		return hostruntime.Config{}, err
	}
	runtime := hostruntime.Config{
		ID: cfg.ID, Identity: key, Bind: s.bind, Advertise: s.advertise, Slots: cfg.Slots,
		Grace: s.grace, MaxBitrate: cfg.MaxKbps * 1000, MaxFPS: float64(cfg.MaxFPS), Logger: log, Registry: registry,
	}
	if desktop != nil {
		runtime.Desktop = desktop
	}
	return runtime, nil
}

// sources returns what makes the picture source of a session from the plugins to try.
func sources(cfg hostConfig, log *slog.Logger, environ []string, users *pluginhost.Users, registry prometheus.Registerer) func(string, plugins) (session.Source, error) {
	metrics := pipeline.NewMetrics(registry)
	return func(sessionID string, p plugins) (session.Source, error) {
		options, err := pluginOptions(cfg.PluginOptions)
		if err != nil {
			return nil, err
		}
		return pipeline.New(pipeline.Config{
			Captures: withOptions(p.captures, options), Encoders: withOptions(p.encoders, options), Users: users, Env: environ,
			FPS: float64(cfg.MaxFPS), KeepaliveFPS: cfg.KeepaliveFPS, EmbedCursor: cfg.EmbedCursor,
			Display: cfg.ID, StateDir: cfg.StateDir, Logger: log.With("session_id", sessionID), Metrics: metrics,
		})
	}
}

// pageObserver is the page, which exists only after the host it observes.
type pageObserver struct{ role *standaloneHost }

func (o pageObserver) ViewerJoined(lease.ViewerClaims, bool)               {}
func (o pageObserver) ViewerShown(lease.ViewerClaims, bool, time.Duration) {}
func (o pageObserver) ViewerLeft(lease.ViewerClaims)                       {}
func (o pageObserver) SessionEnded(id string, why *session.EndedError) {
	o.role.page.SessionEnded(id, why)
}
