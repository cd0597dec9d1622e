package encode

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/unitsocket"
)

func (r *run) heartbeat(now media.Time) *pluginpb.EncodeEvent {
	return &pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Heartbeat{Heartbeat: &pluginpb.EncodeHeartbeat{
		Time: int64(now), FramesIn: r.stats.in, UnitsOut: r.stats.out, Dropped: r.stats.dropped,
		LastFrameTime: int64(r.stats.lastFrame), Black: r.look.last.black, PictureHash: r.look.last.hash,
	}}}
}

// attach starts giving units to a watcher: the first will be a keyframe. units is where the lane may write to, if not nil.
func (r *run) attach(units *unitsocket.Writer) error {
	if r.plan.watched {
		return ErrWatched
	}
	if units != nil {
		socket, err := units.Socket()
		if err != nil {
			return err
		}
		r.socket = socket
	}
	if r.unit != nil { // made for the watcher before, who never took it
		r.unit = nil
		r.next--
		r.settle()
	}
	r.plan.watched, r.plan.key, r.needKey = true, true, true
	r.handed = r.emitted.Load() // what the watcher before did not emit was for nobody
	return nil
}

func (r *run) detach() {
	r.plan.watched = false
	r.hangUp()
}

// hangUp gives the host runtime's socket up; nothing is lent then. A unit that is being written goes to nobody.
func (r *run) hangUp() {
	if r.socket == nil {
		return
	}
	if r.writing && !r.lane.Settle(0) {
		_ = unix.Shutdown(int(r.socket.Fd()), unix.SHUT_RDWR) // fails when the host runtime has left
		for !r.lane.Settle(stalledAfter) {                    // not long: the socket is down
		}
	}
	_ = r.socket.Close()
	r.socket = nil
}

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

// watch gives events to emit until ctx or the run ends, except units that the lane writes; units may be nil.
func (r *run) watch(ctx context.Context, units *unitsocket.Writer, emit func(*pluginpb.EncodeEvent) error) error {
	attach := func() error {
		if err := ctx.Err(); err != nil { // nobody would detach
			return err
		}
		return r.attach(units)
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
			if event.GetUnit() != nil {
				r.emitted.Add(1)
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
