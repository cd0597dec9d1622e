package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/asroot"
	"github.com/wavry/fleet/hostruntime/fingerprint"
	"github.com/wavry/fleet/hostruntime/pluginhost"
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
	Slots          int      `hcl:"slots,optional" help:"sessions at once; a desktop has one, the test picture (capture-test) as many as you like"`
	Capture        []string `hcl:"capture,optional" help:"capture plugins in order of preference, PLUGIN or PLUGIN/METHOD; empty: every one that is installed"`
	Encode         []string `hcl:"encode,optional" help:"encoder plugins in order of preference, PLUGIN or PLUGIN/METHOD; empty: every one that is installed, hardware first"`
	PluginOptions  []string `hcl:"plugin_options,optional" help:"options of plugins as docs/plugins-*.md list them, PLUGIN/KEY=VALUE"`
	PluginDirs     []string `hcl:"plugin_dirs,optional" help:"directories searched for plugins before the one of this binary"`
	PluginUser     string   `hcl:"plugin_user,optional" help:"UID or UID:GID as whom capture plugins run; empty: this user, or when that is root the desktop's, or without one encode_user"`
	EncodeUser     string   `hcl:"encode_user,optional" help:"UID or UID:GID that runs the encoder plugins and owns nothing else; empty: 66000 when this is root, else this user"`
	EncodeGroups   []string `hcl:"encode_groups,optional" help:"groups of the encoder plugins, names or numbers; empty: those of the GPU's render nodes"`
	DesktopEnvFile string   `hcl:"desktop_env_file,optional" help:"file with the environment of the desktop, as wavry desktop run writes it; waited for; empty: our own environment"`
	KeepDesktop    bool     `hcl:"keep_desktop,optional" help:"leave home and programs as they are after a session, for a node that is one person's, instead of emptying the desktop before the next"`
	MaxKbps        int      `hcl:"max_kbps,optional" help:"highest bitrate per session in kbit/s"`
	MaxFPS         int      `hcl:"max_fps,optional" help:"highest frame rate"`
	EmbedCursor    bool     `hcl:"embed_cursor,optional" help:"draw the pointer into the picture even where it could travel beside it"`
	KeepaliveFPS   float64  `hcl:"keepalive_fps,optional" help:"frame rate while nothing changes"`
	Grace          string   `hcl:"grace,optional" help:"how long a session waits for its viewer to come back"`
	HTTPAddr       string   `hcl:"http_addr,optional" help:"TCP address of health, metrics and fingerprint, and of the page with -standalone"`
	TLSCertFile    string   `hcl:"tls_cert_file,optional" help:"certificate of the page; required when http_addr is not on loopback"`
	TLSKeyFile     string   `hcl:"tls_key_file,optional" help:"key of the page's certificate"`
	DrainTimeout   string   `hcl:"drain_timeout,optional" help:"how long running sessions may go on after SIGTERM"`

	MasterAddrs     []string `hcl:"master_addrs,optional" help:"host:port of any masters; empty: found in Consul"`
	MasterCAFile    string   `hcl:"master_ca_file,optional" help:"PEM authority of the fleet's services, by which masters are known; required for a fleet"`
	MasterCertFile  string   `hcl:"master_cert_file,optional" help:"PEM certificate of this host as a service"`
	MasterKeyFile   string   `hcl:"master_key_file,optional" help:"PEM key of that certificate"`
	MasterTokenFile string   `hcl:"master_token_file,optional" help:"file of the bearer token for the master, read for each request, such as a Nomad workload identity"`

	Consul            bool   `hcl:"consul,optional" help:"register in Consul and find masters there"`
	ConsulAddr        string `hcl:"consul_addr,optional" help:"address of the Consul agent; empty: CONSUL_HTTP_ADDR or 127.0.0.1:8500"`
	ConsulTokenSecret string `hcl:"consul_token_secret,optional" help:"Consul ACL token; empty: CONSUL_HTTP_TOKEN"`
	ConsulCheckURL    string `hcl:"consul_check_url,optional" help:"where Consul asks /readyz; empty: made from http_addr"`
	ConsulNode        string `hcl:"consul_node,optional" help:"name of this machine's Consul node, for distances to relays"`

	Nomad            bool   `hcl:"nomad,optional" help:"publish what works on this node as dynamic node metadata of Nomad"`
	NomadAddr        string `hcl:"nomad_addr,optional" help:"address of the node's Nomad agent, http://... or unix://...; empty: NOMAD_ADDR, or http://127.0.0.1:4646"`
	NomadTokenSecret string `hcl:"nomad_token_secret,optional" help:"Nomad token; empty: NOMAD_TOKEN, which a workload identity with env = true sets"`
}

func defaultHostConfig() hostConfig {
	return hostConfig{
		Pool: "default", Region: "default", StateDir: defaultStateDir(), BindAddr: "127.0.0.1:0", Slots: 1,
		MaxKbps: 20_000, MaxFPS: 60, KeepaliveFPS: 1, Grace: "30s", HTTPAddr: "127.0.0.1:0", DrainTimeout: "60s",
	}
}

// order is the configuration's order of plugins.
func (c *hostConfig) order() fingerprint.Order {
	return fingerprint.Order{Captures: c.Capture, Encoders: c.Encode}
}

// pluginDirs is where plugins are looked for.
func (c *hostConfig) pluginDirs() []string {
	dirs := slices.Clone(c.PluginDirs)
	for _, d := range pluginhost.DefaultDirs() {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
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

// hostSettings are the parsed values of a hostConfig.
type hostSettings struct {
	bind, http netip.AddrPort
	advertise  []netip.AddrPort
	grace      time.Duration
	drain      time.Duration
}

// settings parses and reports every problem at once.
func (c *hostConfig) settings() (hostSettings, error) {
	var problems []error
	s := hostSettings{grace: duration("grace", c.Grace, &problems)}
	s.drain = duration("drain_timeout", c.DrainTimeout, &problems)
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
	if err := asroot.CheckPath(c.StateDir); err != nil { // keys are written there
		problems = append(problems, fmt.Errorf("state_dir: %w", err))
	}
	problems = append(problems, c.addressProblems(s)...)
	if err := hostruntime.CheckSlots(c.Slots, c.oneDesktop()); err != nil {
		problems = append(problems, err)
	}
	if s.grace < 0 || s.drain < 0 {
		problems = append(problems, fmt.Errorf("grace = %q, drain_timeout = %q: must not be negative", c.Grace, c.DrainTimeout))
	}
	if _, err := pluginOptions(c.PluginOptions); err != nil {
		problems = append(problems, err)
	}
	if _, err := c.pluginUsers(nil); err != nil {
		problems = append(problems, err)
	}
	return s, errors.Join(problems...)
}

// addressProblems says which addresses no viewer could reach.
func (c *hostConfig) addressProblems(s hostSettings) []error {
	var problems []error
	if len(s.advertise) == 0 && s.bind.IsValid() && s.bind.Addr().IsUnspecified() {
		problems = append(problems, fmt.Errorf("advertise_addrs: required when bind_addr is %s", c.BindAddr))
	}
	for i, a := range s.advertise {
		if a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			problems = append(problems, fmt.Errorf("advertise_addrs = %q: must be an address at which viewers reach this host", c.AdvertiseAddrs[i]))
		}
	}
	return problems
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
Usage: wavry host [options]

  Captures and encodes the desktop of this session (WAYLAND_DISPLAY, XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS) for the fleet's
  masters, which it finds at -master-addrs or in Consul. With -standalone it needs no fleet: it serves the web page itself and prints
  a sign-in link. SIGTERM drains: no new sessions, viewers are told, and after drain_timeout the host leaves. SIGHUP reads the
  configuration again and applies capture and encode to new sessions; what else changed needs a restart, and the log says so.
`) + "\n\n" + optionHelp("host", new(defaultHostConfig()),
		[2]string{"standalone", "serve the page and grant sessions without a control plane"}, checkConfigHelp)
}

func (c *hostCommand) Run(args []string) int { return c.env.report("host", c.run(args)) }

// hostMode is what the command does with its configuration.
type hostMode struct{ alone, check bool }

// parse reads the configuration and checks it.
func (c *hostCommand) parse(args []string) (cfg hostConfig, mode hostMode, err error) {
	cfg = defaultHostConfig()
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	flags.BoolVar(&mode.alone, "standalone", false, "serve the page and grant sessions without a control plane")
	flags.BoolVar(&mode.check, "check-config", false, "check and print the configuration, then exit")
	if err = loadConfig("host", &cfg, flags, args); err == nil {
		_, err = cfg.settings()
	}
	return cfg, mode, err
}

func (c *hostCommand) run(args []string) error {
	cfg, mode, err := c.parse(args)
	if err != nil {
		return err
	}
	if mode.check {
		printConfig(c.env, &cfg)
		return nil
	}
	log, err := c.env.logger()
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	environ, err := desktopEnviron(ctx, cfg.DesktopEnvFile)
	if err != nil || ctx.Err() != nil {
		return err
	}
	users, err := cfg.pluginUsers(environ)
	if err != nil {
		return err
	}
	defer users.Close() // after the last plugin
	reportBox(log, users)
	if mode.alone {
		role, err := newStandalone(cfg, log, environ, users)
		if err != nil {
			return err
		}
		return serveStandalone(ctx, c.env, role)
	}
	role, err := newFleetHost(cfg, log, environ, users)
	if err != nil {
		return err
	}
	defer onHangup(func() {
		cfg, _, err := c.parse(args)
		role.reload(cfg, err)
	})()
	return role.Run(ctx)
}

// onHangup calls f at each SIGHUP until the result is called.
func onHangup(f func()) (stop func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() { // ends when hangups is closed
		defer close(done)
		for range hangups {
			f()
		}
	}()
	return func() { signal.Stop(hangups); close(hangups); <-done }
}

// serveStandalone runs the role and prints the sign-in link when the page is up.
func serveStandalone(ctx context.Context, env *environment, role *standaloneHost) error {
	return announced(ctx, env, role.Run, role.page.Ready(), func(context.Context) (string, error) { return role.page.SignInURL() })
}

// announced runs something that people sign in to, and prints a link for the first of them when it is ready.
func announced(ctx context.Context, env *environment, run func(context.Context) error, ready <-chan struct{}, link func(context.Context) (string, error)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	printed := make(chan error, 1)
	go func() { // ends with ctx, or when the link is printed
		select {
		case <-ready:
			url, err := link(ctx)
			if err == nil {
				_, err = fmt.Fprintf(env.stdout, "\n  Your desktop:  %s\n\n  The link signs one browser in, once.\n\n", url)
			}
			if err != nil {
				stop()
			}
			printed <- err
		case <-ctx.Done():
			printed <- nil
		}
	}()
	err := run(ctx)
	stop()
	return errors.Join(err, <-printed)
}

// desktopPoll is how often the desktop's environment is looked for.
const desktopPoll = 100 * time.Millisecond

// desktopEnviron waits for the file with the environment of a desktop that another process starts; nil without a file, and when ctx
// ends. The values stay the same when that process is started again in the same place.
func desktopEnviron(ctx context.Context, path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	tick := time.NewTicker(desktopPoll)
	defer tick.Stop()
	for {
		text, err := readDesktopFile(path)
		if err == nil {
			return parseEnviron(path, string(text))
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("desktop_env_file: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil
		}
	}
}
