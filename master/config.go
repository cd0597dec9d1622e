package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/choose"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/seal"
)

// Config says how one server runs. Start from DefaultConfig.
type Config struct {
	// ID names this server in the cluster for good.
	ID string
	// Bind is host:port for API and Raft; port 0 takes a free one, which only makes sense for a cluster of one.
	Bind string
	// Listener is used instead of Bind when set; the master closes it.
	Listener net.Listener
	// Advertise is host:port at which the other servers, gateways, hosts and relays reach this one; empty: the bound address.
	Advertise string
	// DataDir holds the Raft log and snapshots; empty keeps everything in memory, for one server only.
	DataDir string

	// Identity is this server's certificate, of role master. Required: nobody is believed for where a connection comes from.
	Identity *identity.Source
	// Authenticator tells callers apart that show no certificate; nil: nobody is known without one.
	Authenticator identity.Authenticator
	// OpsAddr serves /metrics, /readyz and /healthz in plain HTTP, for whoever reaches it; empty: nowhere. The API's port has no metrics.
	OpsAddr string
	// KEK opens the signing keys; nil: the server is never ready.
	KEK *seal.KEK

	// HostRules say what hosts may offer; what no rule allows waits for an operator's approval. The zero value allows nothing.
	HostRules hostrule.Rules

	// BootstrapExpect is how many servers form the cluster the first time: 1, 3 or 5.
	BootstrapExpect int
	// Peers are the servers (id to address) of a static cluster, this one included; empty: they are found through Catalog.
	Peers map[string]string
	// Catalog is Consul; nil: machines are judged by their links.
	Catalog catalog.Catalog
	// CheckURL is what the catalog asks for this server's health; empty: made from Advertise.
	CheckURL string

	// Election is how long the others wait for a sign of life of the leader. It is replaced within one and a quarter of it, within three when votes split.
	Election time.Duration
	// SnapshotThreshold is the number of log entries between snapshots; 0: 8192.
	SnapshotThreshold uint64
	// LogSegment is the size of the Raft log's files in bytes, allocated ahead; 0: 64 MiB.
	LogSegment int

	// LeaseLifetime is how long a lease is valid from issue or renewal.
	LeaseLifetime time.Duration
	// RateLimit is the default rate of a lease in bits per second, both directions; 0: the relay's default.
	RateLimit uint64
	// KeyRotation is the age at which a signing key is replaced; 0: only by hand.
	KeyRotation time.Duration
	// KeyPublishAhead is how long a key must have been published before it signs, so that every verifier has it.
	KeyPublishAhead time.Duration
	// Relays says when relays are promoted and degraded.
	Relays choose.Policy

	// Version is shown in status.
	Version string
	// Dial replaces the TCP dialer between servers; may be nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger and Registry may be nil; with a registry OpsAddr serves /metrics.
	Logger   *slog.Logger
	Registry *prometheus.Registry
}

// registerer avoids a typed nil.
func (c Config) registerer() prometheus.Registerer {
	if c.Registry == nil {
		return nil
	}
	return c.Registry
}

// DefaultConfig is complete but for id, identity and the key-encryption key.
func DefaultConfig() Config {
	return Config{
		Bind: "127.0.0.1:7401", OpsAddr: "127.0.0.1:7402", BootstrapExpect: 1, Election: 250 * time.Millisecond, LeaseLifetime: lease.Lifetime,
		KeyRotation: 7 * 24 * time.Hour, KeyPublishAhead: 10 * time.Second, Relays: choose.DefaultPolicy(), Version: "dev",
	}
}

// Validate collects every problem; each names the key, the value and the rule.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := masterapi.CheckID("id", c.ID); err != nil {
		problems = append(problems, err)
	}
	if c.Listener == nil {
		if _, _, err := net.SplitHostPort(c.Bind); err != nil {
			bad("bind = %q: must be host:port", c.Bind)
		}
	}
	if c.Identity == nil {
		bad("ca_file, cert_file and key_file are empty: a master needs a certificate of role master, also on loopback (wavry tls ca, wavry tls cert master/%s)", c.ID)
	}
	if c.OpsAddr != "" {
		if _, _, err := net.SplitHostPort(c.OpsAddr); err != nil {
			bad("ops_addr = %q: must be host:port, or empty", c.OpsAddr)
		}
	}
	if c.Advertise != "" && !routable(c.Advertise) {
		bad("advertise = %q: must be host:port that others can reach", c.Advertise)
	}
	if n := c.BootstrapExpect; n != 1 && n != 3 && n != 5 {
		bad("bootstrap_expect = %d: must be 1, 3 or 5", n)
	}
	if len(c.Peers) > 0 && len(c.Peers) != c.BootstrapExpect {
		bad("peers has %d servers, bootstrap_expect = %d: must be the same", len(c.Peers), c.BootstrapExpect)
	}
	if len(c.Peers) > 0 && c.Peers[c.ID] == "" {
		bad("peers: must contain this server, %q", c.ID)
	}
	if c.BootstrapExpect > 1 && len(c.Peers) == 0 && c.Catalog == nil {
		bad("bootstrap_expect = %d: needs peers or Consul", c.BootstrapExpect)
	}
	if c.BootstrapExpect > 1 && c.DataDir == "" {
		bad("data_dir is empty: a cluster of %d keeps its log on disk", c.BootstrapExpect)
	}
	for _, d := range []struct {
		key        string
		value, min time.Duration
		max        time.Duration
	}{
		{"election_timeout", c.Election, 50 * time.Millisecond, 10 * time.Second},
		{"lease_lifetime", c.LeaseLifetime, 2 * time.Second, time.Hour},
		{"key_publish_ahead", c.KeyPublishAhead, 0, 24 * time.Hour},
	} {
		if d.value < d.min || d.value > d.max {
			bad("%s = %s: must be between %s and %s", d.key, d.value, d.min, d.max)
		}
	}
	if c.KeyRotation != 0 && c.KeyRotation < c.KeyPublishAhead {
		bad("key_rotation = %s: must be 0 or at least key_publish_ahead (%s)", c.KeyRotation, c.KeyPublishAhead)
	}
	return errors.Join(problems...)
}

// alone reports whether this server is the whole cluster. It then opens no port for Raft and takes nobody in.
func (c Config) alone() bool { return c.BootstrapExpect == 1 }

func routable(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || port == "0" || host == "" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsUnspecified()
}
