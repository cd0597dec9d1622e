package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/cli"
	"github.com/prometheus/client_golang/prometheus"
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

// hostCommands are `wavry host ...`.
func hostCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"host": func() (cli.Command, error) { return &hostCommand{env: env}, nil },
	}
}

// hostConfig is `wavry host`'s configuration file.
type hostConfig struct {
	ID             string   `hcl:"id,optional" help:"name of this host, unique in the fleet; empty: the machine's name"`
	Pool           string   `hcl:"pool,optional" help:"pool of equal hosts this one belongs to"`
	Region         string   `hcl:"region,optional" help:"region of this host"`
	StateDir       string   `hcl:"state_dir,optional" help:"directory of keys and restore tokens"`
	BindAddr       string   `hcl:"bind_addr,optional" help:"UDP address for viewers"`
	AdvertiseAddrs []string `hcl:"advertise_addrs,optional" help:"addresses at which viewers reach this host, ADDRESS or ADDRESS:PORT; required when bind_addr is 0.0.0.0"`
	Slots          int      `hcl:"slots,optional" help:"sessions at once"`
	Capture        []string `hcl:"capture,optional" help:"capture plugins in order of preference, PLUGIN or PLUGIN/METHOD; empty: every one that is installed"`
	Encode         []string `hcl:"encode,optional" help:"encoder plugins in order of preference, PLUGIN or PLUGIN/METHOD; empty: every one that is installed, hardware first"`
	PluginDirs     []string `hcl:"plugin_dirs,optional" help:"directories searched for plugins before the one of this binary"`
	PluginUser     string   `hcl:"plugin_user,optional" help:"UID or UID:GID that runs the plugins; empty: this user"`
	MaxKbps        int      `hcl:"max_kbps,optional" help:"highest bitrate per session in kbit/s"`
	MaxFPS         int      `hcl:"max_fps,optional" help:"highest frame rate"`
	EmbedCursor    bool     `hcl:"embed_cursor,optional" help:"draw the pointer into the picture even where it could travel beside it"`
	KeepaliveFPS   float64  `hcl:"keepalive_fps,optional" help:"frame rate while nothing changes"`
	Grace          string   `hcl:"grace,optional" help:"how long a session waits for its viewer to come back"`
	HTTPAddr       string   `hcl:"http_addr,optional" help:"TCP address of health, metrics and fingerprint, and of the page with -standalone"`
	TLSCertFile    string   `hcl:"tls_cert_file,optional" help:"certificate of the page; required when http_addr is not on loopback"`
	TLSKeyFile     string   `hcl:"tls_key_file,optional" help:"key of the page's certificate"`
}

func defaultHostConfig() hostConfig {
	return hostConfig{
		Pool: "default", Region: "default", StateDir: defaultStateDir(), BindAddr: "127.0.0.1:0", Slots: 1,
		MaxKbps: 20_000, MaxFPS: 60, KeepaliveFPS: 1, Grace: "30s", HTTPAddr: "127.0.0.1:0",
	}
}

// defaultStateDir is where state lives for a person; jobs set their own.
func defaultStateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "wavry")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "wavry")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("wavry-%d", os.Getuid()))
}

// hostRole is a host and, in standalone mode, its page, wired but not started.
type hostRole struct {
	host *hostruntime.Host
	page *standalone.Server // nil: not standalone
}

// Run serves until ctx ends. The page ends first, so that nobody is granted a session that is about to end.
func (r *hostRole) Run(ctx context.Context) error {
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHost()
	g := new(errgroup.Group)
	g.Go(func() error { return r.host.Run(hostCtx) })
	if r.page == nil {
		context.AfterFunc(ctx, stopHost)
		return g.Wait()
	}
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

// newStandalone wires a host that serves its own page. environ is what the plugins see of the desktop, nil: ours. owner is who
// runs them, nil: us.
func newStandalone(cfg hostConfig, log *slog.Logger, environ []string, owner *pluginhost.Credential) (*hostRole, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	identityKey, err := identity.Load(filepath.Join(cfg.StateDir, "host-identity.pem"))
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
	registry := prometheus.NewRegistry()
	pipelineMetrics := pipeline.NewMetrics(registry)
	role := &hostRole{}
	role.host, err = hostruntime.New(hostruntime.Config{
		ID: cfg.ID, Identity: identityKey, Bind: settings.bind, Advertise: settings.advertise, Slots: cfg.Slots,
		Verify: keys.Verify, Grace: settings.grace, MaxBitrate: cfg.MaxKbps * 1000, MaxFPS: float64(cfg.MaxFPS),
		NewSource: func(sessionID string) (session.Source, error) {
			return pipeline.New(pipeline.Config{
				Captures: plugins.captures, Encoders: plugins.encoders, Owner: owner, Env: environ,
				FPS: float64(cfg.MaxFPS), KeepaliveFPS: cfg.KeepaliveFPS, EmbedCursor: cfg.EmbedCursor,
				Display: cfg.ID, StateDir: cfg.StateDir,
				Logger: log.With("session_id", sessionID), Metrics: pipelineMetrics,
			})
		},
		Observer: pageObserver{role}, Logger: log, Registry: registry,
	})
	if err != nil {
		return nil, err
	}
	role.page, err = standalone.New(standalone.Config{
		Bind: settings.http, CertFile: cfg.TLSCertFile, KeyFile: cfg.TLSKeyFile, Host: role.host, HostID: cfg.ID,
		HostIdentity: role.host.Identity(), Signer: signer, Slots: cfg.Slots, Grace: settings.grace, Web: web.Handler(), Logger: log,
		Desktop: func() signalapi.Desktop { return signalapi.Desktop{Pool: cfg.Pool, Title: cfg.ID} },
	})
	return role, err
}

// pageObserver is the page, which exists only after the host it observes.
type pageObserver struct{ role *hostRole }

func (o pageObserver) ViewerJoined(lease.Claims, bool)               {}
func (o pageObserver) ViewerShown(lease.Claims, bool, time.Duration) {}
func (o pageObserver) ViewerLeft(lease.Claims)                       {}
func (o pageObserver) SessionEnded(id string, why *session.EndedError) {
	o.role.page.SessionEnded(id, why)
}

// hostSettings are the parsed values of a hostConfig.
type hostSettings struct {
	bind, http netip.AddrPort
	advertise  []netip.AddrPort
	grace      time.Duration
}

// settings parses and reports every problem at once.
func (c *hostConfig) settings() (hostSettings, error) {
	var problems []error
	s := hostSettings{grace: duration("grace", c.Grace, &problems)}
	s.bind = addrPort("bind_addr", c.BindAddr, &problems)
	s.http = addrPort("http_addr", c.HTTPAddr, &problems)
	for _, a := range c.AdvertiseAddrs {
		s.advertise = append(s.advertise, advertised(a, &problems))
	}
	if c.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			problems = append(problems, fmt.Errorf("id: %w", err))
		}
		c.ID = name
	}
	if c.MaxKbps < 300 || c.MaxKbps > 1_000_000 {
		problems = append(problems, fmt.Errorf("max_kbps = %d: must be 300 to 1000000", c.MaxKbps))
	}
	if c.MaxFPS < 1 || c.MaxFPS > 240 {
		problems = append(problems, fmt.Errorf("max_fps = %d: must be 1 to 240", c.MaxFPS))
	}
	if c.KeepaliveFPS <= 0 || c.KeepaliveFPS > float64(c.MaxFPS) {
		problems = append(problems, fmt.Errorf("keepalive_fps = %g: must be above 0 and at most max_fps", c.KeepaliveFPS))
	}
	return s, errors.Join(problems...)
}

func addrPort(key, value string, problems *[]error) netip.AddrPort {
	a, err := netip.ParseAddrPort(value)
	if err != nil {
		*problems = append(*problems, fmt.Errorf("%s = %q: must be an IP address and port such as 127.0.0.1:4433", key, value))
	}
	return a
}

// advertised takes an address with or without a port; without, the bound port is used.
func advertised(value string, problems *[]error) netip.AddrPort {
	if a, err := netip.ParseAddr(value); err == nil {
		return netip.AddrPortFrom(a, 0)
	}
	return addrPort("advertise_addrs", value, problems)
}

type hostCommand struct{ env *environment }

func (c *hostCommand) Synopsis() string { return "Serve a desktop of this machine" }

func (c *hostCommand) Help() string {
	return strings.TrimSpace(`
Usage: wavry host -standalone [options]

  Captures and encodes the desktop of this session (WAYLAND_DISPLAY, XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS) and serves it to
  browsers. With -standalone it serves the web page itself and prints a sign-in link. -help lists the options.
`)
}

func (c *hostCommand) Run(args []string) int { return c.env.report("host", c.run(args)) }

func (c *hostCommand) run(args []string) error {
	cfg := defaultHostConfig()
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	alone := flags.Bool("standalone", false, "serve the page and grant sessions without a control plane")
	check := flags.Bool("check-config", false, "check and print the configuration, then exit")
	if err := loadConfig("host", &cfg, flags, args); err != nil {
		return err
	}
	if _, err := cfg.settings(); err != nil {
		return err
	}
	if *check {
		printConfig(c.env, &cfg)
		return nil
	}
	if !*alone {
		return errors.New("only -standalone is available")
	}
	log, err := c.env.logger()
	if err != nil {
		return err
	}
	owner, err := parsePluginUser(cfg.PluginUser)
	if err != nil {
		return err
	}
	role, err := newStandalone(cfg, log, nil, owner)
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	return serveStandalone(ctx, c.env, role)
}

// serveStandalone runs the role and prints the sign-in link when the page is up.
func serveStandalone(ctx context.Context, env *environment, role *hostRole) error {
	announced := make(chan error, 1)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	go func() { // ends with ctx, or when the page is up
		select {
		case <-role.page.Ready():
			link, err := role.page.SignInURL()
			if err == nil {
				_, err = fmt.Fprintf(env.stdout, "\n  Your desktop:  %s\n\n  The link signs one browser in, once.\n\n", link)
			}
			if err != nil {
				fail(err)
			}
			announced <- err
		case <-ctx.Done():
			announced <- nil
		}
	}()
	err := role.Run(ctx)
	fail(nil)
	return errors.Join(err, <-announced)
}

func parsePluginUser(s string) (*pluginhost.Credential, error) {
	user, err := parseDesktopUser(s)
	if err != nil || user == nil {
		return nil, err
	}
	return &pluginhost.Credential{UID: user.UID, GID: user.GID}, nil
}
