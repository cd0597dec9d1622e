package relaypath

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// Paths decides where a circuit's datagrams come from and go to. Time, and where connections are, come in; labels and actions go out.
// It is not safe for concurrent use.
type Paths struct {
	label func() netip.AddrPort // a fresh one
	seed  maphash.Seed

	leg     *path // what the relay carries as it is; nil: nothing
	offered map[uint32]*path
	labels  map[netip.AddrPort]*path // with those that candidates have no more, while a connection is there
	holding time.Time                // until when no connection moves
}

// path is one address of a viewer at the relay.
type path struct {
	label     netip.AddrPort
	candidate uint32
	heard     time.Time
	credit    int      // bytes it sent and was not sent
	waiting   [][]byte // for when it has sent more
	recent    [recentDatagrams]uint64
	next      int
	handshake bool      // it began with a handshake: the leg if its viewer proves itself, but nothing moves here
	arrived   time.Time // when a proven connection was first seen here
	doubted   bool      // somebody copied what came from here: no leg, never
}

// Where says where a datagram goes.
type Where uint8

// The places.
const (
	Nowhere     Where = iota // it is dropped, or waits
	ToLeg                    // to the relay as it is
	ToCandidate              // as an ANSWER
)

// Action is what is to be done besides. Confirm comes first.
type Action struct {
	Confirm uint32   // the candidate that is the viewer's leg from now on; 0: none
	ToLeg   [][]byte // datagrams to send there then
	Settle  bool     // call Settled after settle
}

// At says whether a proven connection has its peer at a label.
type At func(label netip.AddrPort) bool

// NewPaths returns the Paths of a circuit without a viewer. label makes labels that no path of the host has had.
func NewPaths(label func() netip.AddrPort) *Paths {
	return &Paths{label: label, seed: maphash.MakeSeed(), offered: map[uint32]*path{}, labels: map[netip.AddrPort]*path{}}
}

// Bound begins a new leg of the host: the relay numbers candidates anew. viewer says whether it still has the viewer's leg.
func (p *Paths) Bound(viewer bool) {
	clear(p.offered)
	switch {
	case p.leg == nil:
	case viewer:
		p.leg.candidate = 0
	default:
		p.leg = nil
	}
}

// Offered takes a datagram that came from a candidate and returns the label to show it under. ready are datagrams that may go to the
// candidate now.
func (p *Paths) Offered(candidate uint32, datagram []byte, now time.Time, at At) (label netip.AddrPort, ready [][]byte, ok bool) {
	if p.leg != nil && candidate == p.leg.candidate { // the relay has not read the CONFIRM yet
		return p.leg.label, nil, true
	}
	q := p.offered[candidate]
	if q == nil {
		q = p.enter(candidate, now, at)
		if q.handshake = !short(datagram); !q.handshake {
			q.credit = probes
		}
	}
	q.heard = now
	q.credit += len(datagram)
	for len(q.waiting) > 0 && len(q.waiting[0]) <= q.credit {
		q.credit -= len(q.waiting[0])
		ready = append(ready, q.waiting[0])
		q.waiting = q.waiting[1:]
	}
	if !short(datagram) {
		return q.label, ready, true
	}
	sum := maphash.Bytes(p.seed, datagram)
	for _, o := range p.offered {
		if o != q && now.Sub(o.heard) <= suspense && o.brought(sum) {
			p.doubt(o, now, at)
			q = p.doubt(q, now, at)
		}
	}
	q.recent[q.next] = sum
	q.next = (q.next + 1) % recentDatagrams
	return q.label, ready, q.handshake || !now.Before(p.holding)
}

// short tells whether a datagram belongs to a connection that exists, and so could move it.
func short(datagram []byte) bool { return len(datagram) > 0 && datagram[0]&0x80 == 0 }

func (q *path) brought(sum uint64) bool {
	for _, s := range q.recent {
		if s == sum {
			return true
		}
	}
	return false
}

// enter gives a candidate a path.
func (p *Paths) enter(candidate uint32, now time.Time, at At) *path {
	if len(p.offered) >= maxPaths {
		var oldest *path
		for _, o := range p.offered {
			if oldest == nil || o.heard.Before(oldest.heard) {
				oldest = o
			}
		}
		p.retire(oldest, at)
	}
	q := &path{label: p.label(), candidate: candidate, heard: now}
	p.offered[candidate] = q
	p.labels[q.label] = q
	return q
}

// doubt takes a path from its candidate: if that brings more, it has to prove itself again, under another label, which is returned.
// The bytes that it sent are its own. A handshake is not disturbed: nothing moves there, so there is nothing to doubt.
func (p *Paths) doubt(q *path, now time.Time, at At) *path {
	if q == p.leg || q.handshake {
		return q
	}
	p.holding = now.Add(hold)
	q.doubted = true
	p.retire(q, at)
	fresh := p.enter(q.candidate, now, at)
	fresh.credit, fresh.recent, fresh.next = max(q.credit, probes), q.recent, q.next
	return fresh
}

// retire forgets a path, but for its label while a connection is there.
func (p *Paths) retire(q *path, at At) {
	if p.offered[q.candidate] == q {
		delete(p.offered, q.candidate)
	}
	for label, o := range p.labels {
		if o != p.leg && p.offered[o.candidate] != o && !at(label) {
			delete(p.labels, label)
		}
	}
}

// Received takes a datagram that came over the leg and returns the label to show it under.
func (p *Paths) Received(datagram []byte, now time.Time, at At) (label netip.AddrPort, ok bool) {
	if p.leg == nil {
		return netip.AddrPort{}, false
	}
	if len(p.offered) > 0 && short(datagram) {
		sum := maphash.Bytes(p.seed, datagram)
		for _, o := range p.offered {
			if o != p.leg && now.Sub(o.heard) <= suspense && o.brought(sum) {
				p.doubt(o, now, at)
			}
		}
	}
	return p.leg.label, true
}

// Sending says where a datagram for a label goes; ToCandidate spends what the candidate has sent.
//
// QUIC sends to a label where no proven connection is to shake hands or to validate a path, which is for the candidate. Where a proven
// connection is, QUIC has moved it and validated the path, and it is a stream: that goes over the leg, wherever that is.
func (p *Paths) Sending(label netip.AddrPort, datagram []byte, now time.Time, at At) (Where, uint32, Action) {
	q := p.labels[label]
	switch {
	case q == nil:
		return Nowhere, 0, Action{}
	case q == p.leg:
		if len(p.offered) > 0 && !at(label) {
			return ToLeg, 0, p.came(now, at)
		}
		return ToLeg, 0, Action{}
	case at(label):
		a := p.move(q, now)
		return ToLeg, 0, a
	case q.doubted:
		return Nowhere, 0, Action{}
	case len(q.waiting) == 0 && len(datagram) <= q.credit:
		q.credit -= len(datagram)
		return ToCandidate, q.candidate, Action{}
	case len(q.waiting) < maxWaiting:
		q.waiting = append(q.waiting, append([]byte(nil), datagram...))
	}
	return Nowhere, 0, Action{}
}

// came notes that QUIC validates the leg although it has moved the connection away: a packet came over the leg, perhaps late. The
// connection has to settle once more.
func (p *Paths) came(now time.Time, at At) (a Action) {
	for _, q := range p.offered {
		if !q.arrived.IsZero() && at(q.label) {
			q.arrived = now
			a.Settle = true
		}
	}
	return a
}

// move makes q the leg when the connection has settled there.
func (p *Paths) move(q *path, now time.Time) Action {
	switch {
	case q.doubted || q.handshake:
		return Action{}
	case q.arrived.IsZero():
		q.arrived = now
		return Action{Settle: true}
	case now.Sub(q.arrived) < settle || now.Before(p.holding):
		return Action{}
	}
	return p.confirm(q)
}

// Settled looks whether a connection has settled at a new address, so that the leg moves although nothing is sent.
func (p *Paths) Settled(now time.Time, at At) Action {
	for _, q := range p.offered {
		if q != p.leg && !q.arrived.IsZero() && at(q.label) {
			if a := p.move(q, now); a.Confirm != 0 {
				return a
			}
		}
	}
	return Action{}
}

// Proven makes the path on which a connection shook hands the leg, because its viewer has proven itself, whatever was the leg before.
func (p *Paths) Proven(label netip.AddrPort) Action {
	q := p.labels[label]
	if q == nil || q == p.leg || !q.handshake {
		return Action{}
	}
	return p.confirm(q)
}

func (p *Paths) confirm(q *path) Action {
	if p.leg != nil && p.labels[p.leg.label] == p.leg {
		delete(p.labels, p.leg.label)
	}
	delete(p.offered, q.candidate)
	p.leg = q
	a := Action{Confirm: q.candidate, ToLeg: q.waiting}
	q.waiting = nil
	return a
}
