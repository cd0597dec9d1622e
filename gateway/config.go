package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/origin"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// Master is what the gateway needs of the master; *masterclient.Client is one. Errors of its services are read with
// masterapiconnect.FromError.
type Master interface {
	Sessions() masterapiconnect.SessionServiceClient
	Leases() masterapiconnect.LeaseServiceClient
	Fleet() masterapiconnect.FleetServiceClient
	Keys() masterapiconnect.KeyServiceClient
	// WatchSessions calls event for each event until ctx ends; each connection begins with a SYNC event.
	WatchSessions(ctx context.Context, gatewayID string, event func(*masterapi.SessionEvent)) error
}

// Config is everything a gateway is told. DefaultConfig returns a complete one but for Master.
type Config struct {
	// ID names this gateway to master, Consul and logs.
	ID string
	// Version is shown on the sign-in page and in Consul.
	Version string

	// BindAddr is the address of the listener for people, host:port. Port 0 takes any free one. Empty: no listener; the
	// embedding process serves Handler.
	BindAddr string
	// OpsAddr serves /metrics, /healthz and /readyz without sign-in. Empty: not served (the health pages are also on BindAddr).
	OpsAddr string
	// PublicURL is how browsers reach this gateway, scheme://host[:port]. It is in links, it is the only Origin that may change
	// anything, and it is where OIDC returns to. Empty is allowed on loopback only.
	PublicURL string
	// Origins are further origins that are served, for instance an old name.
	Origins []string
	// TrustedProxies may say in TrustedProxyHeader which address a request comes from. Empty: the connection's address counts.
	TrustedProxies     []netip.Prefix
	TrustedProxyHeader ProxyHeader
	TLS                TLS

	Store store.Config
	// KeyFile holds the key that seals TOTP secrets. On SQLite it is made when missing; gateways on PostgreSQL share one.
	KeyFile string

	// Region is the preferred region of hosts and relays for people who come to this gateway; empty: any.
	Region string
	// ForceRelay grants no direct candidates: browsers may reach relays only.
	ForceRelay bool
	// OpenPools are patterns (path.Match) of pools that every account may use; stored rules add to it, and deny.
	OpenPools []string
	// MaxSessions is how many sessions one person may control at once; 0: no limit.
	MaxSessions int
	// Grace is how long hosts keep a session whose connection is lost, as told to viewers.
	Grace time.Duration

	// LoginLifetime ends a login in any case, LoginIdle when it has not been used.
	LoginLifetime time.Duration
	LoginIdle     time.Duration
	// LinkLifetime is how long one-time links work.
	LinkLifetime time.Duration
	// Password are the costs of hashing; HashSlots how many run at once (memory: slots x Password.Memory).
	Password  credential.Params
	HashSlots int

	Backup Backup
	// OIDC is nil without an identity provider.
	OIDC *OIDC
	// Consul is nil without Consul.
	Consul *Consul

	Master Master
	// Web serves the web app (web.Handler()); nil serves no pages.
	Web http.Handler
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger may be nil: nothing is logged.
	Logger *slog.Logger
	// Metrics may be nil: a registry of its own.
	Metrics *prometheus.Registry
	// Announce gets the first admin's one-time link at the first start; nil: it is logged at Warn. The link is a secret.
	Announce func(link string)
}

// TLS says how the listener for people is encrypted. The zero value is plain HTTP, which is refused outside loopback.
type TLS struct {
	// CertFile and KeyFile are PEM; they are read again when they change.
	CertFile, KeyFile string
	// ACMEDomains asks an ACME authority for certificates of these names by TLS-ALPN-01: port 443 must lead to BindAddr.
	ACMEDomains []string
	ACMEEmail   string
	// ACMEDirectory is the authority; empty: Let's Encrypt.
	ACMEDirectory string
	// ACMEFolder keeps account and certificates.
	ACMEFolder string
	// ACMERoots is a PEM file that is trusted for the authority itself, for a private one; empty: the system's.
	ACMERoots string

	recheck time.Duration // how often certificates are looked at for renewal; 0: certmagic's ten minutes. For tests.
}

func (t TLS) enabled() bool { return t.CertFile != "" || len(t.ACMEDomains) > 0 }

// Backup says how the store is backed up on a schedule.
type Backup struct {
	// Folder gets the backups; empty: none are made.
	Folder string
	Every  time.Duration
	// Keep is how many are kept.
	Keep int
}

// OIDC is an identity provider (OpenID Connect, authorization code with PKCE).
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret credential.Secret
	// Button is the text on the sign-in page.
	Button string
	Scopes []string
	// RoleClaim names a claim (text or list of texts); AdminValues and OperatorValues give those roles. Empty: roles are
	// changed by admins only. With it, the claim decides at every sign-in.
	RoleClaim                   string
	AdminValues, OperatorValues []string
	// Create makes accounts for people who come for the first time; without it only a matching account (by verified e-mail
	// address as its name) is bound.
	Create bool
}

// Consul says how the gateway registers itself.
type Consul struct {
	Catalog catalog.Catalog
	// Service is the name; Tags go with it.
	Service string
	Tags    []string
	// AdvertiseAddr is host:port where others reach BindAddr; AdvertiseOps the same for OpsAddr, which Consul checks.
	AdvertiseAddr string
	AdvertiseOps  string
}

// DefaultConfig returns a gateway on loopback with SQLite in ./wavry-gateway.
func DefaultConfig() Config {
	return Config{
		ID: "gateway", Version: "dev",
		BindAddr: "127.0.0.1:7500", OpsAddr: "127.0.0.1:7501", TrustedProxyHeader: XForwardedFor,
		Store: store.Config{Driver: store.SQLite, DSN: "wavry-gateway/gateway.sqlite"}, KeyFile: "wavry-gateway/seal.key",
		OpenPools: []string{"*"}, MaxSessions: 4, Grace: 30 * time.Second,
		LoginLifetime: 30 * 24 * time.Hour, LoginIdle: 7 * 24 * time.Hour, LinkLifetime: 72 * time.Hour,
		Password: credential.DefaultParams(), HashSlots: max(runtime.NumCPU()/2, 1),
		Backup: Backup{Every: 24 * time.Hour, Keep: 14},
	}
}

// DefaultService is the gateway's name in Consul.
const DefaultService = "wavry-gateway"

// Validate returns every problem, joined.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if masterapi.CheckID("id", c.ID) != nil {
		bad("id = %q: must be 1 to 64 printable characters without spaces and slashes", c.ID)
	}
	if c.Master == nil {
		bad("master: a client of the master is needed")
	}
	c.validateListeners(bad)
	c.validateTLS(bad)
	c.validateStore(bad)
	c.validatePeople(bad)
	c.validateOIDC(bad)
	if c.Consul != nil {
		if c.Consul.Service == "" {
			bad("consul_service = \"\": must not be empty")
		}
		validateAdvertise("consul_advertise_addr", c.Consul.AdvertiseAddr, bad)
		validateAdvertise("consul_advertise_ops", c.Consul.AdvertiseOps, bad)
	}
	return errors.Join(problems...)
}

type reporter func(format string, args ...any)

func (c Config) validateListeners(bad reporter) {
	loopback := true
	if c.BindAddr != "" {
		host, _, err := net.SplitHostPort(c.BindAddr)
		if err != nil {
			bad("bind_addr = %q: must be host:port", c.BindAddr)
		}
		loopback = isLoopback(host)
		if err == nil && !loopback && !c.TLS.enabled() {
			bad("bind_addr = %q: plain HTTP is served on loopback only, because sign-in and browsers' WebTransport need https; set tls_cert_file and tls_key_file or acme_domains, or bind to 127.0.0.1", c.BindAddr)
		}
		if err == nil && !loopback && c.PublicURL == "" {
			bad("public_url = \"\": must be set when bind_addr is not loopback, to scheme://host[:port] as browsers see it")
		}
	}
	if c.OpsAddr != "" {
		if _, _, err := net.SplitHostPort(c.OpsAddr); err != nil {
			bad("ops_addr = %q: must be host:port", c.OpsAddr)
		}
	}
	if !c.TrustedProxyHeader.valid() {
		bad("trusted_proxy_header = %q: must be %s or %s, the one that the trusted proxies set", c.TrustedProxyHeader, XForwardedFor, Forwarded)
	}
	for _, o := range append([]string{c.PublicURL}, c.Origins...) {
		if o == "" {
			continue
		}
		if parsed, err := origin.Parse(o); err != nil {
			bad("public_url or origins = %q: must be scheme://host[:port]: %w", o, err)
		} else if !parsed.Secure() && !parsed.Loopback() {
			bad("public_url or origins = %q: must be https outside loopback", o)
		}
	}
}

func (c Config) validateTLS(bad reporter) {
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls_cert_file and tls_key_file: set both or neither")
	}
	if c.TLS.CertFile != "" && len(c.TLS.ACMEDomains) > 0 {
		bad("acme_domains = %q: not together with tls_cert_file", c.TLS.ACMEDomains)
	}
	for _, d := range c.TLS.ACMEDomains {
		if _, err := origin.Name(d); err != nil {
			bad("acme_domains = %q: must be a name without a wildcard: %w", d, err)
		}
	}
	if len(c.TLS.ACMEDomains) > 0 && c.TLS.ACMEFolder == "" {
		bad("acme_folder = \"\": must be set with acme_domains; certificates lost at each restart meet the authority's limits")
	}
}

func (c Config) validateStore(bad reporter) {
	switch c.Store.Driver {
	case store.SQLite, store.Postgres:
	default:
		bad("store_driver = %q: must be %s or %s", c.Store.Driver, store.SQLite, store.Postgres)
	}
	if c.Store.DSN == "" {
		bad("store_dsn_secret = \"\": must be a file for sqlite, a connection string for postgres")
	}
	if c.KeyFile == "" {
		bad("key_file = \"\": must name the file of the key that seals TOTP secrets")
	}
	if c.Backup.Folder != "" && c.Backup.Every < time.Minute {
		bad("backup_every = %q: must be at least 1m", c.Backup.Every)
	}
	if c.Backup.Folder != "" && c.Backup.Keep < 1 {
		bad("backup_keep = %d: must be at least 1", c.Backup.Keep)
	}
}

func (c Config) validatePeople(bad reporter) {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"login_lifetime", c.LoginLifetime}, {"login_idle", c.LoginIdle}, {"link_lifetime", c.LinkLifetime}, {"session_grace", c.Grace}} {
		if d.value < time.Second {
			bad("%s = %q: must be at least 1s", d.key, d.value)
		}
	}
	for _, p := range c.OpenPools {
		if _, err := path.Match(p, ""); err != nil {
			bad("open_pools = %q: not a pattern (use * and ?)", p)
		}
	}
	if c.MaxSessions < 0 {
		bad("max_sessions = %d: must be 0 (no limit) or more", c.MaxSessions)
	}
	if c.HashSlots < 1 {
		bad("hash_slots = %d: must be at least 1", c.HashSlots)
	}
	if c.Password.Memory == 0 || c.Password.Time == 0 || c.Password.Threads == 0 {
		bad("password costs: memory, time and threads must be at least 1")
	}
}

func (c Config) validateOIDC(bad reporter) {
	if c.OIDC == nil {
		return
	}
	if u, err := url.Parse(c.OIDC.Issuer); err != nil || u.Host == "" || (u.Scheme != "https" && !isLoopback(u.Hostname())) {
		bad("oidc_issuer = %q: must be an https URL", c.OIDC.Issuer)
	}
	if c.OIDC.ClientID == "" {
		bad("oidc_client_id = \"\": must be set with oidc_issuer")
	}
	if c.PublicURL == "" {
		bad("public_url = \"\": must be set with oidc_issuer, since the provider sends browsers back to it")
	}
	if c.OIDC.RoleClaim == "" && len(c.OIDC.AdminValues)+len(c.OIDC.OperatorValues) > 0 {
		bad("oidc_role_claim = \"\": must be set with oidc_admin_values and oidc_operator_values")
	}
}

// validateAdvertise refuses addresses at which nobody can be reached.
func validateAdvertise(key, addr string, bad reporter) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" || port == "" {
		bad("%s = %q: must be host:port with a port", key, addr)
		return
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		bad("%s = %q: nobody can reach this address; advertise one of this machine's", key, addr)
	}
}

// isLoopback reports whether host is a name or address of this machine alone.
func isLoopback(host string) bool {
	if host = strings.Trim(host, "[]"); strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	o, err := origin.Parse("http://" + host)
	return err == nil && o.Loopback()
}

// normalise writes the addresses that browsers are told and certificates are asked for as browsers write them, and returns the origins that
// are ours. The configuration is valid.
func (c *Config) normalise() (ours []origin.Origin, err error) {
	for _, text := range append([]string{c.PublicURL}, c.Origins...) {
		if text == "" {
			continue
		}
		o, err := origin.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("public_url or origins: %w", err)
		}
		if text == c.PublicURL {
			c.PublicURL = o.String()
		}
		ours = append(ours, o)
	}
	domains := make([]string, len(c.TLS.ACMEDomains))
	for i, d := range c.TLS.ACMEDomains {
		if domains[i], err = origin.Name(d); err != nil {
			return nil, fmt.Errorf("acme_domains: %w", err)
		}
	}
	c.TLS.ACMEDomains = domains
	return ours, nil
}
