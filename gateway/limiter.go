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

func newLimiter(burst int, every time.Duration, most int) *limiter {
	return &limiter{burst: float64(burst), every: every, most: most, buckets: map[string]bucket{}}
}

// take takes one token of key. When there is none it returns how long until the next.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.burst
	if b, known := l.buckets[key]; known {
		left = min(b.left+float64(now.Sub(b.at))/float64(l.every), l.burst)
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
		if b.left+float64(now.Sub(b.at))/float64(l.every) >= l.burst {
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

// addressKey is what counts as one address: an IPv4 address, or the /64 that one IPv6 customer has at least.
func addressKey(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// lockedFor is how long an account with this many refused sign-ins, the last at failedAt, takes no more.
func lockedFor(failed int, failedAt, now time.Time) time.Duration {
	if failed < freeFailures {
		return 0
	}
	lock := maxLock
	if doublings := failed - freeFailures; doublings < 20 {
		lock = min(time.Second<<doublings, maxLock)
	}
	return max(failedAt.Add(lock).Sub(now), 0)
}
