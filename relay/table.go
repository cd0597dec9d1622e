package relay

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
)

// legKey finds a leg: the remote IP address as 16 bytes (IPv4 mapped), and remote port << 16 | index of the media port.
type legKey struct {
	hi, lo uint64
	ports  uint32
}

func makeKey(remote netip.AddrPort, port int) legKey {
	ip := remote.Addr().As16()
	return legKey{
		hi: binary.BigEndian.Uint64(ip[:8]), lo: binary.BigEndian.Uint64(ip[8:]),
		ports: uint32(remote.Port())<<16 | uint32(uint16(port)),
	}
}

func (k legKey) port() int { return int(uint16(k.ports)) }

func (k legKey) addr() netip.Addr {
	var ip [16]byte
	binary.BigEndian.PutUint64(ip[:8], k.hi)
	binary.BigEndian.PutUint64(ip[8:], k.lo)
	return netip.AddrFrom16(ip).Unmap()
}

func (k legKey) remote() netip.AddrPort { return netip.AddrPortFrom(k.addr(), uint16(k.ports>>16)) }

// index maps keys to legs. Reads take no lock and may run during a write; writes are serialised by the caller.
//
// It is open addressing with linear probing over atomic pointers, never more than half full, tombstones included. A reader that
// holds an old array while a write replaces it sees a recent past, which is all a packet can ask for.
type index struct {
	seed  uint64
	slots atomic.Pointer[[]atomic.Pointer[leg]]
	used  int // slots that are not nil, tombstones included; the writer's
	live  int
}

// tombstone marks a removed entry; its key is no key a leg has, because no remote has port 0.
var tombstone = &leg{}

const minSlots = 64

func newIndex(seed uint64) *index {
	t := &index{seed: seed}
	s := make([]atomic.Pointer[leg], minSlots)
	t.slots.Store(&s)
	return t
}

// hash is keyed, so that nobody can aim for one slot.
func (t *index) hash(k legKey) uint64 {
	h1, l1 := bits.Mul64(k.hi^t.seed, k.lo^0x9e3779b97f4a7c15)
	h2, l2 := bits.Mul64(uint64(k.ports)^l1^0xd6e8feb86659fd93, h1^t.seed^0xa0761d6478bd642f)
	return h2 ^ l2
}

func (t *index) get(k legKey) *leg {
	s := *t.slots.Load()
	mask := uint64(len(s) - 1)
	for i := t.hash(k) & mask; ; i = (i + 1) & mask {
		l := s[i].Load()
		if l == nil || l.key == k {
			return l
		}
	}
}

// put adds l. The caller has made sure that its key is free.
func (t *index) put(l *leg) {
	if s := *t.slots.Load(); (t.used+1)*2 > len(s) {
		t.rebuild(max(minSlots, nextPowerOfTwo((t.live+1)*3)))
	}
	if insert(t, *t.slots.Load(), l) {
		t.used++
	}
	t.live++
}

// insert stores l in the first slot that is empty or a tombstone and tells whether it was empty.
func insert(t *index, s []atomic.Pointer[leg], l *leg) (fresh bool) {
	mask := uint64(len(s) - 1)
	for i := t.hash(l.key) & mask; ; i = (i + 1) & mask {
		if old := s[i].Load(); old == nil || old == tombstone {
			s[i].Store(l)
			return old == nil
		}
	}
}

// remove takes l out, if it is in.
func (t *index) remove(l *leg) {
	s := *t.slots.Load()
	mask := uint64(len(s) - 1)
	for i := t.hash(l.key) & mask; ; i = (i + 1) & mask {
		switch s[i].Load() {
		case nil:
			return
		case l:
			s[i].Store(tombstone)
			t.live--
			return
		}
	}
}

func (t *index) rebuild(n int) {
	old := *t.slots.Load()
	s := make([]atomic.Pointer[leg], n)
	for i := range old {
		if l := old[i].Load(); l != nil && l != tombstone {
			insert(t, s, l)
		}
	}
	t.used = t.live
	t.slots.Store(&s)
}

func nextPowerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }
