package relay

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// handle decides about a run of datagrams of one source at one media port. first is the first datagram, size the bytes of all of
// them, packets their number, now nanoseconds on the core's clock. It returns the leg to send the run to, or why not. Control packets never get here.
//
// For the packet of a known leg it is one table lookup, one load and one compare-and-swap: no lock, no allocation.
func (c *core) handle(from legKey, first []byte, size, packets int, now int64) (*leg, drop) {
	l := c.legs.get(from)
	if l == nil {
		return c.stranger(from, first, size, packets, now)
	}
	return l.circuit.pass(l.side, size, packets, now)
}

func (ci *circuit) pass(from side, size, packets int, now int64) (*leg, drop) {
	var to *leg
	if from == hostSide {
		to = ci.viewer.Load()
	} else {
		touch(&ci.viewerSeen, now)
		to = ci.host.Load()
	}
	if to == nil {
		return nil, dropNoPeer
	}
	if !ci.admit(size, now) {
		return nil, dropRate
	}
	ci.bytes.Add(uint64(size))
	ci.packets.Add(uint64(packets))
	if from == hostSide && !ci.answered.Load() {
		ci.answered.Store(true)
	}
	return to, dropNone
}

// stranger handles an unknown source: it may begin a viewer leg, move one, or be noise.
func (c *core) stranger(from legKey, first []byte, size, packets int, now int64) (*leg, drop) {
	switch kind, tag := classify(first); kind {
	case beginning:
		if c.ports[from.port()].expecting.Load() == 0 {
			return nil, dropStranger
		}
		return c.pin(from, tag, size, packets, now)
	case continuation:
		l := c.tags.get(tagKey(tag, from.port()))
		if l == nil {
			return nil, dropStranger
		}
		return c.follow(l.circuit, from, size, packets, now)
	default:
		return nil, dropNoise
	}
}

type kind uint8

const (
	noise        kind = iota
	beginning         // may pin a viewer leg
	continuation      // carries a tag
)

const (
	minInitial  = 1200 // RFC 9000 section 14.1
	minShort    = 1 + 8 + 4 + 16
	stunCookie  = 0x2112a442
	stunRequest = 0x0001
	stunHead    = 20
)

// classify looks at the first datagram of an unknown source, as RFC 9000 section 17 and RFC 8489 section 5 define its head. tag is
// the first 8 bytes of its destination connection id, if it has that many.
func classify(b []byte) (k kind, tag uint64) {
	switch {
	case len(b) < stunHead:
		return noise, 0
	case b[0]&0xc0 == 0x40:
		if len(b) < minShort {
			return noise, 0
		}
		return continuation, binary.BigEndian.Uint64(b[1:])
	case b[0]&0xc0 == 0xc0:
		return classifyLong(b)
	case b[0]&0xc0 == 0 && binary.BigEndian.Uint32(b[4:]) == stunCookie:
		if binary.BigEndian.Uint16(b) == stunRequest && int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHead {
			return beginning, 0
		}
	}
	return noise, 0
}

// quicV2 is version 2 (RFC 9369), whose Initial has the type bits 01; version 1 and what we do not know have 00.
const quicV2 = 0x6b3343cf

func classifyLong(b []byte) (kind, uint64) {
	version, idLen := binary.BigEndian.Uint32(b[1:]), int(b[5])
	if version == 0 || idLen < 8 || idLen > 20 || len(b) < 7+idLen {
		return noise, 0
	}
	tag := binary.BigEndian.Uint64(b[6:])
	initial := byte(0)
	if version == quicV2 {
		initial = 1
	}
	if b[0]>>4&3 != initial {
		return continuation, tag
	}
	if len(b) < minInitial {
		return noise, 0
	}
	return beginning, tag
}

// pin makes an unknown source the viewer leg of the circuit that waits for it, or of its circuit whose viewer has gone silent. An
// Initial whose connection id carries a tag continues a handshake from a new address.
func (c *core) pin(from legKey, tag uint64, size, packets int, now int64) (*leg, drop) {
	if l := c.tags.get(tagKey(tag, from.port())); tag != 0 && l != nil {
		return c.follow(l.circuit, from, size, packets, now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	source := from.addr()
	if c.bannedAddr(source) {
		return nil, dropBannedSource
	}
	if c.legs.get(from) != nil {
		return nil, dropTaken // a worker was faster; the viewer will send again
	}
	ci := c.pins[pinKey{source, from.port()}]
	// A circuit that still waits for its viewer, from wherever, goes before one whose viewer may have come back.
	if anyone := c.pins[pinKey{netip.Addr{}, from.port()}]; anyone != nil && (ci == nil || ci.viewer.Load() != nil && anyone.viewer.Load() == nil) {
		ci = anyone
	}
	if ci == nil {
		return nil, dropStranger
	}
	if old := ci.viewer.Load(); old != nil && now-ci.viewerSeen.Load() < int64(repinSilence) {
		return nil, dropFollowBusy
	}
	c.setViewer(ci, from, now)
	return ci.pass(viewerSide, size, packets, now)
}

// follow moves a viewer leg to the address from which its connection goes on, if the old one has gone silent.
func (c *core) follow(ci *circuit, from legKey, size, packets int, now int64) (*leg, drop) {
	if now-ci.viewerSeen.Load() < int64(followSilence) {
		return nil, dropFollowBusy
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.circuits[ci.id] != ci || ci.viewer.Load() == nil:
		return nil, dropNoPeer
	case c.bannedAddr(from.addr()):
		return nil, dropBannedSource
	case c.legs.get(from) != nil:
		return nil, dropTaken
	case now-ci.moved < int64(followEvery):
		return nil, dropFollowOften
	}
	c.setViewer(ci, from, now)
	c.counts.viewersFollowed.Add(1)
	return ci.pass(viewerSide, size, packets, now)
}

// signal handles a control packet at a media port and appends the answer to out, which has room for one.
func (c *core) signal(from legKey, p []byte, now int64, out []byte) ([]byte, drop) {
	s, err := relaywire.ParseSignal(p)
	if err != nil {
		return nil, dropMalformed
	}
	if s.Type != relaywire.TypeKeepalive && s.Type != relaywire.TypeRelease {
		return nil, dropMisplaced
	}
	l := c.legs.get(from)
	if l != nil && l.side == viewerSide {
		return nil, dropMisplaced
	}
	if l == nil || l.circuit.id != s.Circuit {
		return c.straySignal(from, s, p, now, out)
	}
	ci := l.circuit
	if d := ci.believe(s, p); d != dropNone {
		return nil, d
	}
	return c.obey(ci, s, now, out), dropNone
}

// believe checks a signal's MAC, then moves the counter: a counter works once.
func (ci *circuit) believe(s relaywire.Signal, p []byte) drop {
	if !relaywire.CheckSignal(p, ci.secret.Load()) {
		return dropMAC
	}
	for {
		was := ci.counter.Load()
		if s.Counter <= was {
			return dropReplay
		}
		if ci.counter.CompareAndSwap(was, s.Counter) {
			return dropNone
		}
	}
}

// straySignal handles a signal that does not come from its circuit's known address: the host's NAT gave it a new one, or the
// circuit is gone. Both are bounded over all sources.
func (c *core) straySignal(from legKey, s relaywire.Signal, p []byte, now int64, out []byte) ([]byte, drop) {
	if !c.stray.take(now) {
		return nil, dropSource
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ci := c.circuits[s.Circuit]
	if ci == nil {
		return relaywire.AppendUnknown(out, s.Circuit, s.Counter), dropUnknown
	}
	if int(ci.port) != from.port() {
		return nil, dropMisplaced
	}
	if d := ci.believe(s, p); d != dropNone {
		return nil, d
	}
	if c.legs.get(from) != nil {
		return nil, dropTaken
	}
	if s.Type == relaywire.TypeKeepalive {
		c.setHost(ci, from)
		c.counts.hostsFollowed.Add(1)
		return c.alive(ci, s, now, out), dropNone
	}
	c.close(ci, endReleased, now)
	return c.answer(ci, s, relaywire.TypeReleased, out), dropNone
}

func (c *core) obey(ci *circuit, s relaywire.Signal, now int64, out []byte) []byte {
	if s.Type == relaywire.TypeKeepalive {
		return c.alive(ci, s, now, out)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.circuits[ci.id] == ci {
		c.close(ci, endReleased, now)
	}
	return c.answer(ci, s, relaywire.TypeReleased, out)
}

func (c *core) alive(ci *circuit, s relaywire.Signal, now int64, out []byte) []byte {
	ci.hostSeen.Store(now)
	return c.answer(ci, s, relaywire.TypeAlive, out)
}

func (c *core) answer(ci *circuit, s relaywire.Signal, t relaywire.Type, out []byte) []byte {
	a := relaywire.Signal{
		Type: t, Flags: ci.flags(c.draining.Load()), Circuit: ci.id, Counter: s.Counter, TimeMillis: ci.expiry.Load(),
	}
	return relaywire.AppendSignal(out, &a, ci.secret.Load())
}

// clock is the core's time in nanoseconds. It is monotonic and begins an hour before the relay does, so that "long ago"
// can be said with a positive number.
type clock struct{ zero time.Time }

func newClock() clock { return clock{zero: time.Now().Add(-time.Hour)} }

func (c clock) now() int64 { return int64(time.Since(c.zero)) }
