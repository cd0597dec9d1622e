package encode

import (
	"time"

	"github.com/wavry/fleet/hostruntime/media"
)

// pace limits a rate in the long run and lets a picture through that comes up to a whole interval early (the generic cell rate
// algorithm). A source that runs at the limit with some jitter loses nothing, and a picture that went late makes none after it wait:
// with less than an interval each of those would, for as long as the source runs at the limit, by what the late one exceeded.
//
// What was used up of that interval comes back with the next pictures, since the limit is a little above the rate. At exactly the rate
// every picture would have to wait for as long as the source runs, once one came very late and the next on time again.
type pace struct {
	interval time.Duration // 0: no limit; a paceSlack shorter than the rate's
	due      media.Time    // when the next picture would come at the exact rate
	last     media.Time    // when the last one went
}

// set changes the rate in pictures per second; 0 or less takes the limit off.
func (p *pace) set(fps float64) {
	p.interval = 0
	if fps > 0 {
		p.interval = time.Duration(float64(time.Second) / (fps * (1 + paceSlack)))
	}
	p.due = p.last.Add(p.interval) // the picture after the last one comes by the new rate already
}

// at is the earliest time for the next picture.
func (p *pace) at() media.Time { return p.due.Add(-p.interval) }

// sent notes that a picture went at now.
func (p *pace) sent(now media.Time) {
	p.due = max(p.due, now).Add(p.interval)
	p.last = now
}
