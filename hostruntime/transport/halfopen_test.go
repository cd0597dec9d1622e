package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// firstPacket is a socket that keeps the first datagram written to it and carries nothing.
type firstPacket struct {
	wrote  chan []byte
	closed chan struct{}
}

func (f *firstPacket) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case f.wrote <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

func (f *firstPacket) ReadFrom([]byte) (int, net.Addr, error) {
	<-f.closed
	return 0, nil, net.ErrClosed
}
func (f *firstPacket) Close() error                     { close(f.closed); return nil }
func (f *firstPacket) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (f *firstPacket) SetDeadline(time.Time) error      { return nil }
func (f *firstPacket) SetReadDeadline(time.Time) error  { return nil }
func (f *firstPacket) SetWriteDeadline(time.Time) error { return nil }

// initial is the first datagram of a handshake that goes no further.
func initial(t *testing.T, to netip.AddrPort) []byte {
	f := &firstPacket{make(chan []byte, 1), make(chan struct{})}
	tr := &quic.Transport{Conn: f}
	ctx, cancel := context.WithCancel(soon(t))
	done := make(chan error, 1)
	go func() {
		_, err := tr.Dial(ctx, net.UDPAddrFromAddrPort(to), &tls.Config{NextProtos: []string{"h3"}, InsecureSkipVerify: true,
			CurvePreferences: []tls.CurveID{tls.X25519}}, &quic.Config{InitialPacketSize: 1200}) //nolint:gosec // nobody is trusted with anything
		done <- err
	}()
	b := <-f.wrote
	cancel()
	<-done
	if err := errors.Join(f.Close(), tr.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// A stranger who begins handshakes from many addresses and goes on with none gets back less than they sent, and costs the memory of a
// few; while they do, a viewer comes in; and when they are gone, so is what they cost.
func TestHalfOpenHandshakes(t *testing.T) {
	const strangers = 400
	r := newRig(t)
	before := runtime.NumGoroutine()
	packets := make([][]byte, strangers)
	for i := range packets {
		packets[i] = initial(t, r.address)
	}
	sockets := make([]*net.UDPConn, strangers)
	for i, b := range packets {
		socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.address))
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		if _, err := socket.Write(b); err != nil {
			t.Fatal(err)
		}
		sockets[i] = socket
		if i%64 == 63 { // they came in: what is lost in the socket's queue would prove nothing
			_ = socket.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = socket.Read(make([]byte, 2000))
		}
	}
	most := runtime.NumGoroutine() - before
	if most > 10*maxUnproven {
		t.Errorf("%d strangers keep %d goroutines at work", strangers, most)
	}
	v, err := r.dial("good")
	if err != nil {
		t.Fatal("a viewer among strangers:", err)
	}
	v.Close()
	// Until QUIC gives up on the silent ones.
	deadline := time.Now().Add(11 * time.Second)
	in, out, answered := 0, 0, 0
	for i, socket := range sockets {
		if i == 0 {
			eventuallyGone(t, before)
		}
		_ = socket.SetReadDeadline(time.Now().Add(time.Millisecond))
		b, got := make([]byte, 2000), 0
		for time.Now().Before(deadline.Add(10 * time.Second)) {
			n, err := socket.Read(b)
			if err != nil {
				break
			}
			got += n
		}
		if got > 0 {
			answered++
		}
		if got > 3*len(packets[i])+packetSize { // quic-go looks before it sends a datagram, not at what it will be then
			t.Errorf("stranger %d sent %d bytes and got %d", i, len(packets[i]), got)
		}
		in, out = in+len(packets[i]), out+got
	}
	t.Logf("%d of %d strangers answered, %d bytes in, %d out (%.2f), %d goroutines at most", answered, strangers, in, out, float64(out)/float64(in), most)
	if answered < maxUnproven || out > in {
		t.Errorf("%d strangers answered, %d bytes in, %d out", answered, in, out)
	}
}

// Strangers who shake hands to the end, which needs no token, and then only stay, are few, and they are not kept.
func TestStrangersWithoutASession(t *testing.T) {
	r := newRig(t)
	stay := func() (*quic.Conn, error) {
		return quic.DialAddr(soon(t), r.address.String(), &tls.Config{NextProtos: []string{"h3"}, InsecureSkipVerify: true}, //nolint:gosec // nobody is trusted with anything
			&quic.Config{KeepAlivePeriod: time.Second, HandshakeIdleTimeout: time.Second})
	}
	var staying []*quic.Conn
	for range maxUnproven + maxProvenPerNetwork + 8 {
		c, err := stay()
		if err == nil {
			staying = append(staying, c)
		}
	}
	if len(staying) > maxUnproven+maxProvenPerNetwork {
		t.Errorf("%d strangers came in", len(staying))
	}
	deadline, cancel := context.WithTimeout(t.Context(), sessionWait+3*time.Second)
	defer cancel()
	held := 0
	for _, c := range staying {
		select {
		case <-c.Context().Done():
		case <-deadline.Done():
			held++
		}
		_ = c.CloseWithError(0, "")
	}
	if held > 0 {
		t.Errorf("%d of %d strangers are kept", held, len(staying))
	}
	v, err := r.dial("good")
	if err != nil {
		t.Fatal("a viewer after strangers:", err)
	}
	v.Close()
}

// eventuallyGone waits until what handshakes keep is given back.
func eventuallyGone(t *testing.T, goroutines int) {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > goroutines+8 {
		select {
		case <-deadline:
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), goroutines)
		case <-tick.C:
		}
	}
}

// The book at its limits: rate, number, networks, and what is given back.
func TestHalfOpenBook(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := newHalfOpen(func() time.Time { return now })
	addr := netip.MustParseAddr("192.0.2.1")
	var ends []func()
	for i := range maxUnproven {
		if h.mustProve(nil) {
			t.Fatalf("handshake %d has to prove itself", i)
		}
		end, _ := h.begin(addr, false)
		ends = append(ends, end)
	}
	now = now.Add(time.Hour)
	if !h.mustProve(nil) {
		t.Fatal("more than maxUnproven are open")
	}
	for _, end := range ends {
		end()
	}
	for i := range unprovenBurst {
		if h.mustProve(nil) {
			t.Fatalf("after the end: %d", i)
		}
	}
	if !h.mustProve(nil) {
		t.Fatal("above the rate without proof")
	}
	now = now.Add(-time.Hour) // a clock that goes back gives nothing
	if !h.mustProve(nil) {
		t.Fatal("a clock that goes back gives handshakes")
	}
	if now = now.Add(time.Second); h.mustProve(nil) {
		t.Fatal("nothing comes back")
	}
	ends = nil
	for i := range maxProvenPerNetwork {
		end, ok := h.begin(addr, true)
		if !ok {
			t.Fatalf("proven %d refused", i)
		}
		ends = append(ends, end)
	}
	if _, ok := h.begin(netip.MustParseAddr("::ffff:192.0.2.1"), true); ok {
		t.Fatal("one network has more than its share")
	}
	for i := range maxProven - maxProvenPerNetwork {
		if _, ok := h.begin(netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), true); !ok {
			t.Fatalf("another network refused at %d", i)
		}
	}
	if _, ok := h.begin(netip.MustParseAddr("2001:db8::1"), true); ok {
		t.Fatal("more than maxProven are open")
	}
	for _, end := range ends {
		end()
	}
	if _, ok := h.begin(netip.MustParseAddr("2001:db8::1"), true); !ok {
		t.Fatal("nothing is given back")
	}
	if a, b := networkOf(netip.MustParseAddr("2001:db8:0:100::1")), networkOf(netip.MustParseAddr("2001:db8:0:1ff::2")); a != b {
		t.Fatalf("one customer has two networks: %s, %s", a, b)
	}
}
