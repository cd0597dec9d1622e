package relay

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

type side uint8

const (
	hostSide side = iota
	viewerSide
)

// leg is one end of a circuit at one remote address. It never changes; a leg that moves is replaced.
type leg struct {
	key     legKey
	circuit *circuit
	side    side
	sockaddr
}

// circuit is a pairing of a host leg and a viewer leg. Workers read and write its atomics; core.mu guards the rest.
type circuit struct {
	// Set once.
	id     uint64
	port   uint16
	named  bool       // the lease names the viewer's address
	viewAt netip.Addr // the address a viewer may begin at: the lease's, or the one where it began last

	// Atomics, touched per packet.
	host, viewer atomic.Pointer[leg]
	cost         atomic.Int64 // nanoseconds << costShift per byte
	burst        atomic.Int64 // nanoseconds
	full         atomic.Int64 // when the token bucket is full again
	bytes        atomic.Uint64
	packets      atomic.Uint64
	answered     atomic.Bool // the host has sent data to its viewer
	viewerSeen   atomic.Int64

	// Atomics, touched per keepalive.
	secret   atomic.Pointer[relaywire.Key]
	counter  atomic.Uint64
	hostSeen atomic.Int64
	expiry   atomic.Int64 // Unix milliseconds

	// Guarded by core.mu.
	rate     uint64
	lease    string
	hostID   string
	hostKey  relaywire.PublicKey
	bindTime int64 // time of the newest BIND or RENEW, the host's clock
	bindID   uint64
	began    int64
	rebinds  rebindLimit

	candidates           []*candidate
	candidateIDs         uint32 // given out so far
	confirmed            uint32 // the candidate that is the viewer's leg; 0: none
	offerRate, probeRate int64  // see take
	offersOut, answersIn uint64 // counters of OFFERs and ANSWERs
}

// costShift is the fixed point of circuit.cost: 100 Gbit/s is 0.08 ns per byte.
const costShift = 20

func (c *circuit) setRate(bitsPerSecond uint64) {
	c.rate = bitsPerSecond
	cost := int64((8_000_000_000 << costShift) / bitsPerSecond)
	c.cost.Store(cost)
	c.burst.Store(max(int64(rateBurst), (minBurstBytes*cost)>>costShift))
}

// admit takes size bytes from the token bucket (the virtual scheduling form of GCRA: one number, one CAS) and tells whether
// they were there.
func (c *circuit) admit(size int, now int64) bool {
	need := int64(size) * c.cost.Load() >> costShift
	for {
		was := c.full.Load()
		next := max(was, now) + need
		if next-now > c.burst.Load() {
			return false
		}
		if c.full.CompareAndSwap(was, next) {
			return true
		}
	}
}

// touchEvery keeps circuits from writing the same cache line for every packet; nothing needs times finer than that.
const touchEvery = int64(5 * time.Millisecond)

func touch(at *atomic.Int64, now int64) {
	if now-at.Load() > touchEvery {
		at.Store(now)
	}
}

func (c *circuit) flags(draining bool) relaywire.Flags {
	var f relaywire.Flags
	if draining {
		f |= relaywire.FlagDraining
	}
	if c.viewer.Load() != nil {
		f |= relaywire.FlagPinned
	}
	return f
}
