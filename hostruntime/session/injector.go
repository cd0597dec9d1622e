package session

import (
	"context"
	"log/slog"
	"sync"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// injector delivers input to the source in order, everything that waits in one call, and remembers which input was applied when.
type injector struct {
	source  Source
	log     *slog.Logger
	metrics *Metrics
	queue   chan input
	areas   chan Area // wished ones; only the newest counts
	resized func(error)
	untyped func(text, reason string)

	mu   sync.Mutex // guards mark
	mark inputMark
}

type input struct {
	id    uint32
	event *pluginpb.InputEvent
}

func newInjector(source Source, log *slog.Logger, m *Metrics) *injector {
	return &injector{source: source, log: log, metrics: m, queue: make(chan input, maxInputs), areas: make(chan Area, 1)}
}

// put queues an event and waits while the queue is full.
func (in *injector) put(ctx context.Context, id uint32, e *pluginpb.InputEvent) error {
	select {
	case in.queue <- input{id, e}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// offer queues motion, or drops it: the next motion makes up for it.
func (in *injector) offer(id uint32, e *pluginpb.InputEvent) {
	select {
	case in.queue <- input{id, e}:
	default:
		in.metrics.inputDropped.Inc()
	}
}

// releaseAll lifts what the last controller held down. When the queue is full the capture plugin is stuck, and its restart
// releases everything.
func (in *injector) releaseAll() { in.offer(0, releaseAll()) }

// resize asks for another area, forgetting an older wish that is still waiting.
func (in *injector) resize(a Area) {
	select {
	case <-in.areas:
	default:
	}
	select {
	case in.areas <- a:
	default: // a concurrent resize won; its wish is as new
	}
}

// begin forgets the marks of an earlier connection: its ids mean nothing to the new one.
func (in *injector) begin() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.mark = inputMark{}
}

// appliedBefore is the id of the last input that a picture taken at t can show; 0: none.
func (in *injector) appliedBefore(t media.Time) uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.mark.before(t)
}

// run injects until ctx ends.
func (in *injector) run(ctx context.Context) error {
	var waiting []input
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-in.areas:
			err := in.source.Resize(ctx, a)
			if err != nil {
				in.log.Warn("desktop does not follow the viewer's size", "cause", err)
			}
			in.resized(err)
		case first := <-in.queue:
			waiting = append(waiting[:0], first)
			for len(waiting) < maxInputs && len(in.queue) > 0 {
				waiting = append(waiting, <-in.queue)
			}
			in.inject(ctx, waiting)
		}
	}
}

func (in *injector) inject(ctx context.Context, waiting []input) {
	done, err := in.source.Inject(ctx, coalesce(waiting))
	if err != nil {
		in.metrics.inputDropped.Add(float64(len(waiting)))
		in.log.Debug("input not delivered", "cause", err)
		return
	}
	if done.Untyped != "" {
		in.untyped(done.Untyped, done.UntypedReason)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, w := range waiting {
		if w.id != 0 {
			in.mark.applied(w.id, media.Time(done.Time))
		}
	}
}

// coalesce builds one batch in which only the last of consecutive absolute motions remains.
func coalesce(waiting []input) *pluginpb.InputBatch {
	batch := &pluginpb.InputBatch{Events: make([]*pluginpb.InputEvent, 0, len(waiting))}
	for _, w := range waiting {
		n := len(batch.Events)
		if n > 0 && w.event.GetMotionAbsolute() != nil && batch.Events[n-1].GetMotionAbsolute() != nil {
			batch.Events[n-1] = w.event
			continue
		}
		batch.Events = append(batch.Events, w.event)
	}
	return batch
}
