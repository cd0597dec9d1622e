package relay

import (
	"encoding/binary"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// handle decides about a run of datagrams of one source at one media port. first is the first datagram, size the bytes of all of
// them, packets their number, now nanoseconds on the core's clock. It returns the leg to send the run to, or why not; dropOffer means
// that each datagram is to be given to offer. Control packets never get here.
//
// For the packet of a known leg it is one table lookup, one load and one compare-and-swap: no lock, no allocation.
func (c *core) handle(from legKey, first []byte, size, packets int, now int64) (*leg, drop) {
	l := c.legs.get(from)
	if l == nil {
		return nil, c.stranger(from, first)
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

// stranger looks at a packet of an unknown source: dropOffer if it may be a viewer's.
func (c *core) stranger(from legKey, first []byte) drop {
	switch kind, id := classify(first); {
	case kind == noise:
		return dropNoise
	case len(id) >= relaywire.IDLen:
		return dropOffer
	case kind == beginning && c.ports[from.port()].expecting.Load() > 0:
		return dropOffer
	default:
		return dropStranger
	}
}

type kind uint8

const (
	noise        kind = iota
	beginning         // the first packet of a connection
	continuation      // a later one, which shows one of the host's connection ids
)

const (
	minInitial  = 1200 // RFC 9000 section 14.1
	minShort    = 1 + relaywire.IDLen + 4 + 16
	stunCookie  = 0x2112a442
	stunRequest = 0x0001
	stunHead    = 20
)

// classify looks at the first datagram of an unknown source, as RFC 9000 section 17 and RFC 8489 section 5 define its head. id is
// where its destination connection id begins, if that may be one of ours.
func classify(b []byte) (k kind, id []byte) {
	switch {
	case len(b) < stunHead:
		return noise, nil
	case b[0]&0xc0 == 0x40:
		if len(b) < minShort {
			return noise, nil
		}
		return continuation, b[1 : 1+relaywire.IDLen]
	case b[0]&0xc0 == 0xc0:
		return classifyLong(b)
	case b[0]&0xc0 == 0 && binary.BigEndian.Uint32(b[4:]) == stunCookie:
		if binary.BigEndian.Uint16(b) == stunRequest && int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHead {
			return beginning, nil
		}
	}
	return noise, nil
}

// quicV2 is version 2 (RFC 9369), whose Initial has the type bits 01; version 1 and what we do not know have 00.
const quicV2 = 0x6b3343cf

func classifyLong(b []byte) (k kind, id []byte) {
	version, idLen := binary.BigEndian.Uint32(b[1:]), int(b[5])
	if version == 0 || idLen < 8 || idLen > 20 || len(b) < 7+idLen {
		return noise, nil
	}
	if idLen == relaywire.IDLen {
		id = b[6 : 6+idLen]
	}
	initial := byte(0)
	if version == quicV2 {
		initial = 1
	}
	if b[0]>>4&3 != initial {
		return continuation, id
	}
	if len(b) < minInitial {
		return noise, nil
	}
	return beginning, id
}

// signal handles a control packet at a media port and appends the answer to out, which has room for one.
func (c *core) signal(from legKey, p []byte, now int64, out []byte) ([]byte, drop) {
	s, err := relaywire.ParseSignal(p)
	if err != nil {
		return nil, dropMalformed
	}
	if s.Type != relaywire.TypeKeepalive && s.Type != relaywire.TypeRelease && s.Type != relaywire.TypeConfirm {
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
	if s.Type != relaywire.TypeRelease {
		c.setHost(ci, from)
		c.counts.hostsFollowed.Add(1)
	}
	return c.obeyLocked(ci, s, now, out), dropNone
}

func (c *core) obey(ci *circuit, s relaywire.Signal, now int64, out []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.obeyLocked(ci, s, now, out)
}

// obeyLocked does what a believed signal says; c.mu is held.
func (c *core) obeyLocked(ci *circuit, s relaywire.Signal, now int64, out []byte) []byte {
	there := c.circuits[ci.id] == ci
	switch {
	case s.Type == relaywire.TypeRelease:
		if there {
			c.close(ci, endReleased, now)
		}
		return c.answer(ci, s, relaywire.TypeReleased, out)
	case s.Type == relaywire.TypeConfirm && there:
		c.confirm(ci, s.Candidate, now)
		fallthrough
	default:
		ci.hostSeen.Store(now)
		return c.answer(ci, s, answerType(s.Type), out)
	}
}

func answerType(t relaywire.Type) relaywire.Type {
	if t == relaywire.TypeConfirm {
		return relaywire.TypeConfirmed
	}
	return relaywire.TypeAlive
}

func (c *core) answer(ci *circuit, s relaywire.Signal, t relaywire.Type, out []byte) []byte {
	a := relaywire.Signal{
		Type: t, Flags: ci.flags(c.draining.Load()), Circuit: ci.id, Counter: s.Counter, TimeMillis: ci.expiry.Load(),
		Candidate: ci.confirmed,
	}
	return relaywire.AppendSignal(out, &a, ci.secret.Load())
}

// clock is the core's time in nanoseconds. It is monotonic and begins an hour before the relay does, so that "long ago"
// can be said with a positive number.
type clock struct{ zero time.Time }

func newClock() clock { return clock{zero: time.Now().Add(-time.Hour)} }

func (c clock) now() int64 { return int64(time.Since(c.zero)) }
