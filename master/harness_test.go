package master

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/master/choose"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/mastertest"
	"github.com/wavry/fleet/master/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens of the tests' services.
var tokens = identity.Tokens{
	"t-gateway": {Role: identity.RoleGateway, Name: "gw1"},
	"t-host":    {Role: identity.RoleHost, Name: "*"}, "t-relay": {Role: identity.RoleRelay, Name: "*"}, "t-operator": {Role: identity.RoleOperator, Name: "ada"},
	"t-host1":  {Role: identity.RoleHost, Name: "h1"},
	"t-alloc1": {Role: identity.RoleHost, Name: "*", Instance: "alloc1"}, "t-alloc2": {Role: identity.RoleHost, Name: "*", Instance: "alloc2"},
	"t-backup": {Role: identity.RoleBackup, Name: "b"},
}

// authority of the tests' masters.
var authority = sync.OnceValues(func() (*identity.Authority, error) {
	a, _, err := identity.NewAuthority(time.Now(), time.Hour)
	return a, err
})

func certificate(t testing.TB, role identity.Role, name string) *identity.Source {
	t.Helper()
	a, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Source(identity.Identity{Role: role, Name: name}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trusting is the TLS configuration of a client that shows no certificate.
func trusting(t testing.TB) *tls.Config {
	t.Helper()
	a, err := authority()
	if err != nil {
		t.Fatal(err)
	}
	return a.Trust().Client(identity.RoleMaster)
}

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("WAVRY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

// cluster is a number of servers in this process on loopback.
type cluster struct {
	t       testing.TB
	kek     *seal.KEK
	servers []*server
	change  func(*Config)
}

type server struct {
	*Master
	cfg    Config
	cancel context.CancelFunc
	done   chan error
}

// startCluster starts n servers and stops them with the test.
func startCluster(t testing.TB, n int, change func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, kek: seal.Ephemeral(), change: change}
	peers, listeners := map[string]string{}, map[string]net.Listener{}
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprintf("m%d", i+1)
		peers[id], listeners[id] = l.Addr().String(), l
	}
	for i := range n {
		id := fmt.Sprintf("m%d", i+1)
		cfg := DefaultConfig()
		cfg.ID, cfg.Listener, cfg.BootstrapExpect, cfg.KEK, cfg.Authenticator, cfg.OpsAddr = id, listeners[id], n, c.kek, tokens, ""
		rules, err := hostrule.Parse([]string{"*=*/4294967295"})
		if err != nil {
			t.Fatal(err)
		}
		cfg.HostRules = rules
		cfg.Identity = certificate(t, identity.RoleMaster, id)
		cfg.Advertise, cfg.Bind = peers[id], peers[id]
		cfg.KeyPublishAhead, cfg.Logger, cfg.Registry = 0, testLogger(t), prometheus.NewRegistry()
		if n > 1 {
			cfg.Peers, cfg.DataDir = peers, t.TempDir()
		}
		cfg.Relays = choose.Policy{Share: 0.1, Successes: 3, MinRatio: 0.9}
		if change != nil {
			change(&cfg)
		}
		c.servers = append(c.servers, c.start(cfg))
	}
	t.Cleanup(func() {
		for _, s := range c.servers {
			s.stop(t)
		}
	})
	return c
}

func (c *cluster) start(cfg Config) *server {
	c.t.Helper()
	m, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{Master: m, cfg: cfg, cancel: cancel, done: make(chan error, 1)}
	go func() { s.done <- m.Run(ctx) }()
	return s
}

// stop ends a server gracefully; a stopped one may be stopped again.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.cancel()
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("server %s: %v", s.cfg.ID, err)
		}
		close(s.done)
	case <-time.After(20 * time.Second):
		t.Fatalf("server %s does not stop", s.cfg.ID)
	}
}

// restart starts a stopped server again with its data.
func (c *cluster) restart(i int) {
	c.t.Helper()
	cfg := c.servers[i].cfg
	cfg.Listener, cfg.Registry = nil, prometheus.NewRegistry()
	c.servers[i] = c.start(cfg)
}

// move starts a stopped server again with its data, at another address.
func (c *cluster) move(i int) {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.servers[i].cfg
	cfg.Listener, cfg.Registry, cfg.Bind, cfg.Advertise = l, prometheus.NewRegistry(), l.Addr().String(), l.Addr().String()
	c.servers[i] = c.start(cfg)
}

func (c *cluster) addresses() (list []string) {
	for _, s := range c.servers {
		list = append(list, s.cfg.Advertise)
	}
	return list
}

// client returns a client of the role whose token is given.
func (c *cluster) client(token string) *masterclient.Client {
	c.t.Helper()
	cl, err := masterclient.New(masterclient.Config{
		Addresses: c.addresses(), TLS: trusting(c.t), Token: func() (string, error) { return token, nil }, Logger: testLogger(c.t), RetryFor: 10 * time.Second,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// leader waits for the leader to be ready and returns its index.
func (c *cluster) leader() int {
	c.t.Helper()
	found := -1
	eventually(c.t, "a ready leader", func() bool {
		for i, s := range c.servers {
			if s.Master.leader.Load() != nil && s.Ready() == nil {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

// eventually polls until ok or ten seconds have passed.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 15 s", what)
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fakeHost is a host runtime as the master sees it: it prepares sessions and reports what it is told to.
type fakeHost struct {
	t       testing.TB
	hello   *masterapi.HostHello
	private ed25519.PrivateKey
	link    *masterclient.HostLink
	keys    *masterclient.Verifier
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex // guards the following
	prepared map[string]*masterapi.Prepare
	ended    map[string]masterapi.Reason
	endLease map[string]masterapi.Reason
	renewed  map[string]string
	word     string
	drained  string
	fail     masterapi.Reason // Prepare fails with it
	reject   masterapi.Reason // the relay rejects with it
	mute     bool             // Prepare is not answered
}

func (c *cluster) host(id string, slots uint32, change func(*masterapi.HostHello)) *fakeHost {
	c.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	keys, err := masterclient.NewVerifier("")
	if err != nil {
		c.t.Fatal(err)
	}
	h := &fakeHost{
		t: c.t, private: private, keys: keys, prepared: map[string]*masterapi.Prepare{}, ended: map[string]masterapi.Reason{},
		endLease: map[string]masterapi.Reason{}, renewed: map[string]string{},
		hello: &masterapi.HostHello{HostId: id, BootId: "boot1", Identity: public, Slots: slots, DirectAddresses: []string{"192.0.2.1:4433"}, Region: "eu"},
	}
	if change != nil {
		change(h.hello)
	}
	h.start(c)
	return h
}

func (h *fakeHost) start(c *cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	h.link, h.cancel, h.done = c.client("t-host").NewHostLink(func() *masterapi.HostHello { return h.hello }, h.command), cancel, make(chan struct{})
	done := h.done
	go func() { defer close(done); _ = h.link.Run(ctx) }()
	c.t.Cleanup(func() { cancel(); <-done })
	eventually(c.t, "host "+h.hello.GetHostId()+" linked", h.link.Linked)
}

func (h *fakeHost) stop() { h.cancel(); <-h.done }

func (h *fakeHost) command(c *masterapi.HostCommand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch c := c.GetCommand().(type) {
	case *masterapi.HostCommand_Welcome:
		h.word = c.Welcome.GetState()
		if err := h.keys.SetKeys(c.Welcome.GetKeySet()); err != nil {
			h.t.Error(err)
		}
		h.keys.SetRevocations(c.Welcome.GetRevocations())
	case *masterapi.HostCommand_KeySet:
		if err := h.keys.SetKeys(c.KeySet); err != nil {
			h.t.Error(err)
		}
	case *masterapi.HostCommand_Revocations:
		h.keys.SetRevocations(c.Revocations)
	case *masterapi.HostCommand_Prepare:
		h.prepare(c.Prepare)
	case *masterapi.HostCommand_End:
		h.ended[c.End.GetSessionId()] = c.End.GetReason()
	case *masterapi.HostCommand_EndLease:
		h.endLease[c.EndLease.GetLeaseId()] = c.EndLease.GetReason()
	case *masterapi.HostCommand_Renewed:
		h.renewed[c.Renewed.GetLeaseId()] = c.Renewed.GetViewerToken()
	case *masterapi.HostCommand_Drain:
		h.drained = c.Drain.GetReason()
	}
}

func (h *fakeHost) prepare(p *masterapi.Prepare) {
	h.prepared[p.GetLeaseId()] = p
	if h.mute {
		return
	}
	if h.fail != 0 {
		h.send(&masterapi.HostReport{Report: &masterapi.HostReport_PrepareFailed{PrepareFailed: &masterapi.PrepareFailed{LeaseId: p.GetLeaseId(), Reason: h.fail, Message: "no"}}})
		return
	}
	answer := mastertest.Prepared(h.private, p)
	if h.reject != 0 {
		answer.RelayReject, answer.RelayMediaAddress = h.reject, ""
	}
	h.send(&masterapi.HostReport{Report: &masterapi.HostReport_Prepared{Prepared: answer}})
}

// send gives a report to the link; a lost link is part of some tests.
func (h *fakeHost) send(r *masterapi.HostReport) {
	if err := h.link.Send(r); err != nil {
		h.t.Logf("host %s: %v", h.hello.GetHostId(), err)
	}
}

func (h *fakeHost) progress(lease string, s masterapi.LeaseState) {
	h.send(&masterapi.HostReport{Report: &masterapi.HostReport_LeaseProgress{LeaseProgress: &masterapi.LeaseProgress{
		LeaseId: lease, State: s, Path: &masterapi.Candidate{Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY},
	}}})
}

func (h *fakeHost) with(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *fakeHost) is(f func() bool) func() bool {
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return f()
	}
}

// fakeRelay is a relay as the master sees it.
type fakeRelay struct {
	t      testing.TB
	hello  *masterapi.RelayHello
	link   *masterclient.RelayLink
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards the following
	word    string
	drained string
	bans    []*masterapi.Ban
	keySet  *masterapi.KeySet
	revoked []string
}

func (c *cluster) relay(id string) *fakeRelay {
	c.t.Helper()
	r := &fakeRelay{t: c.t, hello: &masterapi.RelayHello{
		RelayId: id, Region: "eu", BootId: "boot1", PublicKey: make([]byte, 32), ControlAddress: "198.51.100." + id[1:] + ":4000", CapacityCircuits: 100,
	}}
	r.start(c)
	return r
}

func (r *fakeRelay) start(c *cluster) {
	ctx, cancel := context.WithCancel(context.Background())
	r.link, r.cancel, r.done = c.client("t-relay").NewRelayLink(func() *masterapi.RelayHello { return r.hello }, r.command), cancel, make(chan struct{})
	done := r.done
	go func() { defer close(done); _ = r.link.Run(ctx) }()
	c.t.Cleanup(func() { cancel(); <-done })
	eventually(c.t, "relay "+r.hello.GetRelayId()+" linked", r.link.Linked)
}

func (r *fakeRelay) stop() { r.cancel(); <-r.done }

func (r *fakeRelay) command(c *masterapi.RelayCommand) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := c.GetCommand().(type) {
	case *masterapi.RelayCommand_Welcome:
		r.word, r.keySet, r.revoked = c.Welcome.GetState(), c.Welcome.GetKeySet(), c.Welcome.GetRevocations().GetLeaseIds()
	case *masterapi.RelayCommand_KeySet:
		r.keySet = c.KeySet
	case *masterapi.RelayCommand_Revocations:
		r.revoked = c.Revocations.GetLeaseIds()
	case *masterapi.RelayCommand_Bans:
		r.bans = c.Bans.GetBans()
	case *masterapi.RelayCommand_Drain:
		r.drained = c.Drain.GetReason()
	case *masterapi.RelayCommand_Activate:
		r.word = c.Activate.GetState()
	}
}

func (r *fakeRelay) is(f func() bool) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return f()
	}
}

// load reports totals.
func (r *fakeRelay) load(ok, failed uint64) {
	err := r.link.Send(&masterapi.RelayReport{Report: &masterapi.RelayReport_Load{Load: &masterapi.RelayLoad{CircuitsSucceeded: ok, CircuitsFailed: failed}}})
	if err != nil {
		r.t.Error(err)
	}
}

// active reports enough circuits to be promoted.
func (c *cluster) activeRelay(id string) *fakeRelay {
	c.t.Helper()
	r := c.relay(id)
	r.load(50, 0)
	eventually(c.t, "relay "+id+" active", r.is(func() bool { return r.word == "active" }))
	return r
}

func request(id string) *masterapi.AdmitRequest {
	return &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: id, Login: "ada", ViewerAddress: "203.0.113.7"}
}

// viewerKey is the thumbprint of a key that some page would hold.
const viewerKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
