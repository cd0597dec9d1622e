package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/cli"

	"github.com/wavry/fleet/gateway"
	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/web"
)

// gatewayCommands are `wavry gateway ...`.
func gatewayCommands(env *environment) map[string]cli.CommandFactory {
	command := func(c cli.Command) cli.CommandFactory { return func() (cli.Command, error) { return c, nil } }
	return map[string]cli.CommandFactory{
		"gateway":              command(&gatewayCommand{env}),
		"gateway backup":       command(&gatewayBackup{env}),
		"gateway restore":      command(&gatewayRestore{env}),
		"gateway invite":       command(&gatewayInvite{env}),
		"gateway user list":    command(&gatewayUserList{env}),
		"gateway user disable": command(&gatewayUserChange{env, "disable"}),
		"gateway user enable":  command(&gatewayUserChange{env, "enable"}),
		"gateway user role":    command(&gatewayUserChange{env, "role"}),
		"gateway user totp":    command(&gatewayUserChange{env, "totp"}),
	}
}

// gatewayFile is the configuration file of `wavry gateway`.
type gatewayFile struct {
	ID             string   `hcl:"id,optional" help:"name of this gateway, unique among gateways; empty: the machine's name"`
	BindAddr       string   `hcl:"bind_addr,optional" help:"TCP address for people"`
	OpsAddr        string   `hcl:"ops_addr,optional" help:"TCP address of /metrics, /healthz and /readyz; empty: none"`
	PublicURL      string   `hcl:"public_url,optional" help:"scheme://host[:port] as browsers see it; required outside loopback"`
	Origins        []string `hcl:"origins,optional" help:"further origins that are served"`
	TrustedProxies []string `hcl:"trusted_proxies,optional" help:"addresses or prefixes of proxies whose trusted_proxy_header is believed"`
	ProxyHeader    string   `hcl:"trusted_proxy_header,optional" help:"the header that trusted proxies set: x-forwarded-for or forwarded (RFC 7239)"`

	TLSCertFile   string   `hcl:"tls_cert_file,optional" help:"PEM certificate chain, read again when it changes"`
	TLSKeyFile    string   `hcl:"tls_key_file,optional" help:"PEM key of the certificate"`
	ACMEDomains   []string `hcl:"acme_domains,optional" help:"names to get certificates for by ACME TLS-ALPN-01; port 443 must lead here"`
	ACMEEmail     string   `hcl:"acme_email,optional" help:"address the ACME authority may write to"`
	ACMEDirectory string   `hcl:"acme_directory,optional" help:"directory URL of the ACME authority; empty: Let's Encrypt"`
	ACMEFolder    string   `hcl:"acme_folder,optional" help:"folder of the ACME account and certificates"`
	ACMERoots     string   `hcl:"acme_roots,optional" help:"PEM file trusted for a private ACME authority"`

	StoreDriver   string   `hcl:"store_driver,optional" help:"sqlite for one gateway, postgres for several"`
	StoreDSN      string   `hcl:"store_dsn_secret,optional" help:"file for sqlite, connection string for postgres"`
	KeyFile       string   `hcl:"key_file,optional" help:"file of the key that seals TOTP secrets; made when missing with sqlite"`
	Region        string   `hcl:"region,optional" help:"preferred region of hosts and relays"`
	ForceRelay    bool     `hcl:"force_relay,optional" help:"grant no direct paths: browsers may reach relays only"`
	OpenPools     []string `hcl:"open_pools,optional" help:"patterns of pools that every account may use"`
	MaxSessions   int      `hcl:"max_sessions,optional" help:"sessions one person may control at once; 0: no limit"`
	SessionGrace  string   `hcl:"session_grace,optional" help:"how long hosts keep a session without its viewer, as told to viewers"`
	LoginLifetime string   `hcl:"login_lifetime,optional" help:"when a login ends in any case"`
	LoginIdle     string   `hcl:"login_idle,optional" help:"when an unused login ends"`
	LinkLifetime  string   `hcl:"link_lifetime,optional" help:"how long one-time links work"`
	HashSlots     int      `hcl:"hash_slots,optional" help:"passwords hashed at once, 64 MiB each; 0: half the cores"`

	BackupFolder string `hcl:"backup_folder,optional" help:"folder of scheduled backups; empty: none"`
	BackupEvery  string `hcl:"backup_every,optional" help:"time between scheduled backups"`
	BackupKeep   int    `hcl:"backup_keep,optional" help:"backups kept"`

	OIDCIssuer         string   `hcl:"oidc_issuer,optional" help:"URL of the OpenID Connect provider; empty: none"`
	OIDCClientID       string   `hcl:"oidc_client_id,optional" help:"client id at the provider"`
	OIDCClientSecret   string   `hcl:"oidc_client_secret,optional" help:"client secret at the provider"`
	OIDCButton         string   `hcl:"oidc_button,optional" help:"text of the button on the sign-in page"`
	OIDCScopes         []string `hcl:"oidc_scopes,optional" help:"scopes beside openid; empty: profile and email"`
	OIDCRoleClaim      string   `hcl:"oidc_role_claim,optional" help:"claim that decides the role at each sign-in; empty: admins decide"`
	OIDCAdminValues    []string `hcl:"oidc_admin_values,optional" help:"values of the claim that make an admin"`
	OIDCOperatorValues []string `hcl:"oidc_operator_values,optional" help:"values of the claim that make an operator"`
	OIDCCreate         bool     `hcl:"oidc_create,optional" help:"make accounts for people who come for the first time"`

	Consul              bool     `hcl:"consul,optional" help:"register in Consul and find masters there"`
	ConsulAddr          string   `hcl:"consul_addr,optional" help:"address of the Consul agent; empty: CONSUL_HTTP_ADDR or 127.0.0.1:8500"`
	ConsulToken         string   `hcl:"consul_token_secret,optional" help:"Consul ACL token; empty: CONSUL_HTTP_TOKEN"`
	ConsulService       string   `hcl:"consul_service,optional" help:"name of this service in Consul"`
	ConsulTags          []string `hcl:"consul_tags,optional" help:"tags of this service in Consul"`
	ConsulAdvertiseAddr string   `hcl:"consul_advertise_addr,optional" help:"host:port where others reach bind_addr; required with consul"`
	ConsulAdvertiseOps  string   `hcl:"consul_advertise_ops,optional" help:"host:port where Consul reaches ops_addr; required with consul"`

	MasterAddrs     []string `hcl:"master_addrs,optional" help:"host:port of any masters"`
	MasterCAFile    string   `hcl:"master_ca_file,optional" help:"PEM authority of the fleet's services, by which masters are known; required for a fleet"`
	MasterCertFile  string   `hcl:"master_cert_file,optional" help:"PEM certificate of this gateway as a service"`
	MasterKeyFile   string   `hcl:"master_key_file,optional" help:"PEM key of that certificate"`
	MasterTokenFile string   `hcl:"master_token_file,optional" help:"file of the bearer token for the master, read for each request, such as a Nomad workload identity"`
}

func defaultGatewayFile() gatewayFile {
	d := gateway.DefaultConfig()
	return gatewayFile{
		BindAddr: d.BindAddr, OpsAddr: d.OpsAddr, ProxyHeader: string(d.TrustedProxyHeader), StoreDriver: string(d.Store.Driver), StoreDSN: d.Store.DSN, KeyFile: d.KeyFile,
		OpenPools: d.OpenPools, MaxSessions: d.MaxSessions, SessionGrace: d.Grace.String(), LoginLifetime: d.LoginLifetime.String(),
		LoginIdle: d.LoginIdle.String(), LinkLifetime: d.LinkLifetime.String(), BackupEvery: d.Backup.Every.String(), BackupKeep: d.Backup.Keep,
		ConsulService: gateway.DefaultService,
	}
}

// settings turns the file into the gateway's configuration and reports every problem at once. The client of the master is made,
// but nothing is opened.
func (f gatewayFile) settings(log *slog.Logger) (gateway.Config, error) {
	var problems []error
	cfg := gateway.DefaultConfig()
	cfg.ID, cfg.Version, cfg.Logger = f.ID, version, log
	if cfg.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			problems = append(problems, fmt.Errorf("id: %w", err))
		}
		cfg.ID = name
	}
	cfg.BindAddr, cfg.OpsAddr, cfg.PublicURL, cfg.Origins = f.BindAddr, f.OpsAddr, f.PublicURL, f.Origins
	cfg.TrustedProxyHeader = gateway.ProxyHeader(strings.ToLower(f.ProxyHeader))
	cfg.TrustedProxies = prefixes("trusted_proxies", f.TrustedProxies, &problems)
	cfg.TLS = gateway.TLS{CertFile: f.TLSCertFile, KeyFile: f.TLSKeyFile, ACMEDomains: f.ACMEDomains, ACMEEmail: f.ACMEEmail,
		ACMEDirectory: f.ACMEDirectory, ACMEFolder: f.ACMEFolder, ACMERoots: f.ACMERoots}
	cfg.Store.Driver, cfg.Store.DSN, cfg.KeyFile = store.Driver(f.StoreDriver), f.StoreDSN, f.KeyFile
	cfg.Region, cfg.ForceRelay, cfg.OpenPools, cfg.MaxSessions = f.Region, f.ForceRelay, f.OpenPools, f.MaxSessions
	cfg.Grace = duration("session_grace", f.SessionGrace, &problems)
	cfg.LoginLifetime = duration("login_lifetime", f.LoginLifetime, &problems)
	cfg.LoginIdle = duration("login_idle", f.LoginIdle, &problems)
	cfg.LinkLifetime = duration("link_lifetime", f.LinkLifetime, &problems)
	if f.HashSlots != 0 {
		cfg.HashSlots = f.HashSlots
	}
	cfg.Backup = gateway.Backup{Folder: f.BackupFolder, Every: duration("backup_every", f.BackupEvery, &problems), Keep: f.BackupKeep}
	cfg.OIDC = f.oidc()
	cfg.Web = web.Handler()
	var err error
	if cfg.Consul, err = f.consul(log); err != nil {
		problems = append(problems, err)
	}
	master, err := f.master(cfg.Consul)
	if err != nil {
		problems = append(problems, err)
	} else {
		cfg.Master = master
	}
	if err := cfg.Validate(); err != nil && master != nil {
		problems = append(problems, err)
	}
	return cfg, errors.Join(problems...)
}

func (f gatewayFile) oidc() *gateway.OIDC {
	if f.OIDCIssuer == "" {
		return nil
	}
	return &gateway.OIDC{Issuer: f.OIDCIssuer, ClientID: f.OIDCClientID, ClientSecret: credential.Secret(f.OIDCClientSecret), Button: f.OIDCButton,
		Scopes: f.OIDCScopes, RoleClaim: f.OIDCRoleClaim, AdminValues: f.OIDCAdminValues, OperatorValues: f.OIDCOperatorValues, Create: f.OIDCCreate}
}

// forgetGatewayAfter is how long Consul lists a gateway that died without saying so.
const forgetGatewayAfter = 10 * time.Minute

// consul is how the gateway registers itself; nil without Consul.
func (f gatewayFile) consul(log *slog.Logger) (*gateway.Consul, error) {
	if !f.Consul {
		return nil, nil
	}
	cat, err := consul.New(consul.Config{Address: f.ConsulAddr, Token: f.ConsulToken, DeregisterAfter: forgetGatewayAfter, Logger: log})
	if err != nil {
		return nil, err
	}
	return &gateway.Consul{Catalog: cat, Service: f.ConsulService, Tags: f.ConsulTags, AdvertiseAddr: f.ConsulAdvertiseAddr,
		AdvertiseOps: f.ConsulAdvertiseOps}, nil
}

// master is a client that finds masters by address or in Consul, and shows them a certificate or a token.
func (f gatewayFile) master(where *gateway.Consul) (*masterclient.Client, error) {
	access := masterAccess{
		addresses: f.MasterAddrs, tokenFile: f.MasterTokenFile,
		files: identity.Files{Authority: f.MasterCAFile, Certificate: f.MasterCertFile, Key: f.MasterKeyFile},
	}
	if where != nil {
		access.resolve = mastersIn(where.Catalog)
	}
	return access.client(nil)
}

// prefixes reads addresses and prefixes.
func prefixes(key string, values []string, problems *[]error) []netip.Prefix {
	var list []netip.Prefix
	for _, v := range values {
		if a, err := netip.ParseAddr(v); err == nil {
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(v)
		if err != nil {
			*problems = append(*problems, fmt.Errorf("%s = %q: must be an address or a prefix such as 10.0.0.0/8", key, v))
		}
		list = append(list, p.Masked())
	}
	return list
}

type gatewayCommand struct{ env *environment }

func (c *gatewayCommand) Synopsis() string { return "Serve people: sign-in, web app, signaling" }

func (c *gatewayCommand) Help() string {
	return strings.TrimSpace(`
Usage: wavry gateway [options]

  Signs people in, decides which desktops they may use, and tells their browsers how to reach them. At the first start it prints
  a one-time link for the first admin. -check-config checks and prints the configuration.
`) + "\n\n" + optionHelp("gateway", new(defaultGatewayFile()), checkConfigHelp)
}

func (c *gatewayCommand) Run(args []string) int { return c.env.report("gateway", c.run(args)) }

func (c *gatewayCommand) run(args []string) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	flags.SetOutput(c.env.stderr)
	check := flags.Bool("check-config", false, "check and print the configuration, then exit")
	file := defaultGatewayFile()
	if err := loadConfig("gateway", &file, flags, args); err != nil {
		return err
	}
	log, err := c.env.logger()
	if err != nil {
		return err
	}
	cfg, err := file.settings(log)
	if err != nil {
		return err
	}
	if *check {
		printConfig(c.env, &file)
		return nil
	}
	cfg.Announce = func(link string) {
		fmt.Fprintf(c.env.stdout, "\n  No admin yet. Open this link once and choose a name and a password:\n\n  %s\n\n", link)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	return g.Run(ctx)
}
