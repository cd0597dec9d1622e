package relaypath

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// Relay is what a circuit asks of its relay; relayclient.Client is one.
type Relay interface {
	// Answer sends a datagram to a candidate, and Confirm makes one the viewer's leg. They do not block.
	Answer(candidate uint32, datagram []byte) error
	Confirm(candidate uint32)
}

// Conn is what a circuit knows of a QUIC connection.
type Conn interface {
	RemoteAddr() net.Addr
	Context() context.Context // ends with the connection
}

// Circuit is the socket of one circuit. It satisfies quic-go's interfaces for sockets with batches and control messages.
type Circuit struct {
	socket *Socket
	relay  Relay
	media  netip.AddrPort
	to     *net.UDPAddr
	in     chan packet
	closed chan struct{}
	once   sync.Once

	deadlineMu sync.Mutex
	deadline   chan struct{} // closed when reads fail; replaced by SetReadDeadline

	mu     sync.Mutex // guards the following
	paths  *Paths
	proven []Conn
	addrs  map[netip.AddrPort]*net.UDPAddr // of labels, so that a packet costs none
}

type packet struct {
	b, oob []byte
	from   *net.UDPAddr
}

// NewCircuit returns the circuit at a relay's media address. Close ends it.
func NewCircuit(s *Socket, media netip.AddrPort, relay Relay) *Circuit {
	six := media.Addr().Is6()
	c := &Circuit{
		socket: s, relay: relay, media: media, to: net.UDPAddrFromAddrPort(media), in: make(chan packet, queue), closed: make(chan struct{}),
		deadline: make(chan struct{}), paths: NewPaths(func() netip.AddrPort { return s.label(six) }),
		addrs: map[netip.AddrPort]*net.UDPAddr{},
	}
	s.add(c)
	return c
}

// Media is the relay's media address.
func (c *Circuit) Media() netip.AddrPort { return c.media }

// Bound says that the host's leg was bound anew, and whether the relay knows a viewer's leg.
func (c *Circuit) Bound(viewer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths.Bound(viewer)
}

// Offered takes a datagram of a candidate. It does not keep it.
func (c *Circuit) Offered(candidate uint32, datagram []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	label, ready, ok := c.paths.Offered(candidate, datagram, time.Now(), c.at)
	for _, b := range ready {
		_ = c.relay.Answer(candidate, b) // as good as lost; QUIC sends again
	}
	if ok {
		c.push(packet{b: append([]byte(nil), datagram...), from: c.addr(label)})
	}
}

// received takes a datagram that came over the leg. It does not keep it.
func (c *Circuit) received(b, oob []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if label, ok := c.paths.Received(b, time.Now(), c.at); ok {
		c.push(packet{b: append([]byte(nil), b...), oob: append([]byte(nil), oob...), from: c.addr(label)})
	}
}

func (c *Circuit) push(p packet) {
	select {
	case c.in <- p:
	default:
	}
}

func (c *Circuit) addr(label netip.AddrPort) *net.UDPAddr {
	a := c.addrs[label]
	if a == nil {
		if len(c.addrs) > 2*maxPaths {
			clear(c.addrs)
		}
		a = net.UDPAddrFromAddrPort(label)
		c.addrs[label] = a
	}
	return a
}

// at is At; c.mu is held.
func (c *Circuit) at(label netip.AddrPort) bool {
	for _, conn := range c.proven {
		if a, ok := conn.RemoteAddr().(*net.UDPAddr); ok && unmapped(a) == label {
			return true
		}
	}
	return false
}

// Prove says that the viewer of a connection, which shook hands at began, is who its lease says. From then on the leg is where that
// connection is.
func (c *Circuit) Prove(conn Conn, began net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proven = append(c.proven, conn)
	context.AfterFunc(conn.Context(), func() { c.forget(conn) })
	first, ok := began.(*net.UDPAddr)
	if now, same := conn.RemoteAddr().(*net.UDPAddr); ok && same && unmapped(now) == unmapped(first) {
		c.do(c.paths.Proven(unmapped(first)))
	}
}

func (c *Circuit) forget(conn Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, o := range c.proven {
		if o == conn {
			c.proven = append(c.proven[:i], c.proven[i+1:]...)
			return
		}
	}
}

// do carries out an action; c.mu is held, which keeps the CONFIRM before what is sent to the leg.
func (c *Circuit) do(a Action) {
	if a.Confirm != 0 {
		c.relay.Confirm(a.Confirm)
	}
	for _, b := range a.ToLeg {
		_, _, _ = c.socket.WriteMsgUDP(b, nil, c.to) // as good as lost; QUIC sends again
	}
	if a.Settle {
		time.AfterFunc(settle, c.settled)
	}
}

func (c *Circuit) settled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.do(c.paths.Settled(time.Now(), c.at))
}

// WriteMsgUDP sends what QUIC has for a label.
func (c *Circuit) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	select {
	case <-c.closed:
		return 0, 0, net.ErrClosed
	default:
	}
	if c.send(b, oob, unmapped(to)) {
		return c.socket.WriteMsgUDP(b, oob, c.to)
	}
	return len(b), len(oob), nil
}

// send tells whether a datagram, or a run of them, goes over the leg; else it has seen to it.
func (c *Circuit) send(b, oob []byte, label netip.AddrPort) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := segment(oob)
	if size == 0 {
		size = len(b)
	}
	now := time.Now()
	for len(b) > 0 {
		one := b[:min(size, len(b))]
		where, candidate, action := c.paths.Sending(label, one, now, c.at)
		c.do(action)
		switch where {
		case ToLeg:
			return true // and so do the rest of the run
		case ToCandidate:
			_ = c.relay.Answer(candidate, one) // as good as lost; QUIC sends again
		}
		b = b[len(one):]
	}
	return false
}

// WriteTo is WriteMsgUDP without control messages.
func (c *Circuit) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	n, _, err := c.WriteMsgUDP(b, nil, udp)
	return n, err
}

// ReadBatch waits for a datagram and takes what else is there.
func (c *Circuit) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	p, err := c.next()
	if err != nil {
		return 0, err
	}
	n := 0
	for {
		m := &ms[n]
		m.N, m.NN, m.Addr, m.Flags = copy(m.Buffers[0], p.b), copy(m.OOB, p.oob), p.from, 0
		if n++; n == len(ms) {
			return n, nil
		}
		select {
		case p = <-c.in:
		default:
			return n, nil
		}
	}
}

func (c *Circuit) next() (packet, error) {
	c.deadlineMu.Lock()
	deadline := c.deadline
	c.deadlineMu.Unlock()
	select {
	case <-c.closed:
		return packet{}, net.ErrClosed
	case <-deadline:
		return packet{}, os.ErrDeadlineExceeded
	case p := <-c.in:
		return p, nil
	}
}

// ReadFrom reads one datagram.
func (c *Circuit) ReadFrom(b []byte) (int, net.Addr, error) {
	p, err := c.next()
	if err != nil {
		return 0, nil, err
	}
	return copy(b, p.b), p.from, nil
}

// ReadMsgUDP reads one datagram.
func (c *Circuit) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	p, err := c.next()
	if err != nil {
		return 0, 0, 0, nil, err
	}
	return copy(b, p.b), copy(oob, p.oob), 0, p.from, nil
}

// Close ends the circuit; the host's socket stays.
func (c *Circuit) Close() error {
	c.once.Do(func() {
		c.socket.remove(c)
		close(c.closed)
	})
	return nil
}

// SetReadDeadline knows two times: past, which wakes readers, and any other, which is never.
func (c *Circuit) SetReadDeadline(t time.Time) error {
	past := !t.IsZero() && !t.After(time.Now())
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	select {
	case <-c.deadline:
		if !past {
			c.deadline = make(chan struct{})
		}
	default:
		if past {
			close(c.deadline)
		}
	}
	return nil
}

// SetDeadline is SetReadDeadline: writes do not wait.
func (c *Circuit) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing.
func (c *Circuit) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is the host's socket's.
func (c *Circuit) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// SyscallConn is the host's socket's.
func (c *Circuit) SyscallConn() (syscall.RawConn, error) { return c.socket.SyscallConn() }

// SetReadBuffer does nothing: the host's socket has its buffers.
func (c *Circuit) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing either.
func (c *Circuit) SetWriteBuffer(int) error { return nil }
