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

// Wait is how long to wait before the next picture may be asked for; 0 is now. That is up to half a period before it is due, because
// compositors answer at their next refresh: asking exactly when due would miss it when both rates are equal. The schedule keeps
// the average rate at the limit all the same.
func (p *Pacer) Wait(now media.Time) time.Duration {
	early := p.next.Add(-p.period / 2)
	if p.period == 0 || now >= early {
		return 0
	}
	return early.Sub(now)
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
