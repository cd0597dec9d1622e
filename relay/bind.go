package relay

import (
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// binder answers BINDs and RENEWs. Verifier goroutines call it.
type binder struct {
	core                 *core
	verifier             *verifier
	mediaPorts           []uint16 // real port numbers by index
	defaultRate, maxRate uint64
	full                 func() bool // the relay is at its bandwidth
}

// answer opens and verifies the BIND of j and appends the answer to out; none means that it was dropped for the reason given.
func (b *binder) answer(j *bindJob, wall time.Time, out []byte) ([]byte, drop) {
	var req relaywire.Bind
	if relaywire.ParseBind(j.packet, &req) != nil {
		return nil, dropMalformed
	}
	token, shared, ok := b.verifier.open(j.packet, &req)
	if !ok {
		return nil, dropSeal
	}
	leg := relaywire.LegKey(shared, &req.Nonce)
	bound, reason := b.decide(&req, token, shared, leg, j, wall)
	switch {
	case reason == unknownCircuit:
		return relaywire.AppendUnknown(out, bound.Circuit, req.RequestID()), dropUnknown
	case reason != 0:
		b.core.counts.rejects[reason].Add(1)
		r := relaywire.Reject{RequestID: req.RequestID(), Reason: reason, RetryAfterMillis: retryAfter(reason)}
		return relaywire.AppendReject(out, &r, &leg), dropNone
	}
	bound.RequestID = req.RequestID()
	return relaywire.AppendBound(out, &bound, &leg), dropNone
}

// unknownCircuit is what decide says to a RENEW of a circuit the relay does not have; it is no reason on the wire.
const unknownCircuit = relaywire.Reason(255)

// retryAfter is what makes sense to try again at the same relay with the same lease.
func retryAfter(r relaywire.Reason) uint32 {
	switch r {
	case relaywire.RelayFull, relaywire.RateLimited:
		return 1000
	case relaywire.UnknownKey, relaywire.NotYetValid: // a key set or a clock may be behind
		return 2000
	default:
		return 0
	}
}

func (b *binder) decide(
	req *relaywire.Bind, token string, shared, leg relaywire.Key, j *bindJob, wall time.Time,
) (relaywire.Bound, relaywire.Reason) {
	pol := b.core.policy.Load()
	g, reason := b.verifier.check(token, pol.keys, wall)
	if reason != 0 {
		return relaywire.Bound{}, reason
	}
	// Only now, so that a relay whose clock is far off says so, and not that the host repeats itself.
	if wall.Sub(time.Unix(0, req.Time)).Abs() > bindWindow {
		return relaywire.Bound{}, relaywire.Replayed
	}
	if g.hostKey != nil && *g.hostKey != req.HostKey {
		return relaywire.Bound{}, relaywire.SignatureMismatch
	}
	b.verifier.remember(req.HostKey, shared)
	if pol.isRevoked(g.lease) || pol.bannedHost(g.host) || pol.bannedAddr(j.from.Addr()) {
		return relaywire.Bound{}, relaywire.Banned
	}
	return b.bind(g, req, leg, j)
}

// bind makes, moves or prolongs the circuit of g.
func (b *binder) bind(g *grant, req *relaywire.Bind, leg relaywire.Key, j *bindJob) (relaywire.Bound, relaywire.Reason) {
	c := b.core
	c.mu.Lock()
	defer c.mu.Unlock()
	ci := c.circuits[g.circuit]
	var reason relaywire.Reason
	switch {
	case ci == nil && req.Renew:
		return relaywire.Bound{Circuit: g.circuit}, unknownCircuit
	case ci == nil:
		ci, reason = b.begin(g, req, leg, j)
	default:
		reason = b.again(ci, g, req, leg, j)
	}
	if reason != 0 {
		return relaywire.Bound{}, reason
	}
	return relaywire.Bound{
		Circuit: ci.id, ExpiryMillis: ci.expiry.Load(), RateLimit: ci.rate, Port: b.mediaPorts[ci.port], Flags: ci.flags(c.draining.Load()),
		KeepaliveMillis: uint32(keepaliveInterval.Milliseconds()), IdleMillis: uint32(hostIdle.Milliseconds()),
		PinMillis: uint32(pinWait.Milliseconds()), Observed: j.from, IDs: c.idKey,
	}, 0
}

func (b *binder) begin(g *grant, req *relaywire.Bind, leg relaywire.Key, j *bindJob) (*circuit, relaywire.Reason) {
	c := b.core
	switch {
	case c.draining.Load():
		return nil, relaywire.Draining
	case len(c.circuits) >= c.maxCircuits || b.full():
		return nil, relaywire.RelayFull
	}
	port := c.freePort(j.from, g.viewer)
	if port < 0 {
		return nil, relaywire.RelayFull
	}
	ci := &circuit{
		id: g.circuit, port: uint16(port), named: g.viewer.IsValid(), viewAt: g.viewer,
		lease: g.lease, hostID: g.host, hostKey: req.HostKey, began: j.now,
	}
	ci.rebinds.take(j.now)
	b.renew(ci, g, req)
	ci.secret.Store(&leg)
	ci.hostSeen.Store(j.now)
	c.add(ci, makeKey(j.from, port))
	c.counts.bound.Add(1)
	c.tell(CircuitEvent{Circuit: ci.id, Lease: ci.lease})
	return ci, 0
}

// add enters a new circuit into all tables; c.mu is held and its port was checked.
func (c *core) add(ci *circuit, host legKey) {
	c.circuits[ci.id] = ci
	c.wait(ci)
	c.setHost(ci, host)
}

// again handles a BIND or RENEW for a circuit that exists. The same request twice is answered twice; an older one is a replay and
// changes nothing, wherever it comes from.
func (b *binder) again(ci *circuit, g *grant, req *relaywire.Bind, leg relaywire.Key, j *bindJob) relaywire.Reason {
	switch {
	case ci.lease != g.lease || ci.hostKey != req.HostKey:
		return relaywire.Replayed
	case req.Time == ci.bindTime && req.RequestID() == ci.bindID:
		return 0
	case req.Time <= ci.bindTime:
		return relaywire.Replayed
	case !ci.rebinds.take(j.now):
		return relaywire.RateLimited
	}
	if !req.Renew {
		if reason := b.rebind(ci, leg, j); reason != 0 {
			return reason
		}
	}
	b.renew(ci, g, req)
	b.core.counts.renewed.Add(1)
	return 0
}

func (b *binder) rebind(ci *circuit, leg relaywire.Key, j *bindJob) relaywire.Reason {
	key := makeKey(j.from, int(ci.port))
	if host := ci.host.Load(); host.key != key {
		if b.core.legs.get(key) != nil {
			return relaywire.RelayFull
		}
		b.core.setHost(ci, key)
	}
	ci.secret.Store(&leg)
	ci.counter.Store(0)
	ci.offersOut, ci.answersIn = 0, 0
	ci.hostSeen.Store(j.now)
	return 0
}

// renew takes over what a lease may change during its life. An older token of the same lease never shortens it.
func (b *binder) renew(ci *circuit, g *grant, req *relaywire.Bind) {
	rate := g.rate
	if rate == 0 {
		rate = b.defaultRate
	}
	ci.setRate(min(rate, b.maxRate))
	ci.bindTime, ci.bindID = req.Time, req.RequestID()
	ci.expiry.Store(max(ci.expiry.Load(), g.expiry.UnixMilli()))
}
