package relay

import "sync/atomic"

// gcra is a token bucket in one number, safe for concurrent use. Times are in nanoseconds on any one clock.
type gcra struct {
	every int64 // between two tokens
	burst int64 // depth of the bucket, as time
	full  atomic.Int64
}

// take takes one token and tells whether there was one.
func (g *gcra) take(now int64) bool { return takeFrom(&g.full, g.every, g.burst, now) }

func takeFrom(full *atomic.Int64, every, burst, now int64) bool {
	for {
		was := full.Load()
		next := max(was, now) + every
		if next-now > burst {
			return false
		}
		if full.CompareAndSwap(was, next) {
			return true
		}
	}
}

// sourceLimit is a token bucket per source address in fixed memory: addresses whose keyed hashes meet share one. IPv6 sources count
// by their /64, which is one customer.
type sourceLimit struct {
	seed    uint64
	buckets [sourceBuckets]atomic.Int64
}

func (s *sourceLimit) take(from legKey, now int64) bool {
	hi, lo := from.hi, from.lo
	if hi != 0 { // not IPv4 mapped
		lo = 0
	}
	h := (hi ^ s.seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>29 ^ lo) * 0xbf58476d1ce4e5b9
	return takeFrom(&s.buckets[(h^h>>32)%sourceBuckets], 1e9/sourceRate, sourceBurst*(1e9/sourceRate), now)
}

// rebindLimit is a token bucket for the BINDs and RENEWs of one circuit; core.mu guards it.
type rebindLimit struct{ full int64 }

func (l *rebindLimit) take(now int64) bool {
	next := max(l.full, now) + int64(rebindEvery)
	if next-now > rebindBurst*int64(rebindEvery) {
		return false
	}
	l.full = next
	return true
}
