package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/origin"
	"github.com/wavry/fleet/gateway/store"
)

// Gateway wires store, master and browsers together. It is made by New, opened by Run, once.
type Gateway struct {
	// Set once by New.
	cfg      Config
	origins  []origin.Origin // that are ours: PublicURL and Origins
	log      *slog.Logger
	metrics  *metrics
	registry *prometheus.Registry
	hasher   *credential.Hasher
	byAddr   [3]*limiter // see addressKeys
	byName   *limiter
	byOwner  *limiter
	sockets  *sockets
	bans     *banList
	hosts    *hostList
	oidc     *oidcClient // nil without a provider
	handler  http.Handler
	ended    chan endedSession
	resyncs  chan struct{}
	doubts   chan struct{}
	pools    chan poolChange
	ready    chan struct{} // closed when people can sign in
	started  atomic.Bool
	draining atomic.Bool
	oddProxy sync.Once // see clientAddr
	masterUp atomic.Bool

	// open is nil until Run has opened it and after Run.
	open atomic.Pointer[opened]

	mu   sync.Mutex // guards the following
	addr net.Addr   // of the listener for people
	ops  net.Addr
}

// opened is what Run opens.
type opened struct {
	store  *store.Store
	sealer *credential.Sealer
}

// New checks the configuration. Nothing is opened and nothing runs until Run.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gateway configuration: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	origins, err := cfg.normalise()
	if err != nil {
		return nil, fmt.Errorf("gateway configuration: %w", err)
	}
	g := &Gateway{
		cfg: cfg, origins: origins, log: cfg.Logger.With("component", "gateway"),
		metrics: newMetrics(cfg.Metrics), registry: cfg.Metrics,
		hasher: credential.NewHasher(cfg.Password, cfg.HashSlots),
		byName: newLimiter(nameBurst, nameEvery, limitedKeys), byOwner: newLimiter(ownBurst, ownEvery, limitedKeys),
		bans: &banList{}, hosts: &hostList{},
		ended: make(chan endedSession, endedQueue), resyncs: make(chan struct{}, 1), doubts: make(chan struct{}, 1), pools: make(chan poolChange, endedQueue),
		ready: make(chan struct{}),
	}
	for i := range g.byAddr {
		g.byAddr[i] = newLimiter(addressBurst<<i, addressEvery>>i, limitedKeys)
	}
	g.sockets = newSockets(g.metrics)
	if cfg.OIDC != nil {
		g.oidc = newOIDC(*cfg.OIDC, cfg.PublicURL)
	}
	g.handler = g.newHandler()
	return g, nil
}

// Handler serves people: the web app, the API, the WebSocket and the health pages. Until Run has opened the store it answers
// 503. With an empty Config.BindAddr the embedding process serves it.
func (g *Gateway) Handler() http.Handler { return g.handler }

// Ready is closed when people can sign in.
func (g *Gateway) Ready() <-chan struct{} { return g.ready }

// URL is the address for browsers without a slash at the end: PublicURL, or that of the listener once Ready.
func (g *Gateway) URL() string {
	if g.cfg.PublicURL != "" {
		return g.cfg.PublicURL
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.addr == nil {
		return ""
	}
	u := url.URL{Scheme: "http", Host: g.addr.String()}
	if g.cfg.TLS.enabled() {
		u.Scheme = "https"
	}
	return u.String()
}

// OpsAddr is the address of the listener for operators once Ready; empty without one.
func (g *Gateway) OpsAddr() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ops == nil {
		return ""
	}
	return g.ops.String()
}

// Run opens the store, listens, and serves until ctx ends; it returns when all its goroutines are gone, nil when ctx was the cause.
func (g *Gateway) Run(ctx context.Context) (err error) {
	if !g.started.CompareAndSwap(false, true) {
		return ErrRunTwice
	}
	o, err := g.openStore(ctx)
	if err != nil {
		return err
	}
	g.open.Store(o)
	// The store goes last: whatever ends before it may still write how it ended.
	defer func() {
		g.open.Store(nil)
		err = errors.Join(err, o.store.Close())
	}()
	servers, err := g.listen(ctx)
	if err != nil {
		return err
	}
	if err := g.welcome(ctx); err != nil {
		return errors.Join(err, servers.close())
	}

	work, ctx := errgroup.WithContext(ctx)
	servers.serve(ctx, work, g)
	for _, job := range []func(context.Context) error{
		g.watchMaster, g.noteEnds, g.keepRights, g.reconcileRegularly, g.sweepRegularly, g.probeRegularly, g.backUpRegularly, g.register,
	} {
		work.Go(func() error { return job(ctx) })
	}
	close(g.ready)
	g.log.Info("gateway state", "from", "starting", "to", "serving", "url", g.URL(), "store", o.store.Driver())
	err = work.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	g.log.Info("gateway state", "from", "serving", "to", "stopped", "cause", context.Cause(ctx))
	return err
}

func (g *Gateway) openStore(ctx context.Context) (*opened, error) {
	lite := g.cfg.Store.Driver == store.SQLite
	if lite {
		if err := os.MkdirAll(filepath.Dir(g.cfg.KeyFile), 0o700); err != nil {
			return nil, fmt.Errorf("make folder of the sealing key: %w", err)
		}
	}
	sealer, err := credential.LoadSealer(g.cfg.KeyFile, lite)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, g.cfg.Store)
	if err != nil {
		return nil, err
	}
	return &opened{s, sealer}, nil
}

// welcome makes the one-time link for the first admin as long as there is no admin.
func (g *Gateway) welcome(ctx context.Context) error {
	n, err := g.open.Load().store.Admins(ctx)
	if err != nil || n > 0 {
		return err
	}
	link, _, err := g.newLink(ctx, store.LinkFirstAdmin, "", "start")
	if err != nil {
		return fmt.Errorf("make the first admin's link: %w", err)
	}
	if g.cfg.Announce != nil {
		g.cfg.Announce(link)
	} else {
		g.log.Warn("no admin yet: open this one-time link within an hour and choose name and password; a restart makes another", "link", link)
	}
	return nil
}

// SignInLink returns a one-time link that signs in as the account of this name, which is made with role if there is none. It is
// for the embedding process, which is trusted; every call makes a new link.
func (g *Gateway) SignInLink(ctx context.Context, name string, role store.Role) (string, error) {
	o := g.open.Load()
	if o == nil {
		return "", ErrNotRunning
	}
	u, err := o.store.UserByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		u = store.User{ID: credential.NewID("u-"), Name: name, Role: role, CreatedAt: g.cfg.Now()}
		err = o.store.CreateUser(ctx, u, g.actOf("process", "", "user.create", name, string(role)))
	}
	if err != nil {
		return "", fmt.Errorf("sign-in link for %s: %w", name, err)
	}
	link, _, err := g.newLink(ctx, store.LinkSignIn, u.ID, "process")
	return link, err
}

// servers are the listeners of a running gateway.
type servers struct {
	list []listening
}

type listening struct {
	listener net.Listener
	server   *http.Server
	people   bool
}

func (g *Gateway) listen(ctx context.Context) (*servers, error) {
	s := &servers{}
	if g.cfg.BindAddr != "" {
		l, err := g.listenPeople(ctx)
		if err != nil {
			return nil, err
		}
		s.list = append(s.list, listening{l, g.newServer(g.handler), true})
	}
	if g.cfg.OpsAddr != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", g.cfg.OpsAddr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for operators: %w", err), s.close())
		}
		s.list = append(s.list, listening{l, g.newServer(g.opsHandler()), false})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range s.list {
		if l.people {
			g.addr = l.listener.Addr()
		} else {
			g.ops = l.listener.Addr()
		}
	}
	return s, nil
}

func (g *Gateway) newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // handshakes that strangers break off
	}
}

func (s *servers) close() error {
	var errs []error
	for _, l := range s.list {
		errs = append(errs, l.listener.Close())
	}
	return errors.Join(errs...)
}

// serve runs the servers in work until ctx ends. Shutdown order: readyz turns 503, listeners close and running requests finish,
// then the WebSockets are told to come back later; so a client that reconnects finds another gateway or the successor.
func (s *servers) serve(ctx context.Context, work *errgroup.Group, g *Gateway) {
	var serving sync.WaitGroup
	for _, l := range s.list {
		serving.Add(1)
		work.Go(func() error {
			defer serving.Done()
			if err := l.server.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.listener.Addr(), err)
			}
			return nil
		})
	}
	work.Go(func() error {
		<-ctx.Done()
		g.draining.Store(true)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		for _, l := range s.list {
			if err := l.server.Shutdown(grace); err != nil {
				g.log.Warn("requests were cut off at shutdown", "cause", err)
				_ = l.server.Close() // the listener is closed already; this ends the connections
			}
		}
		serving.Wait()
		g.sockets.closeAll()
		return nil
	})
}
