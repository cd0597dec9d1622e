package relaypath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/net/ipv4"

	"github.com/wavry/fleet/relay/relaywire"
)

// Socket is the host's UDP socket. What it reads is what direct viewers and relays' control packets bring; what comes over a circuit's
// leg goes to its Circuit. It satisfies quic-go's interfaces for sockets with batches and control messages.
type Socket struct {
	UDP
	batch  batch
	labels atomic.Uint64

	many atomic.Int64 // circuits

	mu       sync.RWMutex // guards the following
	circuits map[netip.AddrPort]*Circuit
}

// UDP is *net.UDPConn, or what a test has in its place.
type UDP interface {
	net.PacketConn
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error)
	WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error)
}

// batch reads several datagrams at once.
type batch interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
}

// NewSocket returns the Socket over conn, which it owns from then on.
func NewSocket(conn UDP) *Socket {
	read, ok := conn.(batch)
	if !ok {
		read = ipv4.NewPacketConn(conn) // reads both families
	}
	return &Socket{UDP: conn, batch: read, circuits: map[netip.AddrPort]*Circuit{}}
}

// ReadBatch reads datagrams as ipv4.PacketConn does, without those of circuits.
func (s *Socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := s.batch.ReadBatch(ms, flags)
		if err != nil || s.many.Load() == 0 {
			return n, err
		}
		if n = s.sort(ms[:n]); n > 0 {
			return n, nil
		}
	}
}

// sort gives circuits what is theirs and closes the gaps. Each message keeps its buffer, for the caller knows them by their place.
func (s *Socket) sort(ms []ipv4.Message) (kept int) {
	for i := range ms {
		m := &ms[i]
		if s.deliver(m) {
			continue
		}
		if k := &ms[kept]; kept != i {
			k.N = copy(k.Buffers[0], m.Buffers[0][:m.N])
			k.NN = copy(k.OOB, m.OOB[:m.NN])
			k.Addr, k.Flags = m.Addr, m.Flags
		}
		kept++
	}
	return kept
}

func (s *Socket) deliver(m *ipv4.Message) bool {
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		return false
	}
	b := m.Buffers[0][:m.N]
	if len(b) == 0 || b[0] == relaywire.FirstByte && relaywire.IsControl(b) {
		return false
	}
	s.mu.RLock()
	c := s.circuits[unmapped(from)]
	s.mu.RUnlock()
	if c == nil {
		return false
	}
	c.received(b, m.OOB[:m.NN])
	return true
}

func unmapped(a *net.UDPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// add enters a circuit; the newest of an address counts.
func (s *Socket) add(c *Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.circuits[c.media] = c
	s.many.Store(int64(len(s.circuits)))
}

func (s *Socket) remove(c *Circuit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.circuits[c.media] == c {
		delete(s.circuits, c.media)
	}
	s.many.Store(int64(len(s.circuits)))
}

// label makes an address that no remote has: of 240.0.0.0/4 (reserved, RFC 1112), or of 2001:db8::/32 (for documentation, RFC 3849), in
// the family of the relay's address, because QUIC chooses control messages by it. Each has a network of its own, because strangers are
// counted by network.
func (s *Socket) label(six bool) netip.AddrPort {
	n := s.labels.Add(1)
	if six {
		ip := [16]byte{0x20, 0x01, 0x0d, 0xb8, byte(n >> 16), byte(n >> 8), byte(n)}
		binary.BigEndian.PutUint64(ip[8:], n)
		return netip.AddrPortFrom(netip.AddrFrom16(ip), 1)
	}
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 0xf<<28|uint32(n&(1<<28-1)))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(1+n>>28))
}
