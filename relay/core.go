package relay

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// core is the relay without sockets and time: the tables and what changes them.
type core struct {
	// Set once.
	legs        *index
	ids         relaywire.IDs
	idKey       relaywire.IDKey
	ports       []portState
	maxCircuits int

	draining atomic.Bool
	policy   atomic.Pointer[policy]
	stray    gcra
	counts   counts

	// mu guards the following, the writes to legs, and the guarded fields of every circuit. It is taken when a circuit begins,
	// moves or ends and by candidates and what looks like one; never by a packet of a known leg.
	mu       sync.Mutex
	circuits map[uint64]*circuit
	pins     map[pinKey]*circuit
	offered  map[legKey]*candidate
	scratch  [16]byte
	ended    [numEnds]uint64
	succeed  uint64 // circuits that ended after data had gone both ways
	failed   uint64
	events   chan CircuitEvent
}

// portState is what is known per media port.
type portState struct {
	expecting atomic.Int32 // circuits that a new viewer address could pin
	waiting   int          // circuits without a viewer; core.mu
	anyone    int          // those of them that take any address: 0 or 1; core.mu
}

// pinKey is where a viewer may begin: source address (zero: any) and media port. There is one circuit per key: the one that waits,
// or the newest that was pinned from there.
type pinKey struct {
	source netip.Addr
	port   int
}

// counts are events that are no drops.
type counts struct {
	viewersPinned, viewersFollowed, hostsFollowed, cookies atomic.Uint64
	candidates, offers, answers                            atomic.Uint64
	bound, renewed, eventsLost                             atomic.Uint64
	rejects                                                [len(rejectNames)]atomic.Uint64
	drops                                                  [numDrops]atomic.Uint64 // those outside the workers
}

var rejectNames [12]struct{} // one more than the largest relaywire.Reason; a test compares

// end is why a circuit ended. The set is closed; each is a label of wavry_relay_circuits_ended_total.
type end uint8

const (
	endReleased end = iota
	endExpired
	endHostIdle
	endViewerIdle
	endNoViewer
	endRevoked
	numEnds
)

var endNames = [numEnds]string{"released", "expired", "host_idle", "viewer_idle", "no_viewer", "revoked"}

func newCore(ports, maxCircuits int, ids relaywire.IDKey) *core {
	c := &core{
		legs: newIndex(randomSeed()), ids: relaywire.NewIDs(ids), idKey: ids, ports: make([]portState, ports), maxCircuits: maxCircuits,
		circuits: map[uint64]*circuit{}, pins: map[pinKey]*circuit{}, offered: map[legKey]*candidate{},
		stray: gcra{every: 1e9 / strayRate, burst: 1e9 / 4}, events: make(chan CircuitEvent, eventQueue),
	}
	c.policy.Store(&policy{})
	return c
}

func randomSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

func (c *core) bannedAddr(a netip.Addr) bool { return c.policy.Load().bannedAddr(a) }

// setViewer makes from the viewer leg of ci; c.mu is held and from is free.
func (c *core) setViewer(ci *circuit, from legKey, now int64) {
	old := ci.viewer.Load()
	l := &leg{key: from, circuit: ci, side: viewerSide, sockaddr: makeSockaddr(from)}
	c.unpin(ci)
	if old == nil {
		c.stopWaiting(ci)
		c.counts.viewersPinned.Add(1)
	} else {
		c.legs.remove(old)
		c.counts.viewersFollowed.Add(1)
	}
	if !ci.named {
		ci.viewAt = from.addr()
	}
	c.repin(ci)
	c.legs.put(l)
	ci.viewerSeen.Store(now)
	ci.viewer.Store(l)
}

func (c *core) setHost(ci *circuit, from legKey) {
	if old := ci.host.Load(); old != nil {
		c.legs.remove(old)
	}
	l := &leg{key: from, circuit: ci, side: hostSide, sockaddr: makeSockaddr(from)}
	c.legs.put(l)
	ci.host.Store(l)
}

// wait puts a new circuit into the indexes that let its viewer in.
func (c *core) wait(ci *circuit) {
	p := &c.ports[ci.port]
	p.waiting++
	if !ci.viewAt.IsValid() {
		p.anyone++
	}
	c.repin(ci)
}

func (c *core) stopWaiting(ci *circuit) {
	p := &c.ports[ci.port]
	p.waiting--
	if !ci.viewAt.IsValid() {
		p.anyone--
	}
}

func (c *core) repin(ci *circuit) {
	key := pinKey{ci.viewAt, int(ci.port)}
	if c.pins[key] == nil {
		c.ports[ci.port].expecting.Add(1)
	} else if c.pins[key].viewer.Load() == nil {
		return // the waiting one goes first
	}
	c.pins[key] = ci
}

func (c *core) unpin(ci *circuit) {
	key := pinKey{ci.viewAt, int(ci.port)}
	if c.pins[key] == ci {
		delete(c.pins, key)
		c.ports[ci.port].expecting.Add(-1)
	}
}

// tell queues an event for Control. A full queue drops the newest: the master learns the same from the next load report and from
// the lease's end.
func (c *core) tell(e CircuitEvent) {
	select {
	case c.events <- e:
	default:
		c.counts.eventsLost.Add(1)
	}
}

// close ends a circuit; c.mu is held.
func (c *core) close(ci *circuit, why end, now int64) {
	ok := ci.answered.Load()
	if ok {
		c.succeed++
	} else {
		c.failed++
	}
	c.tell(CircuitEvent{
		Circuit: ci.id, Lease: ci.lease, Ended: true, Cause: endNames[why], Succeeded: ok, Bytes: ci.bytes.Load(), Packets: ci.packets.Load(),
		Age: time.Duration(now - ci.began),
	})
	c.unpin(ci)
	if v := ci.viewer.Load(); v != nil {
		c.legs.remove(v)
	} else {
		c.stopWaiting(ci)
	}
	if h := ci.host.Load(); h != nil {
		c.legs.remove(h)
	}
	for len(ci.candidates) > 0 {
		c.forget(ci.candidates[0])
	}
	delete(c.circuits, ci.id)
	c.ended[why]++
}

// freePort picks a media port for a circuit of the given host and viewer, or returns -1. A port is free when no other circuit on
// it has the same host address, and when its viewer could not be taken for the one another circuit there waits for.
//
// The first such port is taken, because the fewer sockets the traffic comes in at, the more one system call brings; but a port on
// which the viewer's address has no circuit yet is preferred, because then a reloaded page finds its circuit again.
func (c *core) freePort(host netip.AddrPort, viewer netip.Addr) int {
	second := -1
	for n := range c.ports {
		if !c.portFits(n, host, viewer) {
			continue
		}
		if c.pins[pinKey{viewer, n}] == nil {
			return n
		}
		if second < 0 {
			second = n
		}
	}
	return second
}

func (c *core) portFits(n int, host netip.AddrPort, viewer netip.Addr) bool {
	p := &c.ports[n]
	if p.anyone > 0 || (!viewer.IsValid() && p.waiting > 0) {
		return false
	}
	if other := c.pins[pinKey{viewer, n}]; other != nil && other.viewer.Load() == nil {
		return false
	}
	return c.legs.get(makeKey(host, n)) == nil
}

// sweep ends the circuits whose time has come. nowMillis is Unix time.
func (c *core) sweep(now, nowMillis int64) (ended int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ci := range c.circuits {
		if why, yes := ci.over(now, nowMillis); yes {
			c.close(ci, why, now)
			ended++
		} else {
			c.forgetIdle(ci, now)
		}
	}
	return ended
}

func (ci *circuit) over(now, nowMillis int64) (end, bool) {
	switch {
	case nowMillis > ci.expiry.Load()+leaseSkew.Milliseconds():
		return endExpired, true
	case now-ci.hostSeen.Load() > int64(hostIdle):
		return endHostIdle, true
	case ci.viewer.Load() == nil:
		return endNoViewer, now-ci.began > int64(pinWait)
	default:
		return endViewerIdle, now-ci.viewerSeen.Load() > int64(viewerIdle)
	}
}

func (c *core) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.circuits)
}

// farewell calls f with a DRAINING packet for each host leg.
func (c *core) farewell(byMillis int64, f func(port int, to netip.AddrPort, p []byte)) {
	type letter struct {
		to  legKey
		msg []byte
	}
	c.mu.Lock()
	letters := make([]letter, 0, len(c.circuits))
	for _, ci := range c.circuits {
		s := relaywire.Signal{
			Type: relaywire.TypeDraining, Flags: ci.flags(true), Circuit: ci.id, Counter: uint64(byMillis), TimeMillis: byMillis,
		}
		letters = append(letters, letter{ci.host.Load().key, relaywire.AppendSignal(nil, &s, ci.secret.Load())})
	}
	c.mu.Unlock()
	for _, l := range letters {
		f(l.to.port(), l.to.remote(), l.msg)
	}
}
