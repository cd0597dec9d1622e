package relay

import (
	"github.com/wavry/fleet/relay/relaywire"
)

// candidate is an address that may be the viewer's: it has sent what a viewer could send, and the host has not said yet that it is
// one. Candidates live off the path of the packets of known legs; core.mu guards them.
type candidate struct {
	leg    leg // never in core.legs
	id     uint32
	rank   rank
	since  int64 // when it got its rank
	seen   int64
	credit int   // bytes that it sent and was not sent
	moving bool  // it began with a packet of a connection that exists
	rate   int64 // see take
}

// rank is how much a candidate has shown. When there is no room the lowest goes first, of them the oldest: a flood of what the host
// does not answer pushes out itself.
type rank uint8

const (
	silent   rank = iota // the host has sent it nothing
	answered             // the host has
	returned             // and it spoke after that: it is where it says
)

// offer takes a datagram that handle found worth a look and returns the leg of the host and the OFFERs to send there: one, or two for
// the halves of a long one. out has room for both.
func (c *core) offer(from legKey, p []byte, now int64, out []byte) (host *leg, packets [2][]byte, d drop) {
	if len(p) > maxDatagram {
		return nil, packets, dropTooBig
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bannedAddr(from.addr()) {
		return nil, packets, dropBannedSource
	}
	if c.legs.get(from) != nil {
		return nil, packets, dropTaken // it was confirmed meanwhile; QUIC will send again
	}
	ci, moving := c.circuitFor(from, p)
	if ci == nil {
		return nil, packets, dropStranger
	}
	k := c.offered[from]
	if k != nil && k.leg.circuit != ci {
		c.forget(k)
		k = nil
	}
	if (k == nil || k.rank == silent) && !take(&ci.offerRate, 1e9/offerRate, offerBurst*(1e9/offerRate), now) {
		return nil, packets, dropCandidateRate
	}
	if k == nil {
		if k = c.enter(ci, from, moving, now); k == nil {
			return nil, packets, dropCrowded
		}
	}
	if !take(&k.rate, 1e9/candidateRate, candidateBurst*(1e9/candidateRate), now) {
		return nil, packets, dropCandidateRate
	}
	k.seen = now
	k.credit = min(k.credit+len(p), maxCredit)
	if k.rank == answered {
		k.rank, k.since = returned, now
	}
	c.counts.offers.Add(1)
	w := relaywire.Carry{Type: relaywire.TypeOffer, Circuit: ci.id, Candidate: k.id, Datagram: p}
	if len(p) <= maxWhole {
		packets[0] = ci.carry(&w, out)
		return ci.host.Load(), packets, dropNone
	}
	w.Part, w.Datagram = relaywire.FirstHalf, p[:len(p)/2]
	packets[0] = ci.carry(&w, out)
	w.Part, w.Datagram = relaywire.SecondHalf, p[len(p)/2:]
	packets[1] = ci.carry(&w, out[len(packets[0]):])
	return ci.host.Load(), packets, dropNone
}

func (ci *circuit) carry(w *relaywire.Carry, out []byte) []byte {
	ci.offersOut++
	w.Counter = ci.offersOut
	return relaywire.AppendCarry(out[:0], w, ci.secret.Load())
}

// circuitFor finds the circuit whose viewer an unknown source may be: that of the connection id it shows, or, for the first packet of
// a connection, the one that its address may begin. moving says that the connection exists.
func (c *core) circuitFor(from legKey, p []byte) (ci *circuit, moving bool) {
	kind, id := classify(p)
	if n, ok := c.ids.Circuit(id, &c.scratch); ok {
		if ci := c.circuits[n]; ci != nil && int(ci.port) == from.port() {
			return ci, kind == continuation
		}
	}
	if kind != beginning {
		return nil, false
	}
	ci = c.pins[pinKey{from.addr(), from.port()}]
	// A circuit that still waits for its viewer, from wherever, goes before one whose viewer may have come back.
	anyone := c.pins[pinKey{port: from.port()}]
	if anyone != nil && (ci == nil || ci.viewer.Load() != nil && anyone.viewer.Load() == nil) {
		return anyone, false
	}
	return ci, false
}

// enter makes a candidate, or none when there is no room.
func (c *core) enter(ci *circuit, from legKey, moving bool, now int64) *candidate {
	if !c.makeRoom(ci, from, now) {
		return nil
	}
	ci.candidateIDs++
	k := &candidate{
		leg: leg{key: from, circuit: ci, side: viewerSide, sockaddr: makeSockaddr(from)}, id: ci.candidateIDs, since: now, seen: now, moving: moving,
	}
	ci.candidates = append(ci.candidates, k)
	c.offered[from] = k
	c.counts.candidates.Add(1)
	return k
}

// makeRoom lets a candidate at from in, if need be in the place of a weaker one: of its own address when that has its share, else of
// any. One that the host talks to keeps its place for candidateGrace.
func (c *core) makeRoom(ci *circuit, from legKey, now int64) bool {
	if len(c.offered) >= maxOfferedAll && len(ci.candidates) == 0 {
		return false
	}
	var weakest, ours *candidate
	same := 0
	for _, k := range ci.candidates {
		if weakest == nil || k.weaker(weakest) {
			weakest = k
		}
		if k.leg.key.hi != from.hi || k.leg.key.lo != from.lo {
			continue
		}
		same++
		if ours == nil || k.weaker(ours) {
			ours = k
		}
	}
	switch {
	case same >= maxCandidates/2:
		weakest = ours
	case len(ci.candidates) < maxCandidates && len(c.offered) < maxOfferedAll:
		return true
	}
	if weakest.rank > silent && now-weakest.since < int64(candidateGrace) {
		return false
	}
	c.forget(weakest)
	return true
}

func (k *candidate) weaker(o *candidate) bool {
	return k.rank < o.rank || k.rank == o.rank && k.since < o.since
}

// forget drops a candidate; c.mu is held.
func (c *core) forget(k *candidate) {
	ci := k.leg.circuit
	delete(c.offered, k.leg.key)
	for i, o := range ci.candidates {
		if o == k {
			last := len(ci.candidates) - 1
			ci.candidates[i], ci.candidates[last] = ci.candidates[last], nil
			ci.candidates = ci.candidates[:last]
			break
		}
	}
	if len(ci.candidates) == 0 {
		ci.candidates = nil
	}
}

// forgetIdle drops the candidates of ci that say nothing any more; c.mu is held.
func (c *core) forgetIdle(ci *circuit, now int64) {
	for i := len(ci.candidates) - 1; i >= 0; i-- {
		if now-ci.candidates[i].seen > int64(candidateIdle) {
			c.forget(ci.candidates[i])
		}
	}
}

// answerTo opens an ANSWER of a host and returns the candidate's leg and what to send there. Nobody gets more bytes than it sent, but
// for those with which QUIC asks a viewer that may have moved whether it is there (RFC 9000 section 8.2): a host asks when it has had a packet
// from there that only its viewer can have made, and the relay lets two a second through for all candidates of a circuit.
func (c *core) answerTo(from legKey, p []byte, now int64) (to *leg, datagram []byte, d drop) {
	w, err := relaywire.ParseCarry(p)
	if err != nil {
		return nil, nil, dropMalformed
	}
	l := c.legs.get(from)
	if w.Type != relaywire.TypeAnswer || w.Part != relaywire.Whole || l == nil || l.side != hostSide || l.circuit.id != w.Circuit {
		return nil, nil, dropMisplaced
	}
	ci := l.circuit
	if !relaywire.CheckCarry(p, ci.secret.Load()) {
		return nil, nil, dropMAC
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.Counter <= ci.answersIn {
		return nil, nil, dropReplay
	}
	ci.answersIn = w.Counter
	k := ci.candidateNamed(w.Candidate)
	switch {
	case k == nil:
		return nil, nil, dropNoCandidate
	case c.bannedAddr(k.leg.key.addr()):
		return nil, nil, dropBannedSource
	case len(w.Datagram) > k.credit && !ci.mayProbe(k, len(w.Datagram), now):
		return nil, nil, dropNoCredit
	}
	k.credit = max(0, k.credit-len(w.Datagram))
	if k.rank == silent {
		k.rank, k.since = answered, now
	}
	c.counts.answers.Add(1)
	return &k.leg, w.Datagram, dropNone
}

func (ci *circuit) mayProbe(k *candidate, size int, now int64) bool {
	return k.moving && size <= maxProbe && take(&ci.probeRate, 1e9/probeRate, probeBurst*(1e9/probeRate), now)
}

func (ci *circuit) candidateNamed(id uint32) *candidate {
	for _, k := range ci.candidates {
		if k.id == id {
			return k
		}
	}
	return nil
}

// confirm makes a candidate the viewer's leg, because the host says so; c.mu is held. A candidate that is unknown changes nothing: the
// host learns from the answer which one is the leg.
func (c *core) confirm(ci *circuit, id uint32, now int64) {
	k := ci.candidateNamed(id)
	if k == nil || c.legs.get(k.leg.key) != nil {
		return
	}
	c.forget(k)
	ci.confirmed = id
	c.setViewer(ci, k.leg.key, now)
}

// take takes one token from a bucket that is one number, as gcra does, without atomics.
func take(full *int64, every, burst, now int64) bool {
	next := max(*full, now) + every
	if next-now > burst {
		return false
	}
	*full = next
	return true
}
