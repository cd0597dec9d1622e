package encode

import (
	"context"
	"log/slog"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// settings are what a run was started with.
type settings struct {
	method    *Method
	codec     media.Codec
	bps       uint32
	fps       float64
	keepalive float64
	options   map[string]string
}

// run is one encoding run. Its loop owns everything below the channels; others send commands.
type run struct {
	log *slog.Logger
	in  intake

	pictures chan gstpipe.Frame
	results  chan result
	commands chan func()
	out      chan *pluginpb.EncodeEvent // to Watch; unbuffered
	done     chan struct{}              // closed after the loop, when err is set
	err      error

	settings
	plan     planner
	encoder  *encoder
	waiting  gstpipe.Frame
	last     gstpipe.Frame
	flight   flight
	unit     *pluginpb.EncodeEvent // waits to be taken
	beat     *pluginpb.EncodeEvent // the same; a newer one replaces it
	beatAt   media.Time
	look     lookout
	stats    stats
	faults   faults
	params   []byte // parameter sets of the current pipeline
	noDMABuf bool   // importing DMA-BUF pictures failed
	needKey  bool   // whoever takes the units has no keyframe yet
	next     uint64 // sequence
}

// stats are the counters of heartbeats.
type stats struct {
	in, out, dropped uint64
	lastFrame        media.Time
}

func newRun(log *slog.Logger, in intake, s settings) *run {
	r := &run{
		log: log, in: in, settings: s,
		pictures: make(chan gstpipe.Frame, pictureQueue),
		results:  make(chan result, unitQueue),
		commands: make(chan func(), commandQueue),
		out:      make(chan *pluginpb.EncodeEvent),
		done:     make(chan struct{}),
	}
	r.plan.pace.set(s.fps)
	if s.keepalive > 0 {
		r.plan.keepalive = time.Duration(float64(time.Second) / s.keepalive)
	}
	return r
}

// loop runs until ctx ends or the run fails; then nothing of it is left.
func (r *run) loop(ctx context.Context) {
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	intakeDone := make(chan error, 1)
	go func() { intakeDone <- r.in.run(open, func(f gstpipe.Frame) bool { return r.deliver(open, f) }) }() // ends with open, awaited below
	err, intakeErr := r.work(ctx, intakeDone)
	// Pictures go back first, so that the capture plugin has its credit; then the source; then those who wait are told.
	r.drop()
	cancel()
	if !intakeErr {
		<-intakeDone
	}
	r.drain()
	r.in.close()
	r.err = err
	close(r.done)
}

// deliver is called by the intake.
func (r *run) deliver(ctx context.Context, f gstpipe.Frame) bool {
	select {
	case r.pictures <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// work is the loop proper; intakeErr tells that the intake has ended.
func (r *run) work(ctx context.Context, intakeDone <-chan error) (err error, intakeErr bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake, err := r.step(media.Now())
		if err != nil {
			return err, false
		}
		out, event := r.offer()
		timer.Reset(wake)
		select {
		case f := <-r.pictures:
			r.arrived(f)
		case u := <-r.results:
			err = r.finished(u)
		case command := <-r.commands:
			command()
		case out <- event:
			r.taken(event)
		case <-timer.C:
		case err := <-intakeDone:
			return err, true
		case <-ctx.Done():
			return nil, false
		}
		if err != nil {
			return err, false
		}
	}
}

// step does what is due and returns how long nothing will be.
func (r *run) step(now media.Time) (time.Duration, error) {
	if now >= r.beatAt {
		r.beatAt = now.Add(heartbeatEvery)
		r.beat = r.heartbeat(now)
	}
	if err := r.checkFlight(now); err != nil {
		return 0, err
	}
	act, at := r.plan.next(now)
	for act != actNothing {
		if err := r.begin(act, now); err != nil {
			return 0, err
		}
		act, at = r.plan.next(now)
	}
	wake := min(at, r.beatAt)
	if r.flight.active {
		wake = min(wake, r.flight.pushed.Add(lostAfter))
	}
	return max(wake.Sub(now), 0), nil
}

// offer is the event that waits to be taken, units first; a nil channel when there is none or nobody watches.
func (r *run) offer() (chan<- *pluginpb.EncodeEvent, *pluginpb.EncodeEvent) {
	switch {
	case !r.plan.watched:
		return nil, nil
	case r.unit != nil:
		return r.out, r.unit
	case r.beat != nil:
		return r.out, r.beat
	}
	return nil, nil
}

func (r *run) taken(event *pluginpb.EncodeEvent) {
	if event == r.unit {
		r.unit = nil
		r.stats.out++
		r.settle()
		return
	}
	r.beat = nil
}

// arrived makes f the waiting picture; what it supersedes goes back at once.
func (r *run) arrived(f gstpipe.Frame) {
	r.stats.in++
	if !f.Picture.Valid() { // the source sent a buffer without a picture
		r.stats.dropped++
		return
	}
	r.stats.lastFrame = f.Capture
	if r.waiting.Picture.Valid() {
		r.waiting.Picture.Release()
		r.stats.dropped++
	}
	r.waiting, r.plan.waiting = f, true
	r.last.Picture.Release()
	r.plan.last = false
}

// drop gives every picture back and ends the pipeline.
func (r *run) drop() {
	r.closeEncoder()
	r.land()
	r.last.Picture.Release()
	r.waiting.Picture.Release()
}

// drain gives back pictures that the intake delivered last.
func (r *run) drain() {
	for {
		select {
		case f := <-r.pictures:
			f.Picture.Release()
		default:
			return
		}
	}
}
