package desktop

import "time"

// backoff is a delay that doubles from first to max.
type backoff struct {
	first, max time.Duration
	last       time.Duration
}

func (b *backoff) next() time.Duration {
	b.last = min(max(b.first, 2*b.last), b.max)
	return b.last
}

func (b *backoff) reset() { b.last = 0 }
