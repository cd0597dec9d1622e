package encode

import (
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// lend lets the lane go on alone while only ordinary pictures and units are to be expected, and reports whether it does.
func (r *run) lend() bool {
	if r.socket == nil || r.encoder == nil || !r.ordinary() {
		return false
	}
	flight := r.flight.frame
	flight.Repeat = r.flight.repeat
	r.lent = r.lane.Lend(&gstpipe.Terms{
		Pipeline: r.encoder.pipeline, Layout: r.layout, Base: r.encoder.base, Duration: r.encoder.duration(), Interval: r.plan.pace.interval,
		Oldest: oldestPicture, Buffers: r.in.buffers(), Units: int(r.socket.Fd()), Codec: r.codec,
	}, &gstpipe.Turn{
		Waiting: r.waiting, Last: r.last, Flight: flight,
		Due: r.plan.pace.due, Sent: r.plan.sentAt, At: r.encoder.at, Next: r.next,
	})
	return r.lent
}

// ordinary reports whether nothing is wanted or under way that the lane knows nothing of.
func (r *run) ordinary() bool {
	if !r.plan.watched || r.plan.key || r.needKey || r.unit != nil || r.handed != r.emitted.Load() || !r.encoder.pushed || !r.spare() {
		return false
	}
	if r.encoder.in.DMABuf || !r.encoder.fits(r.layout, false) {
		return false
	}
	for _, f := range []*gstpipe.Frame{&r.waiting, &r.last, &r.flight.frame} {
		if f.Picture.Valid() && (f.Picture.DMABuf() || !gstpipe.SameLayout(f.Picture.Layout(), r.layout)) {
			return false
		}
	}
	return true
}

// reclaim takes back what was lent. Whoever looks at the run's state or changes it calls it first.
func (r *run) reclaim() {
	if !r.lent && !r.writing {
		return
	}
	turn, done := r.lane.Take()
	if r.lent {
		r.lent = false
		r.waiting, r.last = turn.Waiting, turn.Last
		r.flight = flight{active: turn.Flight.Picture.Valid(), frame: turn.Flight, pushed: turn.Sent, repeat: turn.Flight.Repeat}
		r.plan.waiting, r.plan.last = r.waiting.Picture.Valid(), r.last.Picture.Valid()
		r.plan.pace.due, r.plan.pace.last, r.plan.sentAt = turn.Due, turn.Sent, turn.Sent
		r.encoder.at, r.next = turn.At, turn.Next
	}
	r.count(done)
	r.settle()
	r.see(r.newest(), media.Now())
}

// count takes over what the lane did since it was last asked.
func (r *run) count(done gstpipe.Done) {
	r.stats.in += done.In - r.carried.In
	r.stats.out += done.Out - r.carried.Out
	r.stats.dropped += done.Dropped - r.carried.Dropped
	r.stats.lastFrame = max(r.stats.lastFrame, done.Captured)
	if done.Out > r.carried.Out {
		r.faults.lost, r.faults.pipelines = 0, 0
	}
	r.carried, r.writing = done, done.Writing
	if done.Err != nil {
		r.log.Warn("unit lost, the next will be a keyframe", "err", done.Err)
		r.plan.key, r.needKey = true, true
	}
}

// newest is the newest picture that is here.
func (r *run) newest() gstpipe.Frame {
	f := r.last
	for _, newer := range []gstpipe.Frame{r.flight.frame, r.waiting} {
		if newer.Picture.Valid() {
			f = newer
		}
	}
	return f
}

// see looks at f now and then.
func (r *run) see(f gstpipe.Frame, now media.Time) {
	if f.Picture.Valid() && r.look.due(now) {
		r.look.see(&f.Picture, now)
	}
}
