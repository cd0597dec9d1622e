package relay

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = 10 * time.Second

// issuer is a master's signing key.
type issuer struct {
	signer *lease.Signer
	key    lease.Key
}

func newIssuer(t testing.TB, kid string) *issuer {
	t.Helper()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	s, err := lease.NewSigner(kid, private)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{signer: s, key: lease.Key{ID: kid, Public: public}}
}

func testClaims(circuit uint64) lease.CircuitClaims {
	now := time.Now()
	return lease.CircuitClaims{
		Lease: fmt.Sprintf("lease-%d", circuit), Host: "host-1", Relay: "relay-1", Circuit: circuit,
		NotBefore: now, Expiry: now.Add(lease.Lifetime),
	}
}

func (i *issuer) sign(t testing.TB, c lease.CircuitClaims) string {
	t.Helper()
	token, err := i.signer.SignCircuit(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// fakeControl is a Control under the test's hand.
type fakeControl struct {
	policies chan Policy
	reports  chan Load
	circuits chan CircuitEvent
}

func newFakeControl() *fakeControl {
	return &fakeControl{policies: make(chan Policy, 16), reports: make(chan Load, 16), circuits: make(chan CircuitEvent, 64)}
}

func (f *fakeControl) Follow(ctx context.Context, _ func() Self, apply func(Policy) error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-f.policies:
			if err := apply(p); err != nil {
				return err
			}
		}
	}
}

func (f *fakeControl) Circuit(e CircuitEvent) { f.circuits <- e }

func (f *fakeControl) Report(_ context.Context, l Load) error {
	select {
	case f.reports <- l:
	default:
	}
	return nil
}

func testKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testConfig(t testing.TB, control Control) Config {
	c := DefaultConfig()
	c.ID, c.Region, c.PrivateKey, c.Control = "relay-1", "test", testKey(t), control
	c.Bind, c.ControlPort, c.FirstMediaPort, c.MediaPorts, c.HTTPAddr = netip.MustParseAddr("127.0.0.1"), 0, 0, 4, ""
	c.Workers, c.DrainTimeout = 2, 50*time.Millisecond
	return c
}

// running is a relay that runs until the test ends.
type running struct {
	*Relay
	control *fakeControl
	stop    context.CancelFunc
	result  chan error
	once    sync.Once
	err     error
}

func start(t testing.TB, cfg Config) *running {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	u := &running{Relay: r, stop: stop, result: make(chan error, 1)}
	u.control, _ = cfg.Control.(*fakeControl)
	go func() { u.result <- r.Run(ctx) }()
	t.Cleanup(func() {
		if err := u.end(t); err != nil && !errors.Is(err, ErrHandedOver) {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-r.Started():
	case err := <-u.result:
		u.result <- err
		t.Fatalf("relay did not start: %v", err)
	}
	return u
}

// end stops the relay and returns what Run returned.
func (u *running) end(t testing.TB) error {
	u.once.Do(func() {
		u.stop()
		select {
		case u.err = <-u.result:
		case <-time.After(testTimeout):
			t.Error("Run does not return")
		}
	})
	return u.err
}

// startTrusting starts a relay that knows the issuer's key.
func startTrusting(t testing.TB, i *issuer, change func(*Config)) *running {
	t.Helper()
	control := newFakeControl()
	cfg := testConfig(t, control)
	if change != nil {
		change(&cfg)
	}
	u := start(t, cfg)
	u.set(t, Policy{Keys: []lease.Key{i.key}})
	return u
}

// set gives the relay a policy and waits until it is in force.
func (u *running) set(t testing.TB, p Policy) {
	t.Helper()
	before := u.engine.policy.Load()
	u.control.policies <- p
	eventually(t, "policy in force", func() bool { return u.engine.policy.Load() != before })
}

// eventually polls until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not: %s", what)
		}
	}
}

// hostEnd is a host: a socket, a relay client, and the data that arrives.
type hostEnd struct {
	mu     sync.Mutex
	conn   *net.UDPConn
	client *relayclient.Client
	events chan relayclient.Event
	data   chan datagram
	result chan error
	deaf   atomic.Bool // believes no candidate
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

func listenUDP(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// newHost starts a client for token. change may adapt its configuration.
func newHost(t testing.TB, u *running, token string, change func(*relayclient.Config)) *hostEnd {
	t.Helper()
	h := &hostEnd{conn: listenUDP(t), events: make(chan relayclient.Event, 64), data: make(chan datagram, 4096), result: make(chan error, 1)}
	cfg := relayclient.Config{
		Relay: u.ControlAddr(), PublicKey: u.PublicKey(), Token: token, Send: h.send, Offer: h.offered,
		Notify: func(e relayclient.Event) { h.events <- e },
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if h.client, err = relayclient.New(cfg); err != nil {
		t.Fatal(err)
	}
	h.read(h.conn)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { defer close(ran); h.result <- h.client.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ran })
	return h
}

// offered believes every candidate.
func (h *hostEnd) offered(candidate uint32, b []byte) {
	if h.deaf.Load() {
		return
	}
	h.client.Confirm(candidate)
	media, _ := h.client.Media()
	h.data <- datagram{append([]byte(nil), b...), media}
}

func (h *hostEnd) send(b []byte, to netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.conn.WriteToUDPAddrPort(b, to)
	return err
}

// read gives control packets to the client and keeps the rest, until the socket is closed.
func (h *hostEnd) read(conn *net.UDPConn) {
	go func() {
		for b := make([]byte, 65536); ; {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if relaywire.IsControl(b[:n]) {
				h.client.HandlePacket(from, b[:n], time.Now())
			} else if err == nil {
				h.data <- datagram{append([]byte(nil), b[:n]...), from}
			}
		}
	}()
}

// move gives the host a new source address, as a NAT that lost its state does.
func (h *hostEnd) move(t testing.TB) {
	fresh := listenUDP(t)
	h.read(fresh)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = fresh
}

// await returns the next event of a kind.
func (h *hostEnd) await(t testing.TB, kind relayclient.EventKind) relayclient.Event {
	t.Helper()
	deadline := time.After(testTimeout)
	for {
		select {
		case e := <-h.events:
			if e.Kind == kind {
				return e
			}
		case err := <-h.result:
			t.Fatalf("waiting for %v: client ended: %v", kind, err)
		case <-deadline:
			t.Fatalf("no %v", kind)
		}
	}
}

// initial looks like the first packet of a QUIC connection.
func initial(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	b[0] = 0xc3
	binary.BigEndian.PutUint32(b[1:], 1)
	b[5] = 8
	return b
}

// short looks like a later packet towards the host of a circuit.
func (c *core) short(circuit uint64, n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	b[0] = 0x41
	copy(b[1:], c.ids.Append(nil, circuit, mathrand.Uint64()))
	return b
}

func write(t testing.TB, c *net.UDPConn, b []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

// read waits for the next datagram.
func read(t testing.TB, c *net.UDPConn) datagram {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(testTimeout))
	b := make([]byte, 65536)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return datagram{b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
}

func (h *hostEnd) receive(t testing.TB) datagram {
	t.Helper()
	select {
	case d := <-h.data:
		return d
	case <-time.After(testTimeout):
		t.Fatal("nothing arrived at the host")
		return datagram{}
	}
}

// paths runs a test on both data paths.
func paths(t *testing.T, f func(t *testing.T, path string)) {
	for _, p := range []string{PathAuto, PathPortable} {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

// netConn is a viewer's socket.
type netConn struct{ *net.UDPConn }

// replace writes a file whole.
func replace(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrPort(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(mustAddr(ip), port) }

func addrOf(c *net.UDPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
