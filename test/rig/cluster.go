package rig

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/wavry/fleet/gateway/store/pgtest"
)

// Cluster is a whole fleet of separate processes on one machine: a real Consul, three masters with mutual TLS, two gateways on a real
// PostgreSQL, two relays and two hosts with the test picture. Every process can be killed and started again by name.
type Cluster struct {
	t       testing.TB
	dir     string
	consul  string // its HTTP address
	dsn     string
	members map[string]*member
	// KillConsul ends the running Consul; what it knew is lost with it.
	KillConsul func()
}

type member struct {
	args    []string
	process *Process
	http    string // where it answers operators
}

// NewCluster starts everything and waits until a desktop can be had. gatewayArgs are further flags of the gateways.
func NewCluster(t testing.TB, gatewayArgs ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, dir: t.TempDir(), members: map[string]*member{}}
	c.keys()
	c.consul = "127.0.0.1:" + freePort(t)
	c.StartConsul()
	for _, id := range []string{"m1", "m2", "m3"} {
		c.add(id, c.free(), func(addr string) []string {
			return append(c.service("master", id, ""), "-bind", addr, "-ops-addr", c.free(), "-data-dir", filepath.Join(c.dir, id), "-bootstrap-expect", "3", "-host-rules", "*=default/1",
				"-kek-file", filepath.Join(c.dir, "kek"), "-consul", "-consul-addr", c.consul)
		})
	}
	for _, id := range []string{"r1", "r2"} {
		c.add(id, c.free(), func(addr string) []string {
			return append(c.service("relay", id, "master-"), "-http-addr", addr, "-bind-addr", "127.0.0.1", "-control-port", freePort(t), "-first-media-port", "0",
				"-media-ports", "8", "-state-dir", filepath.Join(c.dir, id), "-drain-timeout", "10s", "-consul", "-consul-addr", c.consul)
		})
	}
	for _, id := range []string{"h1", "h2"} {
		c.add(id, c.free(), func(addr string) []string {
			return append(c.service("host", id, "master-"), "-http-addr", addr, "-capture", "capture-test", "-state-dir", filepath.Join(c.dir, id),
				"-drain-timeout", "5s", "-consul", "-consul-addr", c.consul)
		})
	}
	c.dsn = pgtest.Start(t).DSN("postgres")
	for _, id := range []string{"g1", "g2"} {
		c.add(id, c.free(), func(addr string) []string {
			ops := c.free()
			return append(append(c.service("gateway", id, "master-"), "-bind-addr", addr, "-ops-addr", ops, "-consul", "-consul-addr", c.consul,
				"-consul-advertise-addr", addr, "-consul-advertise-ops", ops), append(c.store(), gatewayArgs...)...)
		})
	}
	c.AllPassing()
	return c
}

func (c *Cluster) store() []string {
	return []string{"-store-driver", "postgres", "-store-dsn-secret", c.dsn, "-key-file", filepath.Join(c.dir, "gateway.key")}
}

// keys makes the authority, a certificate per service, and the keys that services share.
func (c *Cluster) keys() {
	c.t.Helper()
	c.Wavry("tls", "ca", "-dir", c.dir)
	for _, id := range []string{"master/m1", "master/m2", "master/m3", "relay/r1", "relay/r2", "host/h1", "host/h2", "gateway/g1", "gateway/g2", "operator/op"} {
		c.Wavry("tls", "cert", "-dir", c.dir, "-san", "127.0.0.1", id)
	}
	secret := []byte(strings.Repeat("Z", 32))
	for name, text := range map[string]string{"kek": hex.EncodeToString(secret), "gateway.key": base64.StdEncoding.EncodeToString(secret)} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text+"\n"), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// service is a command with the certificate of its identity; prefix is that of the flags.
func (c *Cluster) service(role, id, prefix string) []string {
	return []string{role, "-id", id,
		"-" + prefix + "ca-file", filepath.Join(c.dir, "ca.pem"),
		"-" + prefix + "cert-file", filepath.Join(c.dir, role+"-"+id+".pem"),
		"-" + prefix + "key-file", filepath.Join(c.dir, role+"-"+id+"-key.pem"),
	}
}

func (c *Cluster) add(id, addr string, args func(addr string) []string) {
	c.t.Helper()
	m := &member{args: args(addr), http: addr}
	c.members[id] = m
	m.process = Start(c.t, nil, m.args...)
}

// Join starts a machine that is not part of the cluster, with a certificate of its own, and does not wait for it.
func (c *Cluster) Join(role, id string, args ...string) *Process {
	c.t.Helper()
	c.Wavry("tls", "cert", "-dir", c.dir, role+"/"+id)
	state, http := filepath.Join(c.dir, id), c.free()
	return Start(c.t, nil, append(append(c.service(role, id, "master-"), "-http-addr", http, "-state-dir", state, "-consul", "-consul-addr", c.consul), args...)...)
}

// StartConsul starts an empty Consul at the cluster's address. It ends with the test, or with KillConsul.
func (c *Cluster) StartConsul() {
	c.t.Helper()
	_, port, err := net.SplitHostPort(c.consul)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(Engine(c.t, "consul"), "agent", "-dev", "-log-level=err", "-bind=127.0.0.1", "-client=127.0.0.1", "-http-port="+port, "-dns-port=-1",
		"-grpc-port=-1", "-grpc-tls-port=-1", "-server-port="+freePort(c.t), "-serf-lan-port="+freePort(c.t), "-serf-wan-port=-1",
		"-hcl=performance { raft_multiplier = 1 } connect { enabled = false }")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.KillConsul = func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}
	c.t.Cleanup(c.KillConsul)
	client := c.Consul()
	c.Eventually("consul has a leader", func() bool {
		leader, err := client.Status().Leader()
		return err == nil && leader != ""
	})
}

// Consul is a client of the cluster's Consul.
func (c *Cluster) Consul() *consul.Client {
	cfg := consul.DefaultNonPooledConfig()
	cfg.Address = c.consul
	client, err := consul.NewClient(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// Engine finds a server that scripts/engines built, or one on PATH.
func Engine(t testing.TB, name string) string {
	t.Helper()
	if dir, err := os.UserCacheDir(); err == nil {
		path := filepath.Join(dir, "wavry", "engines", "bin", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s: run scripts/engines %s", name, name)
	}
	return path
}

// AllPassing waits until Consul lists every relay, host and gateway as passing.
func (c *Cluster) AllPassing() {
	c.t.Helper()
	for service, ids := range map[string][]string{"wavry-relay": {"r1", "r2"}, "wavry-host": {"h1", "h2"}, "wavry-gateway": {"g1", "g2"}} {
		for _, id := range ids {
			c.Passing(service, id, true)
		}
	}
}

// Passing waits until Consul lists a machine, or does not, as passing.
func (c *Cluster) Passing(service, id string, want bool) {
	c.t.Helper()
	client := c.Consul()
	c.Eventually(fmt.Sprintf("%s %s passing: %v", service, id, want), func() bool {
		entries, _, err := client.Health().Service(service, "", true, nil)
		found := false
		for _, e := range entries {
			found = found || e.Service.Meta["id"] == id || e.Service.Meta["gateway_id"] == id
		}
		return err == nil && found == want
	})
}

// Process is a member by id: m1 to m3, g1, g2, r1, r2, h1, h2.
func (c *Cluster) Process(id string) *Process { return c.members[id].process }

// URL is where a gateway serves people.
func (c *Cluster) URL(gateway string) string { return "http://" + c.members[gateway].http }

// Restart starts a member that was killed. environ is added to its environment, for this life only.
func (c *Cluster) Restart(id string, environ ...string) {
	c.t.Helper()
	m := c.members[id]
	m.process = Start(c.t, environ, m.args...)
}

// Metric is the value of a metric of a member, named with its labels as Prometheus writes it.
func (c *Cluster) Metric(id, name string) float64 {
	c.t.Helper()
	response, err := http.Get("http://" + c.members[id].http + "/metrics")
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		text, found := strings.CutPrefix(lines.Text(), name+" ")
		if !found {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			c.t.Fatal(err)
		}
		return value
	}
	c.t.Fatalf("%s has no metric %s", id, name)
	return 0
}

// Invite makes a one-time link for a person at a gateway.
func (c *Cluster) Invite(gateway, name, role string) string {
	c.t.Helper()
	out := c.Wavry(append([]string{"gateway", "invite", "-name", name, "-role", role, "-public-url", "http://" + c.members[gateway].http,
		"-master-addrs", c.members["m1"].http}, c.store()...)...)
	for word := range strings.FieldsSeq(out) {
		if strings.Contains(word, "#link=") {
			return word
		}
	}
	c.t.Fatalf("no link in %q", out)
	return ""
}

// Operator runs an operator's command against the cluster and returns what it prints.
func (c *Cluster) Operator(args ...string) string {
	c.t.Helper()
	out, err := c.TryOperator(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// TryOperator is Operator for commands that may be refused.
func (c *Cluster) TryOperator(args ...string) (string, error) {
	var addrs []string
	for _, id := range []string{"m1", "m2", "m3"} {
		addrs = append(addrs, c.members[id].http)
	}
	words, rest := args, []string(nil)
	for i, a := range args {
		if strings.HasPrefix(a, "-") {
			words, rest = args[:i], args[i:]
			break
		}
	}
	all := append([]string{}, words[:commandWords(words)]...)
	all = append(all, "-address", strings.Join(addrs, ","), "-ca-cert", filepath.Join(c.dir, "ca.pem"),
		"-client-cert", filepath.Join(c.dir, "operator-op.pem"), "-client-key", filepath.Join(c.dir, "operator-op-key.pem"))
	all = append(all, rest...)
	return c.try(append(all, words[commandWords(words):]...)...)
}

// commandWords is how many leading words name the command; an argument follows at most.
func commandWords(words []string) int {
	if words[0] == "operator" {
		return 3
	}
	return 2
}

// Leader is the id of the master that leads.
func (c *Cluster) Leader() string {
	c.t.Helper()
	var leader string
	c.Eventually("a leader", func() bool {
		for line := range strings.Lines(c.Operator("operator", "raft", "list-peers")) {
			f := strings.Fields(line)
			if len(f) > 2 && strings.Contains(strings.ToLower(line), "leader") && strings.HasPrefix(f[0], "m") {
				leader = f[0]
			}
		}
		return leader != ""
	})
	return leader
}

// Wavry runs a command to its end and returns what it printed.
func (c *Cluster) Wavry(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *Cluster) try(args ...string) (string, error) {
	out, err := exec.Command(Bin(c.t, "wavry"), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("wavry %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Eventually polls until cond holds.
func (c *Cluster) Eventually(what string, cond func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			c.t.Fatalf("never happened: %s", what)
		}
	}
}

func (c *Cluster) free() string { return "127.0.0.1:" + freePort(c.t) }

// freePort is a TCP port that is free now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
