package gateway

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket per key in bounded memory. Time is an argument.
type limiter struct {
	burst float64
	every time.Duration // per token
	most  int           // keys

	mu      sync.Mutex // guards the following
	buckets map[string]bucket
}

// bucket holds what was left at a time; a missing bucket is full.
type bucket struct {
	left float64
	at   time.Time
}

// now is what is there at a time. A clock that goes back gives nothing and takes nothing, so no wait is longer than burst periods.
func (b bucket) now(l *limiter, now time.Time) float64 {
	return min(b.left+float64(max(now.Sub(b.at), 0))/float64(l.every), l.burst)
}

func newLimiter(burst int, every time.Duration, most int) *limiter {
	return &limiter{burst: float64(burst), every: every, most: most, buckets: map[string]bucket{}}
}

// take takes one token of key. When there is none it returns how long until the next.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.burst
	if b, known := l.buckets[key]; known {
		left = b.now(l, now)
	} else if len(l.buckets) >= l.most {
		l.makeRoom(now)
	}
	if left < 1 {
		l.buckets[key] = bucket{left, now}
		return time.Duration((1 - left) * float64(l.every)), false
	}
	l.buckets[key] = bucket{left - 1, now}
	return 0, true
}

// makeRoom forgets full buckets, or some buckets when none is full: an attacker with that many keys gains a few tries more.
func (l *limiter) makeRoom(now time.Time) {
	for k, b := range l.buckets {
		if b.now(l, now) >= l.burst {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < l.most*9/10 {
			return
		}
		delete(l.buckets, k)
	}
}

// addressKeys is what an address counts as. An IPv4 address is one; of IPv6, one customer has a /64 at least, many a /56, and who asks for
// it a /48: each of the three counts, the larger with more room.
func addressKeys(a netip.Addr) []string {
	if a = a.Unmap().WithZone(""); !a.Is6() {
		return []string{a.String()}
	}
	keys := make([]string, 0, len(addressBits))
	for _, bits := range addressBits {
		keys = append(keys, prefixText(a, bits))
	}
	return keys
}

// addressBits are the prefixes of IPv6 that count; see addressKeys. Each has twice the room of the one before.
var addressBits = [3]int{64, 56, 48}

// networkKey is whose turn an address takes in the queue for hashing.
func networkKey(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return prefixText(a, 48)
	}
	return prefixText(a, 24)
}

func prefixText(a netip.Addr, bits int) string {
	p, err := a.Prefix(bits)
	if err != nil {
		return "unknown" // a unix socket of the embedding process
	}
	return p.String()
}
