package main

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/cli"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	masteridentity "github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/relay"
	"github.com/wavry/fleet/relay/masterlink"
)

// relayCommands is `wavry relay`, the role.
func relayCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"relay": func() (cli.Command, error) { return &relayCommand{env: env}, nil },
	}
}

// relayConfig is `wavry relay`'s configuration file.
type relayConfig struct {
	ID            string  `hcl:"id,optional" help:"name of this relay, unique in the fleet; empty: the machine's name"`
	Region        string  `hcl:"region,optional" help:"region of this relay"`
	StateDir      string  `hcl:"state_dir,optional" help:"directory of the relay's key, the key set and the hand-over socket"`
	BindAddr      string  `hcl:"bind_addr,optional" help:"address of the UDP ports; :: serves IPv4 too"`
	AdvertiseAddr string  `hcl:"advertise_addr,optional" help:"address at which hosts and viewers reach the relay; required when bind_addr is :: or 0.0.0.0"`
	ControlPort   int     `hcl:"control_port,optional" help:"UDP port where hosts bind circuits"`
	MediaPort     int     `hcl:"first_media_port,optional" help:"first UDP port of the pool that viewers connect to"`
	MediaPorts    int     `hcl:"media_ports,optional" help:"size of that pool"`
	HTTPAddr      string  `hcl:"http_addr,optional" help:"TCP address of /ready, /healthz and /metrics"`
	MaxCircuits   int     `hcl:"max_circuits,optional" help:"most circuits at once"`
	DefaultMbps   float64 `hcl:"default_mbps,optional" help:"rate of a lease that names none, Mbit/s, both directions together"`
	MaxMbps       float64 `hcl:"max_mbps,optional" help:"highest rate of one lease, Mbit/s"`
	CapacityMbps  float64 `hcl:"capacity_mbps,optional" help:"what the machine may forward, Mbit/s; close to it the relay takes no new circuits; 0: no limit"`
	Workers       int     `hcl:"workers,optional" help:"data path goroutines; 0: one per core"`
	Verifiers     int     `hcl:"verifiers,optional" help:"goroutines that check leases; 0: half the cores"`
	DataPath      string  `hcl:"data_path,optional" help:"auto, fast or portable"`
	BusyPoll      string  `hcl:"busy_poll,optional" help:"how long a worker looks at its sockets without sleeping after the last packet it forwarded: less delay for up to a core per worker; 0: off"`
	DrainTimeout  string  `hcl:"drain_timeout,optional" help:"how long a drain waits for running circuits; keep it below the job's kill_timeout"`
	Handover      bool    `hcl:"handover,optional" help:"hand sockets and circuits over to a successor on this node"`

	PolicyFile      string   `hcl:"policy_file,optional" help:"JSON file with keys, revocations and bans, instead of a master"`
	MasterAddrs     []string `hcl:"master_addrs,optional" help:"addresses of master servers, HOST:PORT; empty: found in Consul"`
	MasterCAFile    string   `hcl:"master_ca_file,optional" help:"PEM authority of the fleet's services, by which masters are known; required without policy_file"`
	MasterCertFile  string   `hcl:"master_cert_file,optional" help:"this relay's certificate"`
	MasterKeyFile   string   `hcl:"master_key_file,optional" help:"key of this relay's certificate"`
	MasterTokenFile string   `hcl:"master_token_file,optional" help:"file of the bearer token for the master, read for each request, such as a Nomad workload identity"`

	Consul            bool   `hcl:"consul,optional" help:"register in Consul"`
	ConsulAddr        string `hcl:"consul_addr,optional" help:"address of the node's Consul agent; empty: CONSUL_HTTP_ADDR, or 127.0.0.1:8500"`
	ConsulTokenSecret string `hcl:"consul_token_secret,optional" help:"Consul token; empty: CONSUL_HTTP_TOKEN"`
	ConsulCheckURL    string `hcl:"consul_check_url,optional" help:"where the agent reaches /ready; empty: made from http_addr"`
}

func defaultRelayConfig() relayConfig {
	d := relay.DefaultConfig()
	return relayConfig{
		Region: "default", StateDir: defaultStateDir(), BindAddr: d.Bind.String(), ControlPort: int(d.ControlPort), MediaPort: int(d.FirstMediaPort),
		MediaPorts: d.MediaPorts, HTTPAddr: d.HTTPAddr, MaxCircuits: d.MaxCircuits, DefaultMbps: float64(d.DefaultRate) / 1e6,
		MaxMbps: float64(d.MaxRate) / 1e6, DataPath: d.DataPath, BusyPoll: d.BusyPoll.String(), DrainTimeout: d.DrainTimeout.String(), Handover: true, Consul: true,
	}
}

type relayCommand struct{ env *environment }

func (c *relayCommand) Synopsis() string { return "Run a relay" }

func (c *relayCommand) Help() string {
	return `Usage: wavry relay [options]

  Runs a relay: it forwards the encrypted packets between viewers and hosts that cannot
  reach each other, and cannot read them. It registers itself in Consul as wavry-relay
  and checks leases offline with the keys that the master publishes.

  Open two things in the firewall: the control port and the pool of media ports, UDP.

  SIGTERM drains: no new circuits, hosts are asked to move, and after drain_timeout the
  relay leaves. A second relay process with the same state_dir takes over sockets and
  circuits of the first, which then ends: sessions do not notice.

` + optionHelp("relay", new(defaultRelayConfig()), checkConfigHelp)
}

// Run implements cli.Command.
func (c *relayCommand) Run(args []string) int {
	if err := c.run(args); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(c.env.stderr, "wavry relay:", err)
		return 1
	}
	return 0
}

func (c *relayCommand) run(args []string) error {
	file := defaultRelayConfig()
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	check := flags.Bool("check-config", false, "check and print the effective configuration")
	if err := loadConfig("relay", &file, flags, args); err != nil {
		return err
	}
	if err := file.complete(); err != nil {
		return err
	}
	if *check {
		if _, err := file.settings(); err != nil {
			return err
		}
		printConfig(c.env, &file)
		return nil
	}
	log, err := c.env.logger()
	if err != nil {
		return err
	}
	r, err := newRelay(file, log)
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	if err := r.Run(ctx); !errors.Is(err, relay.ErrHandedOver) {
		return err
	}
	return nil
}

// complete fills in what depends on the machine.
func (c *relayConfig) complete() error {
	if c.ID != "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("id: empty, and the machine's name is unknown: %w", err)
	}
	c.ID = name
	return nil
}

// forgetRelayAfter is how long Consul lists a relay that died without saying so. Which relays are used is the master's decision.
const forgetRelayAfter = 30 * time.Minute

// newRelay wires a relay.
func newRelay(file relayConfig, log *slog.Logger) (*relay.Relay, error) {
	cfg, err := file.settings()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(file.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state_dir: %w", err)
	}
	if cfg.PrivateKey, err = relay.LoadKey(filepath.Join(file.StateDir, "relay.key")); err != nil {
		return nil, err
	}
	if file.Consul {
		cfg.Catalog, err = consul.New(consul.Config{Address: file.ConsulAddr, Token: file.ConsulTokenSecret, DeregisterAfter: forgetRelayAfter, Logger: log})
		if err != nil {
			return nil, err
		}
	}
	if cfg.Now, err = relayClock(); err != nil {
		return nil, err
	}
	if cfg.Control, err = file.control(cfg.Catalog, cfg.Now, log); err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	cfg.Logger, cfg.Registry, cfg.Version = log, registry, version
	return relay.New(cfg)
}

// settings turns the file into the relay's configuration, without keys and links, and reports every problem.
func (c relayConfig) settings() (relay.Config, error) {
	var problems []error
	addr := func(key, s string, must bool) (a netip.Addr) {
		if s == "" && !must {
			return a
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s = %q: must be an IP address", key, s))
		}
		return a
	}
	port := func(key string, n int) uint16 {
		if n < 0 || n > 65535 {
			problems = append(problems, fmt.Errorf("%s = %d: must be 0 to 65535", key, n))
		}
		return uint16(n)
	}
	cfg := relay.DefaultConfig()
	cfg.ID, cfg.Region, cfg.HTTPAddr, cfg.DataPath = c.ID, c.Region, c.HTTPAddr, c.DataPath
	cfg.Bind, cfg.Advertise = addr("bind_addr", c.BindAddr, true), addr("advertise_addr", c.AdvertiseAddr, false)
	cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts = port("control_port", c.ControlPort), port("first_media_port", c.MediaPort), c.MediaPorts
	cfg.MaxCircuits, cfg.Workers, cfg.Verifiers = c.MaxCircuits, c.Workers, c.Verifiers
	cfg.DefaultRate, cfg.MaxRate, cfg.CapacityBits = bits(c.DefaultMbps), bits(c.MaxMbps), bits(c.CapacityMbps)
	cfg.BusyPoll = duration("busy_poll", c.BusyPoll, &problems)
	cfg.DrainTimeout = duration("drain_timeout", c.DrainTimeout, &problems)
	if c.Handover {
		cfg.HandoverPath = filepath.Join(c.StateDir, "relay-handover.sock")
	}
	if c.Consul {
		cfg.CheckURL = c.checkURL(cfg.Advertise, &problems)
	}
	problems = append(problems, c.checkLinks()...)
	probe := cfg // what is checked here has no keys and links yet
	probe.PrivateKey, probe.Control = unusedKey, relay.FileControl{}
	return cfg, errors.Join(append(problems, probe.Validate())...)
}

// unusedKey stands for the key file, which a check of the configuration must not create.
var unusedKey = func() *ecdh.PrivateKey {
	k, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return k
}()

func bits(mbps float64) uint64 { return uint64(max(0, mbps) * 1e6) }

// checkURL is where the Consul agent of this node finds /ready.
func (c relayConfig) checkURL(advertise netip.Addr, problems *[]error) string {
	if c.ConsulCheckURL != "" {
		return c.ConsulCheckURL
	}
	host, port, err := net.SplitHostPort(c.HTTPAddr)
	if err != nil || port == "0" {
		*problems = append(*problems, fmt.Errorf("http_addr = %q: must be HOST:PORT with a fixed port, because Consul's check goes there", c.HTTPAddr))
		return ""
	}
	if a, err := netip.ParseAddr(host); host == "" || (err == nil && a.IsUnspecified()) {
		host = advertise.String()
	}
	return "http://" + net.JoinHostPort(host, port) + "/ready"
}

func (c relayConfig) checkLinks() (problems []error) {
	if c.PolicyFile != "" {
		return nil
	}
	if len(c.MasterAddrs) == 0 && !c.Consul {
		problems = append(problems, errors.New("master_addrs: empty, and without consul there is no way to find the master; or give policy_file"))
	}
	if pair := c.MasterCertFile != "" || c.MasterKeyFile != ""; pair && (c.MasterCAFile == "" || c.MasterCertFile == "" || c.MasterKeyFile == "") {
		problems = append(problems, errors.New("master_ca_file, master_cert_file, master_key_file: give all three, or the authority with master_token_file"))
	}
	return problems
}

// control is the relay's link: to a file, or to the master, which is found in cat too if there is one.
func (c relayConfig) control(cat catalog.Catalog, now func() time.Time, log *slog.Logger) (relay.Control, error) {
	if c.PolicyFile != "" {
		return relay.FileControl{Path: c.PolicyFile, Logger: log}, nil
	}
	access := masterAccess{
		addresses: c.MasterAddrs, tokenFile: c.MasterTokenFile,
		files: masteridentity.Files{Authority: c.MasterCAFile, Certificate: c.MasterCertFile, Key: c.MasterKeyFile},
	}
	if cat != nil {
		access.resolve = mastersIn(cat)
	}
	client, err := access.client(log)
	if err != nil {
		return nil, err
	}
	return masterlink.New(masterlink.Config{Client: client, KeyFile: filepath.Join(c.StateDir, "keyset.json"), Now: now, Logger: log})
}
