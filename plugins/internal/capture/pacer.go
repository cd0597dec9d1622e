package capture

import (
	"time"

	"github.com/wavry/fleet/hostruntime/media"
)

// Pacer limits a rate without drifting. A zero Pacer allows everything.
type Pacer struct {
	period time.Duration
	next   media.Time // the earliest time of the next picture
}

// SetFramerate changes the limit; 0 lifts it.
func (p *Pacer) SetFramerate(fps float64) {
	p.period = 0
	if fps > 0 {
		p.period = time.Duration(float64(time.Second) / fps)
	}
	p.next = 0
}

// Wait is how long to wait before the next picture may be taken; 0 is now.
func (p *Pacer) Wait(now media.Time) time.Duration {
	if p.period == 0 || now >= p.next {
		return 0
	}
	return p.next.Sub(now)
}

// Taken says that a picture was taken now. The next one is due a period after this one was due, so that lateness does not add up;
// after a pause it counts from now.
func (p *Pacer) Taken(now media.Time) {
	if p.period == 0 {
		return
	}
	if now.Sub(p.next) > p.period {
		p.next = now
	}
	p.next = p.next.Add(p.period)
}
