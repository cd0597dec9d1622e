package encode

import (
	"time"

	"github.com/wavry/fleet/hostruntime/media"
)

// action is what the run should do now.
type action uint8

const (
	actNothing action = iota
	actEncode         // the waiting picture
	actRepeat         // the last picture again
)

// planner decides when which picture is encoded. It is pure: time passes only as an argument. One picture may wait; one is in the
// encoder; none goes in while the unit before has not been taken, because a unit cannot be dropped without breaking the next.
type planner struct {
	pace      pace
	keepalive time.Duration // longest silence; 0: none is too long
	watched   bool          // somebody takes the units
	waiting   bool          // a new picture waits
	last      bool          // the last encoded picture is still held
	busy      bool          // a picture is in the encoder or its unit is not taken
	key       bool          // the next unit must be a keyframe
	sentAt    media.Time    // when the last picture went in
}

// forever is a time that does not come.
const forever = media.Time(1<<63 - 1)

// next says what to do at now, and, for actNothing, when to ask again if nothing happens before.
func (p *planner) next(now media.Time) (action, media.Time) {
	switch {
	case !p.watched || p.busy:
		return actNothing, forever
	case p.waiting:
		return p.nextWaiting(now)
	case p.last:
		return p.nextRepeat(now)
	}
	return actNothing, forever
}

// nextWaiting: a wanted keyframe does not wait for its turn.
func (p *planner) nextWaiting(now media.Time) (action, media.Time) {
	if at := p.pace.at(); !p.key && now < at {
		return actNothing, at
	}
	return actEncode, 0
}

func (p *planner) nextRepeat(now media.Time) (action, media.Time) {
	if p.key {
		return actRepeat, 0
	}
	if p.keepalive <= 0 {
		return actNothing, forever
	}
	if at := p.sentAt.Add(p.keepalive); now < at {
		return actNothing, at
	}
	return actRepeat, 0
}

// sent notes that a picture went into the encoder at now.
func (p *planner) sent(now media.Time) {
	p.pace.sent(now)
	p.sentAt = now
	p.busy = true
}
