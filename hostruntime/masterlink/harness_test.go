package masterlink

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/choose"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/seal"
	"github.com/wavry/fleet/relay"
	relaylink "github.com/wavry/fleet/relay/masterlink"
	"github.com/wavry/fleet/relay/relaywire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tokens = identity.Tokens{
	"gateway": {Role: identity.RoleGateway, Name: "g"}, "relay": {Role: identity.RoleRelay, Name: "*"},
	"host": {Role: identity.RoleHost, Name: "*"}, "operator": {Role: identity.RoleOperator, Name: "ada"},
}

// fakeHost notes what the link asks of it. Its socket is real, so circuits at real relays are too.
type fakeHost struct {
	link   *Link
	socket *net.UDPConn
	ready  chan struct{}
	slots  int

	capabilities atomic.Pointer[masterapi.HostCapabilities]

	mu       sync.Mutex                    // guards the following
	claims   map[string]lease.ViewerClaims // by lease, as prepared
	sessions map[string]bool
	renewals map[string]int // by lease
	ended    map[string]streamwire.Code
	over     map[string]streamwire.Code // by lease
	drained  string
	fail     error
	prepare  func() // called at the start of Prepare
}

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHost{
		socket: socket, ready: make(chan struct{}), slots: 5, claims: map[string]lease.ViewerClaims{}, sessions: map[string]bool{},
		renewals: map[string]int{}, ended: map[string]streamwire.Code{}, over: map[string]streamwire.Code{},
	}
	close(h.ready)
	return h
}

// read gives relays' packets to the link until the socket closes.
func (h *fakeHost) read() {
	b := make([]byte, 2048)
	for {
		n, from, err := h.socket.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if relaywire.IsControl(b[:n]) {
			h.link.Control(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}
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

func (h *fakeHost) Ready() <-chan struct{} { return h.ready }

func (h *fakeHost) Prepare(token, name string) (hostruntime.Prepared, error) {
	if h.prepare != nil {
		h.prepare()
	}
	claims, err := h.link.Verify(token, time.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	if err = errors.Join(err, h.fail); err != nil {
		return hostruntime.Prepared{}, err
	}
	h.claims[claims.Lease], h.sessions[claims.Session] = claims, true
	hash, expiry := make([]byte, 32), time.Now().Add(time.Hour)
	statement := signalapi.CertificateStatement(claims.Session, expiry, [][]byte{hash})
	return hostruntime.Prepared{Direct: h.Addresses(), Certificate: signalapi.Certificate{
		Hashes: [][]byte{hash}, Expiry: expiry, Signature: ed25519.Sign(h.link.cfg.Identity, statement),
	}}, nil
}

func (h *fakeHost) Renew(token string) error {
	claims, err := h.link.Verify(token, time.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewals[claims.Lease]++
	return err
}

func (h *fakeHost) End(id string, code streamwire.Code, _ string) {
	h.with(func() { h.ended[id] = code; delete(h.sessions, id) })
}

func (h *fakeHost) EndLease(_, lease string, code streamwire.Code, _ string) {
	h.with(func() { h.over[lease] = code })
}

func (h *fakeHost) Drain(text string) { h.with(func() { h.drained = text }) }
func (h *fakeHost) Undrain()          { h.with(func() { h.drained = "" }) }

func (h *fakeHost) Circuit(transport.CircuitConfig) (hostruntime.Circuit, error) {
	return fakeCircuit{}, nil
}

// fakeCircuit takes no viewer.
type fakeCircuit struct{}

func (fakeCircuit) Offered(uint32, []byte) {}
func (fakeCircuit) Bound(bool)             {}
func (fakeCircuit) Close()                 {}

func (h *fakeHost) Addresses() []netip.AddrPort {
	return []netip.AddrPort{h.socket.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (h *fakeHost) SendControl(b []byte, to netip.AddrPort) error {
	_, err := h.socket.WriteToUDPAddrPort(b, to)
	return err
}

func (h *fakeHost) FreeSlots() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.slots - len(h.sessions)
}

// newLink makes a link with a host that nobody runs.
func newLink(t *testing.T, client *masterclient.Client, now func() time.Time) (*Link, *fakeHost) {
	t.Helper()
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := masterclient.NewVerifier("")
	if err != nil {
		t.Fatal(err)
	}
	h := newFakeHost(t)
	link, err := New(Config{
		Client: client, Verifier: verifier, ID: "h1", Region: "eu", Identity: identity, Slots: 5, Now: now, Capabilities: h.capabilities.Load,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.link = link
	link.Bind(h)
	done := make(chan struct{})
	go func() { defer close(done); h.read() }()
	t.Cleanup(func() { h.socket.Close(); <-done })
	return link, h
}

// fleet is a real master and real relays in this process, and the link under test.
type fleet struct {
	t      *testing.T
	master *master.Master
	trust  *identity.Source // of the master's clients
	relays map[string]*relay.Relay
	link   *Link
	host   *fakeHost
	stop   context.CancelFunc // of the link
}

func newFleet(t *testing.T, life time.Duration, relays ...string) *fleet {
	t.Helper()
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Bind, cfg.KEK, cfg.Authenticator, cfg.KeyPublishAhead, cfg.LeaseLifetime = "m1", "127.0.0.1:0", seal.Ephemeral(), tokens, 0, life
	authority, _, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.HostRules, err = hostrule.Parse([]string{"*=*/4294967295"}); err != nil {
		t.Fatal(err)
	}
	if cfg.Identity, err = authority.Source(identity.Identity{Role: identity.RoleMaster, Name: "m1"}, time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	cfg.OpsAddr = ""
	cfg.Relays = choose.Policy{Share: 1, Successes: 1, MinRatio: 0.5}
	m, err := master.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, master: m, trust: authority.Trust(), relays: map[string]*relay.Relay{}}
	run(t, m.Run)
	<-m.Listening()
	f.until("the master is ready", func() bool { return m.Ready() == nil })
	for _, id := range relays {
		f.startRelay(id)
	}
	f.link, f.host = newLink(t, f.client("host"), nil)
	f.stop = run(t, f.link.Run)
	f.until("linked", f.link.Linked)
	return f
}

// run runs f until the test ends or the result is called, which waits.
func run(t *testing.T, f func(context.Context) error) context.CancelFunc {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func (f *fleet) startRelay(id string) {
	f.t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	link, err := relaylink.New(relaylink.Config{Client: f.client("relay")})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := relay.DefaultConfig()
	cfg.ID, cfg.Region, cfg.Bind, cfg.ControlPort, cfg.FirstMediaPort, cfg.MediaPorts, cfg.HTTPAddr = id, "eu", netip.MustParseAddr("127.0.0.1"), 0, 0, 2, ""
	cfg.PrivateKey, cfg.Control, cfg.DrainTimeout, cfg.Workers, cfg.Registry = key, link, 0, 1, prometheus.NewRegistry()
	r, err := relay.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	run(f.t, r.Run)
	<-r.Started()
	f.relays[id] = r
	op := f.client("operator")
	f.until("the relay is known", func() bool {
		_, err := op.Fleet().GetRelay(f.t.Context(), &masterapi.GetRelayRequest{RelayId: id})
		return err == nil
	})
}

func (f *fleet) client(token string) *masterclient.Client {
	f.t.Helper()
	c, err := masterclient.New(masterclient.Config{
		Addresses: []string{f.master.Address()}, TLS: f.trust.Client(identity.RoleMaster), Token: func() (string, error) { return token, nil }, RetryFor: 5 * time.Second,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

func (f *fleet) until(what string, ok func() bool) { f.t.Helper(); eventually(f.t, what, ok) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func (f *fleet) admit(id string, forceRelay bool) *masterapi.Grant {
	f.t.Helper()
	g, err := f.client("gateway").Sessions().Admit(f.t.Context(), &masterapi.AdmitRequest{
		ViewerKey: viewerKey, RequestId: id, Login: "ada", ViewerAddress: "127.0.0.1", ForceRelay: forceRelay,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return g
}

// shown is what a session reports of a viewer with this lease.
func (f *fleet) shown(leaseID string) {
	var c lease.ViewerClaims
	f.host.with(func() { c = f.host.claims[leaseID] })
	f.link.ViewerJoined(c, true)
	f.link.ViewerShown(c, true, time.Millisecond)
}

// held lists the link's leases.
func (l *Link) held() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.leases {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (f *fleet) circuits(relays ...string) (n int) {
	for _, id := range relays {
		n += f.relays[id].Circuits()
	}
	return n
}

func (f *fleet) holds(ids ...string) {
	f.t.Helper()
	if got := f.link.held(); fmt.Sprint(got) != fmt.Sprint(slices.Sorted(slices.Values(ids))) {
		f.t.Errorf("leases %v, want %v", got, ids)
	}
}
