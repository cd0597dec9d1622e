//go:build integration

package relay_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// natConn is a UDP socket behind a NAT: rebind gives it another source address, and what is sent to the old one is lost.
type natConn struct {
	mu       sync.Mutex
	conn     *net.UDPConn
	closed   bool
	in       chan natPacket
	deadline chan struct{} // closed when reads should fail; replaced by SetReadDeadline
	done     chan struct{}
	readers  sync.WaitGroup
	tap      atomic.Pointer[tap] // sees what is sent, first
	muted    atomic.Bool         // what is sent is lost
}

type tap struct{ see func(b []byte) }

func (n *natConn) mute(on bool) { n.muted.Store(on) }

type natPacket struct {
	b    []byte
	from net.Addr
}

func newNAT(t testing.TB) *natConn {
	t.Helper()
	n := &natConn{in: make(chan natPacket, 4096), deadline: make(chan struct{}), done: make(chan struct{})}
	if err := n.rebind(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func (n *natConn) rebind() error {
	fresh, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	n.mu.Lock()
	old := n.conn
	n.conn = fresh
	n.mu.Unlock()
	n.readers.Go(func() { n.read(fresh) })
	if old != nil {
		return old.Close()
	}
	return nil
}

func (n *natConn) read(conn *net.UDPConn) {
	for b := make([]byte, 2048); ; {
		k, from, err := conn.ReadFromUDP(b)
		if err != nil {
			return
		}
		select {
		case n.in <- natPacket{append([]byte(nil), b[:k]...), from}:
		case <-n.done:
			return
		}
	}
}

func (n *natConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n.mu.Lock()
	deadline := n.deadline
	n.mu.Unlock()
	select {
	case p := <-n.in:
		return copy(b, p.b), p.from, nil
	case <-deadline:
		return 0, nil, os.ErrDeadlineExceeded
	case <-n.done:
		return 0, nil, net.ErrClosed
	}
}

func (n *natConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if n.muted.Load() {
		return len(b), nil
	}
	if tap := n.tap.Load(); tap != nil {
		tap.see(b)
	}
	n.mu.Lock()
	conn := n.conn
	n.mu.Unlock()
	k, err := conn.WriteTo(b, to)
	if errors.Is(err, net.ErrClosed) {
		return len(b), nil // rebound meanwhile: lost
	}
	return k, err
}

// The following make it a socket of package relaypath.

func (n *natConn) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	k, from, err := n.ReadFrom(ms[0].Buffers[0])
	if err != nil {
		return 0, err
	}
	ms[0].N, ms[0].NN, ms[0].Addr = k, 0, from
	return 1, nil
}

func (n *natConn) ReadMsgUDP(b, _ []byte) (int, int, int, *net.UDPAddr, error) {
	k, from, err := n.ReadFrom(b)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	return k, 0, 0, from.(*net.UDPAddr), nil
}

func (n *natConn) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	if n.muted.Load() {
		return len(b), len(oob), nil
	}
	if tap := n.tap.Load(); tap != nil {
		tap.see(b)
	}
	n.mu.Lock()
	conn := n.conn
	n.mu.Unlock()
	k, oobn, err := conn.WriteMsgUDP(b, oob, to)
	if errors.Is(err, net.ErrClosed) {
		return len(b), len(oob), nil // rebound meanwhile: lost
	}
	return k, oobn, err
}

func (n *natConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing.
func (n *natConn) SetWriteBuffer(int) error { return nil }

func (n *natConn) SyscallConn() (syscall.RawConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn.SyscallConn()
}

func (n *natConn) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	conn := n.conn
	n.mu.Unlock()
	close(n.done)
	err := conn.Close()
	n.readers.Wait()
	return err
}

func (n *natConn) LocalAddr() net.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn.LocalAddr()
}

// SetReadDeadline knows two times: past, which wakes readers, and any other, which is never.
func (n *natConn) SetReadDeadline(t time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	past := !t.IsZero() && !t.After(time.Now())
	select {
	case <-n.deadline:
		if !past {
			n.deadline = make(chan struct{})
		}
	default:
		if past {
			close(n.deadline) // wakes who reads now
		}
	}
	return nil
}

func (n *natConn) SetDeadline(t time.Time) error    { return n.SetReadDeadline(t) }
func (n *natConn) SetWriteDeadline(time.Time) error { return nil }
func addrPort(a net.Addr) netip.AddrPort            { return a.(*net.UDPAddr).AddrPort() }
func udpAddr(a netip.AddrPort) *net.UDPAddr         { return net.UDPAddrFromAddrPort(a) }
