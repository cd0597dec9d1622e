//go:build integration

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/consul"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/mastertest"
	"github.com/wavry/fleet/master/seal"
)

const childEnv = "WAVRY_TEST_MASTER"

// childConfig is what a child process is told.
type childConfig struct {
	ID, Bind, Dir, Consul string
	TLS                   identity.Files
	Peers                 map[string]string
	Expect, Segment       int
}

var tokens = identity.Tokens{
	"gateway": {Role: identity.RoleGateway, Name: "gw"}, "host": {Role: identity.RoleHost, Name: "*"},
	"relay": {Role: identity.RoleRelay, Name: "*"}, "operator": {Role: identity.RoleOperator, Name: "ada"},
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is one real server.
func child(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	kek, err := seal.Parse("a-key-encryption-key-for-the-tests-of-faults")
	if err != nil {
		return err
	}
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Bind, cfg.DataDir, cfg.BootstrapExpect, cfg.Peers, cfg.LogSegment = c.ID, c.Bind, c.Dir, c.Expect, c.Peers, c.Segment
	cfg.KEK, cfg.Authenticator, cfg.OpsAddr, cfg.KeyPublishAhead = kek, tokens, "", 500*time.Millisecond
	if cfg.HostRules, err = hostrule.Parse([]string{"*=*/4294967295"}); err != nil {
		return err
	}
	if cfg.Identity, err = c.TLS.Load(); err != nil {
		return err
	}
	cfg.Relays.MinProbation, cfg.Relays.Successes = 0, 1
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if c.Consul != "" {
		if cfg.Catalog, err = consul.New(consul.Config{Address: c.Consul, Logger: cfg.Logger}); err != nil {
			return err
		}
	}
	m, err := master.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return m.Run(ctx)
}

// servers are real processes of one cluster.
type servers struct {
	t       *testing.T
	trust   *identity.Source // of clients
	configs map[string]childConfig
	mu      sync.Mutex // guards the following
	running map[string]*exec.Cmd
}

func start(t *testing.T, n int, change func(*childConfig)) *servers {
	t.Helper()
	authority, ca, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ca.WriteFiles(dir, "ca"); err != nil {
		t.Fatal(err)
	}
	s := &servers{t: t, trust: authority.Trust(), configs: map[string]childConfig{}, running: map[string]*exec.Cmd{}}
	peers := map[string]string{}
	for i := range n {
		peers[fmt.Sprintf("m%d", i+1)] = freeAddress(t)
	}
	for id, address := range peers {
		pair, err := authority.Issue(identity.Identity{Role: identity.RoleMaster, Name: id}, nil, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := pair.WriteFiles(dir, id); err != nil {
			t.Fatal(err)
		}
		files := identity.Files{Authority: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, id+".pem"), Key: filepath.Join(dir, id+"-key.pem")}
		c := childConfig{ID: id, Bind: address, Dir: filepath.Join(t.TempDir(), id), TLS: files, Peers: peers, Expect: n}
		if change != nil {
			change(&c)
		}
		s.configs[id] = c
		s.start(id)
	}
	t.Cleanup(func() {
		for id := range peers {
			s.kill(id)
			if log, err := os.ReadFile(s.logPath(id)); err == nil && t.Failed() {
				t.Logf("end of the log of %s:\n%s", id, tail(string(log)))
			}
		}
	})
	return s
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *servers) logPath(id string) string { return s.configs[id].Dir + ".log" }

func (s *servers) start(id string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := json.Marshal(s.configs[id])
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.logPath(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), childEnv+"="+string(text)), log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[id] = cmd
}

// kill sends SIGKILL; a server that is not running is left alone.
func (s *servers) kill(id string) {
	s.mu.Lock()
	cmd := s.running[id]
	delete(s.running, id)
	s.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// signal sends a signal to a running server.
func (s *servers) signal(id string, signal os.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.running[id].Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servers) client(token string) *masterclient.Client {
	s.t.Helper()
	var addresses []string
	for _, c := range s.configs {
		addresses = append(addresses, c.Bind)
	}
	c, err := masterclient.New(masterclient.Config{Addresses: addresses, TLS: s.trust.Client(identity.RoleMaster), RetryFor: 20 * time.Second, Token: func() (string, error) { return token, nil }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// leader waits for the leader and returns its id.
func (s *servers) leader() string {
	s.t.Helper()
	op, id := s.client("operator"), ""
	eventually(s.t, 30*time.Second, "a leader", func() bool {
		peers, err := op.Operator().ListPeers(testContext(s.t), &masterapi.ListPeersRequest{})
		if err != nil {
			return false
		}
		for _, p := range peers.GetPeers() {
			if p.GetLeader() {
				id = p.GetServerId()
			}
		}
		return id != ""
	})
	return id
}

func (s *servers) healthy() {
	s.t.Helper()
	op := s.client("operator")
	eventually(s.t, 60*time.Second, "all servers healthy", func() bool {
		peers, err := op.Operator().ListPeers(testContext(s.t), &masterapi.ListPeersRequest{})
		if err != nil || len(peers.GetPeers()) != len(s.configs) {
			return false
		}
		for _, p := range peers.GetPeers() {
			if !p.GetHealthy() || !p.GetVoter() {
				return false
			}
		}
		return true
	})
}

// ready asks one server's /readyz.
func (s *servers) ready(id string) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{TLSClientConfig: s.trust.Client(identity.RoleMaster), DisableKeepAlives: true}}
	response, err := client.Get("https://" + s.configs[id].Bind + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// link keeps a host linked that prepares every session and verifies leases with what the link brings.
func (s *servers) link(id string, slots uint32) *masterclient.Verifier {
	s.t.Helper()
	keys, err := masterclient.NewVerifier("")
	if err != nil {
		s.t.Fatal(err)
	}
	host, err := mastertest.NewHost(s.client("host"), &masterapi.HostHello{HostId: id, BootId: "b", Slots: slots, Region: "eu"}, func(c *masterapi.HostCommand) {
		if set := c.GetWelcome().GetKeySet(); set != nil {
			_ = keys.SetKeys(set)
		}
		if c.GetKeySet() != nil {
			_ = keys.SetKeys(c.GetKeySet())
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	keepLinked(s.t, host.Run, host.Link.Linked, func() {})
	return keys
}

// relay keeps a relay linked.
func (s *servers) relay(id string) {
	s.t.Helper()
	hello := func() *masterapi.RelayHello {
		return &masterapi.RelayHello{RelayId: id, BootId: "b", Region: "eu", PublicKey: make([]byte, 32), ControlAddress: "198.51.100.1:4000", CapacityCircuits: 1000}
	}
	link := s.client("relay").NewRelayLink(hello, func(*masterapi.RelayCommand) {})
	keepLinked(s.t, link.Run, link.Linked, func() {
		_ = link.Send(&masterapi.RelayReport{Report: &masterapi.RelayReport_Load{Load: &masterapi.RelayLoad{CircuitsSucceeded: 50}}})
	})
}

// keepLinked runs a link and reports until the test ends.
func keepLinked(t *testing.T, run func(context.Context) error, linked func() bool, report func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { _ = run(ctx) })
	wait.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				report()
			}
		}
	})
	t.Cleanup(func() { cancel(); wait.Wait() })
	eventually(t, 30*time.Second, "link", linked)
}

// viewerKey is the thumbprint of a key that some page would hold.
const viewerKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
