package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/cli"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/identity/nomadidentity"
	"github.com/wavry/fleet/master/seal"
)

func masterCommands(env *environment) map[string]cli.CommandFactory {
	return map[string]cli.CommandFactory{
		"master": func() (cli.Command, error) { return &masterCommand{env}, nil },
	}
}

// masterFile is the configuration of wavry master as it is written in files, environment and flags.
type masterFile struct {
	ID               string   `hcl:"id,optional" help:"name of this server in the cluster, for good"`
	Bind             string   `hcl:"bind,optional" help:"host:port for the API and Raft"`
	OpsAddr          string   `hcl:"ops_addr,optional" help:"host:port of /metrics, /readyz and /healthz in plain HTTP, for operators' machines; empty: nowhere"`
	Advertise        string   `hcl:"advertise,optional" help:"host:port at which others reach this server; empty: the bound address"`
	DataDir          string   `hcl:"data_dir,optional" help:"directory of the Raft log and snapshots"`
	BootstrapExpect  int      `hcl:"bootstrap_expect,optional" help:"number of servers that form the cluster: 1, 3 or 5"`
	Peers            []string `hcl:"peers,optional" help:"static servers as id=host:port, this one included; empty: found in Consul"`
	CAFile           string   `hcl:"ca_file,optional" help:"PEM file of the certificate authority"`
	CertFile         string   `hcl:"cert_file,optional" help:"PEM file of this server's certificate"`
	KeyFile          string   `hcl:"key_file,optional" help:"PEM file of this server's private key"`
	KEKFile          string   `hcl:"kek_file,optional" help:"file with the key-encryption key that opens the signing keys"`
	KEKSecret        string   `hcl:"kek_secret,optional" help:"the key-encryption key itself; better in the environment than in a file"`
	NomadJWKSURL     string   `hcl:"nomad_jwks_url,optional" help:"URL of Nomad's keys, ADDRESS/.well-known/jwks.json; services may then show their Nomad workload identity"`
	NomadAudience    string   `hcl:"nomad_audience,optional" help:"audience that workload identities must name"`
	NomadNamespace   string   `hcl:"nomad_namespace,optional" help:"Nomad namespace of the fleet's jobs"`
	NomadIdentities  []string `hcl:"nomad_identities,optional" help:"who a workload is, as JOB/TASK=ROLE/NAME; JOB may hold *, NAME may hold {job} and end in *"`
	HostRules        []string `hcl:"host_rules,optional" help:"what hosts may offer, as HOST=POOL[|POOL...]/SLOTS[/REGION]; what no rule allows waits for wavry host approve"`
	Consul           bool     `hcl:"consul,optional" help:"find servers and health of relays and hosts in Consul"`
	ConsulAddr       string   `hcl:"consul_addr,optional" help:"Consul agent; empty: CONSUL_HTTP_ADDR"`
	ConsulToken      string   `hcl:"consul_token_secret,optional" help:"Consul ACL token; empty: CONSUL_HTTP_TOKEN"`
	ConsulCheckURL   string   `hcl:"consul_check_url,optional" help:"URL Consul checks; empty: /readyz at the advertised address"`
	ElectionTimeout  string   `hcl:"election_timeout,optional" help:"heartbeat and election timeout of Raft"`
	SnapshotEntries  int      `hcl:"snapshot_entries,optional" help:"log entries between snapshots; 0: 8192"`
	LeaseLifetime    string   `hcl:"lease_lifetime,optional" help:"how long a lease is valid from issue or renewal"`
	RateLimitKbit    int      `hcl:"rate_limit_kbit,optional" help:"default rate of a lease in kbit/s, both directions; 0: the relay's default"`
	KeyRotation      string   `hcl:"key_rotation,optional" help:"age at which a signing key is replaced; 0s: only by hand"`
	KeyPublishAhead  string   `hcl:"key_publish_ahead,optional" help:"how long a key is published before it may sign"`
	ProbationShare   float64  `hcl:"relay_probation_share,optional" help:"part of new circuits for relays on probation, 0-1"`
	ProbationSuccess int      `hcl:"relay_probation_successes,optional" help:"circuits that must work before a relay is active"`
	ProbationTime    string   `hcl:"relay_probation_time,optional" help:"least time on probation"`
}

func defaultMasterFile() masterFile {
	d := master.DefaultConfig()
	name, err := os.Hostname()
	if err != nil {
		name = "" // then id must be configured, and validation says so
	}
	return masterFile{
		ID: name, Bind: d.Bind, OpsAddr: d.OpsAddr, BootstrapExpect: d.BootstrapExpect, ElectionTimeout: d.Election.String(), NomadAudience: nomadidentity.DefaultAudience,
		NomadNamespace: nomadidentity.DefaultNamespace, NomadIdentities: nomadidentity.DefaultMapping(), HostRules: hostrule.Default(), LeaseLifetime: d.LeaseLifetime.String(),
		KeyRotation: d.KeyRotation.String(), KeyPublishAhead: d.KeyPublishAhead.String(), ProbationShare: d.Relays.Share,
		ProbationSuccess: int(d.Relays.Successes), ProbationTime: d.Relays.MinProbation.String(),
	}
}

// settings turns the file into the component's configuration; every problem is reported at once.
func (f masterFile) settings(env *environment) (master.Config, error) {
	c := master.DefaultConfig()
	var problems []error
	c.ID, c.Bind, c.OpsAddr, c.Advertise, c.DataDir, c.BootstrapExpect = f.ID, f.Bind, f.OpsAddr, f.Advertise, f.DataDir, f.BootstrapExpect
	c.Version, c.CheckURL = version, f.ConsulCheckURL
	c.Election = duration("election_timeout", f.ElectionTimeout, &problems)
	c.LeaseLifetime = duration("lease_lifetime", f.LeaseLifetime, &problems)
	c.KeyRotation = duration("key_rotation", f.KeyRotation, &problems)
	c.KeyPublishAhead = duration("key_publish_ahead", f.KeyPublishAhead, &problems)
	c.Relays.Share, c.Relays.Successes = f.ProbationShare, uint64(max(0, f.ProbationSuccess))
	c.Relays.MinProbation = duration("relay_probation_time", f.ProbationTime, &problems)
	c.SnapshotThreshold, c.RateLimit = uint64(max(0, f.SnapshotEntries)), uint64(max(0, f.RateLimitKbit))*1000
	if f.DataDir == "" {
		problems = append(problems, errors.New("data_dir is empty: name a directory for the Raft log"))
	}
	if f.ProbationShare < 0 || f.ProbationShare > 1 {
		problems = append(problems, fmt.Errorf("relay_probation_share = %g: must be between 0 and 1", f.ProbationShare))
	}
	c.Peers = keyValues("peers", f.Peers, "id=host:port", &problems)
	f.identities(&c, &problems)
	rules, err := hostrule.Parse(f.HostRules)
	if err != nil {
		problems = append(problems, err)
	}
	c.HostRules = rules
	f.kek(&c, &problems)
	log, err := env.logger()
	if err != nil {
		problems = append(problems, err)
	}
	c.Logger = log
	if f.Consul {
		cat, err := consul.New(consul.Config{Address: f.ConsulAddr, Token: f.ConsulToken, Logger: log})
		if err != nil {
			problems = append(problems, err)
		} else {
			c.Catalog = catalog.Catalog(cat)
		}
	}
	if err := c.Validate(); err != nil {
		problems = append(problems, err)
	}
	return c, errors.Join(problems...)
}

// identities loads the certificate and whose Nomad workload identities hold.
func (f masterFile) identities(c *master.Config, problems *[]error) {
	files := identity.Files{Authority: f.CAFile, Certificate: f.CertFile, Key: f.KeyFile}
	if !files.Empty() {
		source, err := files.Load()
		if err != nil {
			*problems = append(*problems, fmt.Errorf("ca_file, cert_file, key_file: %w", err))
		}
		c.Identity = source
	}
	if f.NomadJWKSURL != "" {
		workloads, err := nomadidentity.New(nomadidentity.Config{JWKSURL: f.NomadJWKSURL, Audience: f.NomadAudience, Namespace: f.NomadNamespace, Mapping: f.NomadIdentities})
		if err != nil {
			*problems = append(*problems, err)
		} else {
			c.Authenticator = workloads
		}
	}
}

func (f masterFile) kek(c *master.Config, problems *[]error) {
	var err error
	switch {
	case f.KEKFile != "" && f.KEKSecret != "":
		err = errors.New("kek_file and kek_secret exclude each other")
	case f.KEKFile != "":
		c.KEK, err = seal.Load(f.KEKFile)
	case f.KEKSecret != "":
		c.KEK, err = seal.Parse(f.KEKSecret)
	default:
		err = errors.New("kek_file and kek_secret are empty: leases cannot be signed; make a key with \"openssl rand -hex 32\"")
	}
	if err != nil {
		*problems = append(*problems, err)
	}
}

// keyValues reads a list of key=value.
func keyValues(key string, list []string, form string, problems *[]error) map[string]string {
	values := map[string]string{}
	for _, item := range list {
		k, v, ok := strings.Cut(item, "=")
		if !ok || k == "" || v == "" {
			*problems = append(*problems, fmt.Errorf("%s: an entry must be %s", key, form))
			continue
		}
		values[k] = v
	}
	return values
}

type masterCommand struct{ env *environment }

func (c *masterCommand) Synopsis() string { return "Run a server of the control plane" }

func (c *masterCommand) Help() string {
	return strings.TrimSpace(`
Usage: wavry master [options]

  Runs one of 1, 3 or 5 servers that agree through Raft on hosts, relays, sessions, leases and signing keys. docs/master.md is the
  operator's page. -check-config checks and prints the configuration.
`) + "\n\n" + optionHelp("master", new(defaultMasterFile()), checkConfigHelp)
}

func (c *masterCommand) Run(args []string) int { return c.env.report("master", c.run(args)) }

func (c *masterCommand) run(args []string) error {
	flags := flag.NewFlagSet("master", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	check := flags.Bool("check-config", false, "check and print the configuration, then exit")
	file := defaultMasterFile()
	if err := loadConfig("master", &file, flags, args); err != nil {
		return err
	}
	cfg, err := file.settings(c.env)
	if err != nil {
		return err
	}
	if *check {
		printConfig(c.env, &file)
		return nil
	}
	cfg.Registry = prometheus.NewRegistry()
	cfg.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m, err := master.New(cfg)
	if err != nil {
		return err
	}
	debug.SetGCPercent(master.GCPercent)
	debug.SetMemoryLimit(master.MemoryLimit)
	ctx, stop := signalContext()
	defer stop()
	return m.Run(ctx)
}
