//go:build linux && (amd64 || arm64)

package relay

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/relay/relayclient"
)

// TestHandover proves that a successor takes over sockets, circuits and policy while data flows: nothing is lost, no end moves, and the
// lease goes on to be renewed; then that it can be succeeded again. Workers that poll let go as those that sleep do.
func TestHandover(t *testing.T) {
	for _, poll := range []time.Duration{0, maxBusyPoll} {
		t.Run("busy_poll="+poll.String(), func(t *testing.T) { testHandover(t, poll) })
	}
}

func testHandover(t *testing.T, poll time.Duration) {
	i := newIssuer(t, "k1")
	key, path := testKey(t), filepath.Join(t.TempDir(), "handover.sock")
	change := func(c *Config) { c.PrivateKey, c.HandoverPath, c.BusyPoll = key, path, poll }
	u := startTrusting(t, i, change)
	p := connect(t, u, i, 5)
	for round := range 2 {
		stop, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- p.stream(stop) }()
		cfg := testConfig(t, newFakeControl())
		change(&cfg)
		next := start(t, cfg)
		if err := u.end(t); !errors.Is(err, ErrHandedOver) {
			t.Fatalf("round %d: predecessor ended with %v", round, err)
		}
		close(stop)
		if err := <-done; err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if next.notReady() != nil || next.Circuits() != 1 || next.ControlAddr() != u.ControlAddr() {
			t.Errorf("round %d: successor has %d circuits at %v: %v", round, next.Circuits(), next.ControlAddr(), next.notReady())
		}
		u = next
	}
	later := testClaims(5)
	if err := p.host.client.UpdateToken(i.sign(t, later)); err != nil {
		t.Fatal(err)
	}
	p.host.await(t, relayclient.Renewed)
	if n := u.engine.counts.bound.Load(); n != 0 {
		t.Errorf("%d circuits were bound anew", n)
	}
}

// stream sends numbered packets one at a time until stop, and fails at the first that does not arrive.
func (p *pair) stream(stop chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		b := bytes.Repeat([]byte{0x41, byte(n), byte(n >> 8)}, 100)
		if err := p.host.send(b, p.media); err != nil {
			return err
		}
		got, err := p.viewer.next()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return errors.New("another packet than sent")
		}
	}
}

func (c *netConn) next() ([]byte, error) {
	b := make([]byte, 2048)
	n, err := c.Read(b)
	return b[:n], err
}

// TestHandoverThatFails proves that a predecessor goes on when its successor breaks off at any step.
func TestHandoverThatFails(t *testing.T) {
	i := newIssuer(t, "k1")
	path := filepath.Join(t.TempDir(), "handover.sock")
	u := startTrusting(t, i, func(c *Config) { c.HandoverPath = path })
	p := connect(t, u, i, 5)
	for name, f := range map[string]func(c *net.UnixConn) error{
		"says nothing": func(*net.UnixConn) error { return nil },
		"speaks another language": func(c *net.UnixConn) error {
			_, err := c.Write(bytes.Repeat([]byte("x"), len(handoverHello)))
			return err
		},
		"leaves after its hello": func(c *net.UnixConn) error {
			_, err := c.Write([]byte(handoverHello))
			return err
		},
		"leaves after the head": func(c *net.UnixConn) error {
			if _, err := c.Write([]byte(handoverHello)); err != nil {
				return err
			}
			var h handoverHead
			return readJSON(c, maxHeadLen, &h)
		},
	} {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := f(conn); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.Close()
		if err := p.host.send([]byte("\x41on"), p.media); err != nil {
			t.Fatal(err)
		}
		if d := read(t, p.viewer.UDPConn); string(d.b) != "\x41on" {
			t.Errorf("%s: viewer got %q", name, d.b)
		}
	}
	cfg := testConfig(t, newFakeControl())
	cfg.HandoverPath = path // with a key of its own
	stranger, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Run(t.Context()); err == nil || errors.Is(err, ErrHandedOver) {
		t.Errorf("a relay with another key took over: %v", err)
	}
	if d := u.Circuits(); d != 1 {
		t.Errorf("%d circuits", d)
	}
}

// fakeCatalog notes why a registration was given up.
type fakeCatalog struct {
	catalog.Catalog
	kept  chan catalog.Registration
	ended chan error
}

func (c *fakeCatalog) Keep(ctx context.Context, r catalog.Registration) error {
	c.kept <- r
	<-ctx.Done()
	c.ended <- context.Cause(ctx)
	return nil
}

// TestRegistrationIsHandedOver proves that a relay leaves its registration to its successor, and takes it out when it drains without one.
func TestRegistrationIsHandedOver(t *testing.T) {
	key, path := testKey(t), filepath.Join(t.TempDir(), "handover.sock")
	run := func() (*running, *fakeCatalog) {
		c := &fakeCatalog{kept: make(chan catalog.Registration, 1), ended: make(chan error, 1)}
		cfg := testConfig(t, newFakeControl())
		cfg.PrivateKey, cfg.HandoverPath, cfg.Catalog, cfg.CheckURL = key, path, c, "http://127.0.0.1:1/ready"
		u := start(t, cfg)
		if r := <-c.kept; r.Name != catalog.ServiceRelay || r.ID != "relay-1" || r.Address != u.ControlAddr().String() || r.CheckURL != cfg.CheckURL {
			t.Errorf("registered as %+v", r)
		}
		return u, c
	}
	_, first := run()
	u, second := run()
	if err := <-first.ended; !errors.Is(err, catalog.ErrSucceeded) {
		t.Errorf("the predecessor left the catalog: %v", err)
	}
	u.stop()
	if err := <-second.ended; errors.Is(err, catalog.ErrSucceeded) {
		t.Error("the last one did not leave the catalog")
	}
}

// TestStaleSocket proves that the socket of a relay that died does not keep the next one from starting, and that it is cleaned up.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "handover.sock")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cfg := testConfig(t, newFakeControl())
	cfg.HandoverPath = path
	u := start(t, cfg)
	eventually(t, "hand-over offered", func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode().Perm() == 0o600
	})
	if err := u.end(t); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// newWorker is a worker of b with one media port, which it returns.
func newWorker(t *testing.T, b *bed) (*fastWorker, netip.AddrPort) {
	t.Helper()
	sockets, err := openSockets(mustAddr("127.0.0.1"), 0, 0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sockets.close() })
	w := newFastWorker(&engine{core: b.core, admission: newAdmission([32]byte{}), clock: newClock()}, sockets.workers[0], false, 0)
	for i := range w.in {
		w.ready(i)
	}
	return w, addrPort("127.0.0.1", sockets.ports[0])
}

// TestWorkerAllocatesNothing proves that receiving, deciding and sending make no garbage, over real sockets.
func TestWorkerAllocatesNothing(t *testing.T) {
	b := newBed(t, 1)
	w, media := newWorker(t, b)
	host, viewer := listenUDP(t), listenUDP(t)
	b.host, b.now = addrOf(host), w.engine.clock.now()
	b.circuit(5, "127.0.0.1").setRate(maxRate)
	packet, buf := make([]byte, 1200), make([]byte, 2048)
	packet[0] = 0x41
	roundTrip := func(from, to *net.UDPConn, p []byte) {
		if _, err := from.WriteToUDPAddrPort(p, media); err != nil {
			t.Fatal(err)
		}
		if err := w.serve(-1, 0); err != nil {
			t.Fatal(err)
		}
		if n, _, err := to.ReadFromUDPAddrPort(buf); err != nil || n != len(p) {
			t.Fatal(n, err)
		}
	}
	b.pin(addrOf(viewer).String())
	if n := testing.AllocsPerRun(200, func() {
		roundTrip(host, viewer, packet)
		roundTrip(viewer, host, packet)
	}); n != 0 {
		t.Errorf("%v allocations for two packets", n)
	}
}

// TestSegmentationFallsBack proves that runs leave as single datagrams when the kernel does not segment.
func TestSegmentationFallsBack(t *testing.T) {
	sockets, err := openSockets(mustAddr("127.0.0.1"), 0, 0, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.close()
	viewer := listenUDP(t)
	to := &leg{key: makeKey(addrOf(viewer), 0)}
	to.sockaddr = makeSockaddr(to.key)
	for _, how := range []string{"no gso", "refused"} {
		var stats workerStats
		var o outbox
		o.init(&stats, false)
		run := bytes.Repeat([]byte{1}, 2500)
		if how == "no gso" {
			o.gso = false
			o.add(sockets.workers[0][0], to, run, 1000, 3)
			o.flush(sockets.workers[0][0])
		} else {
			o.gso = true
			o.add(sockets.workers[0][0], to, run, 1000, 3)
			o.seal(0)
			o.failed(sockets.workers[0][0], 0, 22) // EINVAL
		}
		for _, want := range []int{1000, 1000, 500} {
			if d := read(t, viewer); len(d.b) != want {
				t.Errorf("%s: got %d bytes, want %d", how, len(d.b), want)
			}
		}
		if n := stats.packetsOut.Load(); n != 3 {
			t.Errorf("%s: %d counted", how, n)
		}
	}
}
