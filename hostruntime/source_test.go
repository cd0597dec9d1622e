package hostruntime_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
)

// source emits a unit whenever the test says so, and notes what it was asked.
type source struct {
	units chan media.AccessUnit
	fail  chan error

	mu          sync.Mutex
	keyframes   int
	areas       []session.Area // asked for
	adjustments int
	input       []*pluginpb.InputEvent
	changed     chan struct{} // gets a token when anything above changed
	sink        session.Sink
	started     chan struct{}
	follows     bool          // takes the sizes it is asked for; the test emits the pictures
	may         chan struct{} // nil, or closed when the source may start
	busy        chan struct{} // nil, or gets a token for each resize that is done
	untyped     string        // what it cannot type of any input
}

func newSource() *source {
	return &source{
		units: make(chan media.AccessUnit, 16), fail: make(chan error, 1),
		changed: make(chan struct{}, 1024), started: make(chan struct{}),
	}
}

func (f *source) Run(ctx context.Context, sink session.Sink) error {
	f.sink = sink
	if f.may != nil {
		<-f.may
	}
	sink.Event(session.Event{Started: &session.Started{Capture: "fake", Encoder: "fake", Input: true, Resize: true, Width: 64, Height: 48}})
	close(f.started)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-f.fail:
			return err
		case u := <-f.units:
			sink.Unit(u)
		}
	}
}

func (f *source) Inject(_ context.Context, b *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	f.note(func() { f.input = append(f.input, b.Events...) })
	done := &pluginpb.Injected{Time: int64(media.Now()), Untyped: f.untyped}
	if f.untyped != "" {
		done.UntypedReason = "this fake has no such key"
	}
	return done, nil
}

func (f *source) Resize(_ context.Context, a session.Area) error {
	f.note(func() { f.areas = append(f.areas, a) })
	if f.busy != nil {
		<-f.busy
	}
	if !f.follows {
		return errors.New("this fake has one size")
	}
	return nil
}

func (f *source) Adjust(int, float64) { f.note(func() { f.adjustments++ }) }

func (f *source) RequestKeyframe() { f.note(func() { f.keyframes++ }) }

func (f *source) note(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// wait blocks until cond holds, looking again after every change.
func (f *source) wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		f.mu.Lock()
		ok := cond()
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-f.changed:
		case <-deadline:
			t.Fatalf("waited 5 s for %s", what)
		}
	}
}

func (f *source) emit(keyframe bool, data string) { f.emitSized(keyframe, data, 64, 48) }

func (f *source) emitSized(keyframe bool, data string, width, height int) {
	now := media.Now()
	f.units <- media.AccessUnit{
		Codec: media.CodecH264, Keyframe: keyframe, Width: width, Height: height, CaptureTime: now, HandoffTime: now, EncodeTime: now, Data: []byte(data),
	}
}
