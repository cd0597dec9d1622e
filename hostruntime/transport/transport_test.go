package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server on loopback whose connections the test gets.
type rig struct {
	t       *testing.T
	server  *Server
	address netip.AddrPort
	hashes  [][]byte
	conns   chan Conn
	control chan string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	certs, err := NewCertificates(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	hashes, _, err := certs.Hashes()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, hashes: hashes, conns: make(chan Conn, 4), control: make(chan string, 1)}
	r.server, err = New(Config{
		Certificates: certs,
		Admit: func(token string) (any, error) {
			if token != "good" {
				return nil, errors.New("this lease is not one of ours")
			}
			return token, nil
		},
		Handle: func(ctx context.Context, c Conn, _ any) {
			r.conns <- c
			<-ctx.Done()
		},
		Control: func(b []byte, _ netip.AddrPort) {
			select {
			case r.control <- string(b):
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	r.address = socket.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	r.server.Open(socket)
	go func() { served <- r.server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(r.server.Close(), <-served); err != nil {
			t.Error("serve:", err)
		}
	})
	return r
}

func (r *rig) dial(token string) (*ViewerConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return Dial(ctx, "https://"+r.address.String()+PathSession+token, r.hashes)
}

// pair is both ends of one connection.
func (r *rig) pair() (Conn, *ViewerConn) {
	r.t.Helper()
	v, err := r.dial("good")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { v.Close() })
	return <-r.conns, v
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A viewer that takes no streams makes SendUnit say busy without blocking; what it takes later makes room again.
func TestSendUnitBusy(t *testing.T) {
	r := newRig(t)
	host, viewer := r.pair()
	var sent sync.WaitGroup
	n := 0
	for ; n < 200; n++ {
		sent.Add(1)
		err := host.SendUnit(streamwire.VideoHeader{Codec: media.CodecH264, Keyframe: true, Sequence: uint32(n)}, []byte("unit"), func(err error) {
			if err != nil {
				t.Error("unit:", err)
			}
			sent.Done()
		})
		if errors.Is(err, ErrBusy) {
			sent.Done()
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 50 || n > 100 {
		t.Fatalf("busy after %d units", n)
	}
	sent.Wait()
	got := map[uint32]bool{}
	for range n {
		header, data, err := viewer.AcceptUnit(soon(t))
		if err != nil || string(data) != "unit" {
			t.Fatalf("%q, %v", data, err)
		}
		got[header.Sequence] = true
	}
	if len(got) != n {
		t.Errorf("%d of %d units arrived", len(got), n)
	}
	deadline, tick := time.After(5*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for { // the new credit travels for a moment
		done := make(chan error, 1)
		err := host.SendUnit(streamwire.VideoHeader{Codec: media.CodecH264, Sequence: uint32(n)}, []byte("after"), func(err error) { done <- err })
		if err == nil {
			if err := <-done; err != nil {
				t.Error(err)
			}
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("still busy after every unit was taken:", err)
		}
	}
	if _, data, err := viewer.AcceptUnit(soon(t)); err != nil || string(data) != "after" {
		t.Errorf("%q, %v", data, err)
	}
}

// A unit on a connection that ends is given back exactly once, with an error.
func TestSendUnitOnALostConnection(t *testing.T) {
	r := newRig(t)
	host, viewer := r.pair()
	done := make(chan error, 1)
	big := make([]byte, 8<<20) // more than any window: it cannot be sent whole
	if err := host.SendUnit(streamwire.VideoHeader{Codec: media.CodecH264}, big, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	viewer.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("sent 8 MiB to a viewer that left")
		}
	case <-soon(t).Done():
		t.Fatal("the unit was never given back")
	}
	<-host.Done()
	if err := host.SendUnit(streamwire.VideoHeader{}, nil, func(error) { t.Error("called for a unit that was refused") }); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("send on a lost connection: %v", err)
	}
}

// A first stream of another kind, or that ends before it says which, is an error that names what came.
func TestGarbageFirstStream(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		bytes []byte
		want  string
	}{
		"video": {[]byte{streamwire.StreamVideo, 1, 2}, "stream kind"},
		"noise": {[]byte{0xee}, "stream kind"},
		"empty": {nil, "read the kind"},
	} {
		host, viewer := r.pair()
		input, err := viewer.session.OpenUniStreamSync(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := input.Write(c.bytes); err != nil {
			t.Fatal(err)
		}
		if err := input.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Input(soon(t)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s as input: %v", name, err)
		}
		viewer.Close()
	}
}

// Strangers are refused before anything is accepted: a lease we do not know, none, one that is too long, another path.
func TestRefused(t *testing.T) {
	r := newRig(t)
	for name, token := range map[string]string{
		"unknown": "bad", "none": "", "too long": strings.Repeat("x", 2*maxHeaderBytes), "path": "good/more",
	} {
		if c, err := r.dial(token); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
	}
	select {
	case <-r.conns:
		t.Error("a refused viewer was handled")
	default:
	}
}

// What is not QUIC goes to Control and disturbs nobody: relays answer on the viewers' port.
func TestControlPackets(t *testing.T) {
	r := newRig(t)
	from, err := net.Dial("udp", r.address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	packet := append([]byte{0x01}, bytes.Repeat([]byte("relay"), 5)...) // the two highest bits are 0: no QUIC (RFC 9443)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for got := ""; got == ""; { // what comes before the server reads is lost, as UDP may lose anything
		for _, b := range [][]byte{{}, packet} {
			if _, err := from.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case got = <-r.control:
			if got != string(packet) {
				t.Fatalf("got %q", got)
			}
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no control packet")
		}
	}
	host, viewer := r.pair()
	if err := viewer.SendDatagram([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if b, err := host.ReceiveDatagram(soon(t)); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

// A server without what it needs says so.
func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("accepted")
	}
}
