package relaypath

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	return c
}

func addrOf(c net.PacketConn) netip.AddrPort { return unmapped(c.LocalAddr().(*net.UDPAddr)) }

// desk is a relay that writes down what it is asked.
type desk struct {
	mu        sync.Mutex
	answers   map[uint32][][]byte
	confirmed []uint32
}

func (d *desk) Answer(candidate uint32, b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answers == nil {
		d.answers = map[uint32][][]byte{}
	}
	d.answers[candidate] = append(d.answers[candidate], bytes.Clone(b))
	return nil
}

func (d *desk) Confirm(candidate uint32) { d.confirmed = append(d.confirmed, candidate) }

// connection is a proven connection at an address.
type connection struct {
	at  *net.UDPAddr
	ctx context.Context
}

func (c *connection) RemoteAddr() net.Addr     { return c.at }
func (c *connection) Context() context.Context { return c.ctx }

func messages(n int) []ipv4.Message {
	ms := make([]ipv4.Message, n)
	for i := range ms {
		ms[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}, OOB: make([]byte, 128)}
	}
	return ms
}

// TestSocketSorts proves that what a relay's media port sends goes to its circuit, and the rest, control packets included, to the direct
// viewers' transport, whole and in order.
func TestSocketSorts(t *testing.T) {
	socket, media, direct := NewSocket(listen(t)), listen(t), listen(t)
	c := NewCircuit(socket, addrOf(media), &desk{})
	defer c.Close()
	c.Offered(1, append([]byte{0xc3}, make([]byte, 1199)...))
	read := messages(4)
	n, err := c.ReadBatch(read, 0)
	if err != nil || n != 1 || read[0].N != 1200 {
		t.Fatal(n, err)
	}
	conn := &connection{read[0].Addr.(*net.UDPAddr), t.Context()}
	c.Prove(conn, conn.at)
	send := func(from *net.UDPConn, text string) {
		if _, err := from.WriteTo([]byte(text), socket.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	send(media, "\x41leg")
	send(direct, "\x41direct")
	send(media, "\x05WRL control")
	send(media, "\x41leg again")
	send(direct, "\x41direct again")
	var got []string
	for len(got) < 3 {
		ms := messages(8)
		n, err := socket.ReadBatch(ms, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms[:n] {
			got = append(got, string(m.Buffers[0][:m.N]))
		}
	}
	if want := []string{"\x41direct", "\x05WRL control", "\x41direct again"}; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("the direct transport got %q", got)
	}
	for _, want := range []string{"\x41leg", "\x41leg again"} {
		n, from, err := c.ReadFrom(read[0].Buffers[0])
		if err != nil || string(read[0].Buffers[0][:n]) != want || unmapped(from.(*net.UDPAddr)) != unmapped(conn.at) {
			t.Errorf("the circuit got %q from %v, %v", read[0].Buffers[0][:n], from, err)
		}
	}
	if _, err := c.WriteTo([]byte("\x41stream"), conn.at); err != nil {
		t.Fatal(err)
	}
	if n, _, err := media.ReadFromUDP(read[0].Buffers[0]); err != nil || string(read[0].Buffers[0][:n]) != "\x41stream" {
		t.Errorf("the relay got %q, %v", read[0].Buffers[0][:n], err)
	}
}

// TestFirstFlightWaits proves that a candidate is answered within what it has sent, that the rest waits for more, and that what still waits
// goes over the leg behind the confirmation.
func TestFirstFlightWaits(t *testing.T) {
	relay, media := &desk{}, listen(t)
	c := NewCircuit(NewSocket(listen(t)), addrOf(media), relay)
	defer c.Close()
	first := append([]byte{0xc3}, make([]byte, 1199)...)
	c.Offered(1, first)
	ms := messages(1)
	if _, err := c.ReadBatch(ms, 0); err != nil {
		t.Fatal(err)
	}
	label := ms[0].Addr.(*net.UDPAddr)
	for n := range 4 {
		if _, err := c.WriteTo(bytes.Repeat([]byte{byte(n)}, 1000), label); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(relay.answers[1]); n != 1 {
		t.Fatalf("%d answers to one packet", n)
	}
	c.Offered(1, first)
	if n := len(relay.answers[1]); n != 2 {
		t.Errorf("%d answers to two packets", n)
	}
	conn := &connection{label, t.Context()}
	c.Prove(conn, label)
	if len(relay.confirmed) != 1 || relay.confirmed[0] != 1 {
		t.Errorf("confirmed %v", relay.confirmed)
	}
	for want := byte(2); want < 4; want++ {
		if n, _, err := media.ReadFromUDP(ms[0].Buffers[0]); err != nil || n != 1000 || ms[0].Buffers[0][0] != want {
			t.Errorf("over the leg came %d bytes of %d, %v", n, ms[0].Buffers[0][0], err)
		}
	}
}

// TestMovedBeforeProof proves that a connection that has moved before its viewer was proven does not get the leg by that alone.
func TestMovedBeforeProof(t *testing.T) {
	relay := &desk{}
	c := NewCircuit(NewSocket(listen(t)), addrOf(listen(t)), relay)
	defer c.Close()
	c.Offered(1, append([]byte{0xc3}, make([]byte, 1199)...))
	c.Offered(2, append([]byte{0x41}, make([]byte, 60)...))
	ms := messages(2)
	if n, err := c.ReadBatch(ms, 0); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	c.Prove(&connection{ms[1].Addr.(*net.UDPAddr), t.Context()}, ms[0].Addr)
	if len(relay.confirmed) != 0 {
		t.Errorf("confirmed %v", relay.confirmed)
	}
}
