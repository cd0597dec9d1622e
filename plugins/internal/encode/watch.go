package encode

import (
	"context"
	"errors"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

func (r *run) heartbeat(now media.Time) *pluginpb.EncodeEvent {
	return &pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Heartbeat{Heartbeat: &pluginpb.EncodeHeartbeat{
		Time: int64(now), FramesIn: r.stats.in, UnitsOut: r.stats.out, Dropped: r.stats.dropped,
		LastFrameTime: int64(r.stats.lastFrame), Black: r.look.last.black, PictureHash: r.look.last.hash,
	}}}
}

// attach starts giving units to a watcher: the first will be a keyframe.
func (r *run) attach() error {
	if r.plan.watched {
		return ErrWatched
	}
	if r.unit != nil { // made for the watcher before, who never took it
		r.unit = nil
		r.next--
		r.settle()
	}
	r.plan.watched, r.plan.key, r.needKey = true, true, true
	return nil
}

func (r *run) detach() { r.plan.watched = false }

// do runs f in the loop and returns its error.
func (r *run) do(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	select {
	case r.commands <- func() { answer <- f() }:
	case <-r.done:
		return r.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-r.done:
		return r.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is why the run is over.
func (r *run) ended() error {
	if r.err != nil {
		return r.err
	}
	return ErrStopped
}

// watch gives events to emit until ctx or the run ends.
func (r *run) watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error {
	attach := func() error {
		if err := ctx.Err(); err != nil { // nobody would detach
			return err
		}
		return r.attach()
	}
	if err := r.do(ctx, attach); err != nil {
		if errors.Is(err, ErrStopped) || ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer r.leave()
	for {
		select {
		case event := <-r.out:
			if err := emit(event); err != nil {
				return err
			}
		case <-r.done:
			return r.err
		case <-ctx.Done():
			return nil
		}
	}
}

// leave tells the loop that nobody takes units any more; it must reach it whatever became of the watcher's context.
func (r *run) leave() {
	select {
	case r.commands <- r.detach:
	case <-r.done:
	}
}
