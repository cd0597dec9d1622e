package capture

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// fakeMethod opens a fakeSource, or fails.
type fakeMethod struct {
	name   string
	fail   error
	source *fakeSource
}

func (m fakeMethod) Name() string { return m.name }

func (m fakeMethod) Probe(context.Context, int) *pluginpb.ProbeItem {
	return &pluginpb.ProbeItem{Usable: m.fail == nil}
}

func (m fakeMethod) Open(context.Context, *pluginpb.StartCaptureRequest) (Source, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	return m.source, nil
}

// fakeSource runs until it is told to end.
type fakeSource struct {
	end    chan error
	emit   chan func(*pluginpb.CaptureEvent)
	closed atomic.Int32
	inside atomic.Int32 // calls at this moment
	calls  atomic.Int32
}

func newFakeSource() *fakeSource {
	return &fakeSource{end: make(chan error, 1), emit: make(chan func(*pluginpb.CaptureEvent), 4)}
}

func (s *fakeSource) Info() Info         { return Info{Reason: "it works", Size: Size{640, 480}, Input: true} }
func (s *fakeSource) Counters() Counters { return Counters{Frames: 7} }

func (s *fakeSource) Run(ctx context.Context, _ *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error {
	s.emit <- emit
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.end:
		return err
	}
}

func (s *fakeSource) enter() func() {
	s.calls.Add(1)
	if s.inside.Add(1) != 1 {
		panic("two calls at once")
	}
	return func() { s.inside.Add(-1) }
}

func (s *fakeSource) Inject(context.Context, []*pluginpb.InputEvent) (Rejected, error) {
	defer s.enter()()
	var r Rejected
	r.Add("no such device")
	return r, nil
}

func (s *fakeSource) Resize(_ context.Context, wish Size, _ float64) (Size, error) {
	defer s.enter()()
	return wish, nil
}

func (s *fakeSource) SetFramerate(context.Context, float64) error {
	defer s.enter()()
	return nil
}

func (s *fakeSource) Close() error {
	s.closed.Add(1)
	return nil
}

func pluginOf(methods ...Method) *Plugin {
	return New(Config{Methods: func(context.Context) []Method { return methods }})
}

func request(t *testing.T, methods ...string) *pluginpb.StartCaptureRequest {
	return &pluginpb.StartCaptureRequest{SourcePath: filepath.Join(t.TempDir(), "source"), Methods: methods, Fps: 60}
}

// The first method that works is used, and the reason says why it and why not the others.
func TestStartChooses(t *testing.T) {
	refused := &pluginapi.UnavailableError{Reason: "no bus", Remedy: "start one"}
	a, b, c := fakeMethod{name: "a", fail: refused}, fakeMethod{name: "b", source: newFakeSource()}, fakeMethod{name: "c", source: newFakeSource()}
	for _, x := range []struct {
		wish         []string
		method, want string
	}{
		{nil, "b", "it works; a: no bus; start one; not tried: c"},
		{[]string{"c", "b"}, "c", "it works; not tried: b"},
		{[]string{"b"}, "b", "it works"},
	} {
		p := pluginOf(a, b, c)
		got, err := p.Start(t.Context(), request(t, x.wish...))
		if err != nil {
			t.Fatal(err)
		}
		if got.Method != x.method || got.Reason != x.want || got.Size.Width != 640 {
			t.Errorf("%v: %v", x.wish, got)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// When nothing works, all reasons are told, with the remedy of the most preferred.
func TestStartFails(t *testing.T) {
	refused := &pluginapi.UnavailableError{Reason: "no bus", Remedy: "start one"}
	p := pluginOf(fakeMethod{name: "a", fail: refused}, fakeMethod{name: "b", fail: errors.New("broken")})
	_, err := p.Start(t.Context(), request(t))
	var u *pluginapi.UnavailableError
	if !errors.As(err, &u) || u.Remedy != "start one" || !strings.Contains(u.Reason, "a: no bus") || !strings.Contains(u.Reason, "b: broken") {
		t.Errorf("got %v", err)
	}
	for _, fps := range []float64{-1, 1e9, nan()} {
		r := request(t)
		r.Fps = fps
		if _, err := p.Start(t.Context(), r); !errors.Is(err, ErrNoFramerate) {
			t.Errorf("%v fps: %v", fps, err)
		}
	}
	if _, err := p.Start(t.Context(), request(t, "z")); !errors.As(err, &u) || !strings.Contains(u.Remedy, "a, b") {
		t.Errorf("unknown method: %v", err)
	}
	if _, err := pluginOf().Start(t.Context(), request(t)); err == nil {
		t.Error("started without any method")
	}
	s := newFakeSource()
	if _, err := pluginOf(fakeMethod{name: "a", source: s}).Start(t.Context(), &pluginpb.StartCaptureRequest{SourcePath: "/nowhere/at/all", Fps: 60}); err == nil || s.closed.Load() != 0 {
		t.Errorf("unusable path: %v, closed %d times", err, s.closed.Load())
	}
}

// A plugin is one capture: it starts once, stops once however often it is asked, and then refuses everything.
func TestLife(t *testing.T) {
	s := newFakeSource()
	p := pluginOf(fakeMethod{name: "a", source: s})
	ctx := t.Context()
	if err := p.SetFramerate(ctx, 30); !errors.Is(err, ErrNotStarted) {
		t.Errorf("before the start: %v", err)
	}
	r := request(t)
	if _, err := p.Start(ctx, r); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Start(ctx, request(t)); !errors.Is(err, ErrStarted) {
		t.Errorf("second start: %v", err)
	}
	got, err := p.Inject(ctx, &pluginpb.InputBatch{})
	if err != nil || got.Rejected != 1 || got.Reason != "no such device" || got.Time == 0 {
		t.Errorf("Inject = %v, %v", got, err)
	}
	for range 2 {
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if s.closed.Load() != 1 {
		t.Errorf("closed %d times", s.closed.Load())
	}
	if _, err := p.Inject(ctx, &pluginpb.InputBatch{}); err == nil {
		t.Error("input after the stop")
	}
	if _, err := p.Start(ctx, request(t)); !errors.Is(err, ErrStarted) {
		t.Errorf("start after the stop: %v", err)
	}
	if err := p.Watch(ctx, func(*pluginpb.CaptureEvent) error { return nil }); err != nil {
		t.Errorf("watch after the stop: %v", err)
	}
	if _, err := framesource.Dial(ctx, r.SourcePath); err == nil {
		t.Error("the socket is still there")
	}
}

// Bad sizes and rates never reach a source.
func TestBadControls(t *testing.T) {
	s := newFakeSource()
	p := pluginOf(fakeMethod{name: "a", source: s})
	if _, err := p.Start(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	for _, fps := range []float64{0, -1, 1e9, nan()} {
		if err := p.SetFramerate(t.Context(), fps); !errors.Is(err, ErrNoFramerate) {
			t.Errorf("%v fps: %v", fps, err)
		}
	}
	for _, size := range []*pluginpb.Size{nil, {Width: 1, Height: 1}, {Width: 1 << 31, Height: 100}} {
		if _, err := p.Resize(t.Context(), size); err == nil {
			t.Errorf("size %v was accepted", size)
		}
	}
	if s.calls.Load() != 0 {
		t.Error("the source was called")
	}
}

func nan() float64 { var zero float64; return zero / zero }

// Watch beats at once, passes events on, and ends with the reason of the capture, or with nil when its caller leaves.
func TestWatch(t *testing.T) {
	s := newFakeSource()
	p := pluginOf(fakeMethod{name: "a", source: s})
	if _, err := p.Start(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	emit := <-s.emit
	ctx, cancel := context.WithCancel(t.Context())
	beats := 0
	err := p.Watch(ctx, func(e *pluginpb.CaptureEvent) error {
		if h := e.GetHeartbeat(); h != nil && h.Frames == 7 && e.Time != 0 {
			beats++
			emit(Resized(Size{1, 2}))
		}
		if e.GetResized() != nil {
			cancel()
		}
		return nil
	})
	if err != nil || beats == 0 {
		t.Errorf("Watch = %v after %d beats", err, beats)
	}
	emit(Fault("something odd", ""))
	s.end <- errors.New("compositor gone")
	faults := 0
	err = p.Watch(t.Context(), func(e *pluginpb.CaptureEvent) error {
		if e.GetFault() != nil {
			faults++
		}
		return nil
	})
	if err == nil || err.Error() != "capture by a ended: compositor gone" || faults != 1 {
		t.Errorf("Watch = %v with %d faults", err, faults)
	}
	if err := p.SetFramerate(t.Context(), 30); err == nil || !strings.Contains(err.Error(), "compositor gone") {
		t.Errorf("after the end: %v", err)
	}
	broken := errors.New("stream broken")
	if err := p.Watch(t.Context(), func(*pluginpb.CaptureEvent) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("a broken stream: %v", err)
	}
}

// Each method gets its line in a probe, or only the one asked for.
func TestProbe(t *testing.T) {
	p := pluginOf(fakeMethod{name: "a"}, fakeMethod{name: "b", fail: net.ErrClosed})
	all, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{})
	if err != nil || len(all.Items) != 2 || all.Items[0].Method != "a" || all.Items[1].Usable {
		t.Errorf("all: %v, %v", all, err)
	}
	one, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "b"})
	if err != nil || len(one.Items) != 1 || one.Items[0].Method != "b" {
		t.Errorf("one: %v, %v", one, err)
	}
}

// Control calls of many callers reach the source one at a time.
func TestControlIsSerial(t *testing.T) {
	s := newFakeSource()
	p := pluginOf(fakeMethod{name: "a", source: s})
	if _, err := p.Start(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	done := make(chan error)
	const callers = 8
	for range callers {
		go func() { // ends after its calls
			var err error
			for range 50 {
				_, err = p.Inject(t.Context(), &pluginpb.InputBatch{})
			}
			done <- errors.Join(err, p.SetFramerate(t.Context(), 1))
		}()
	}
	for range callers {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("callers hang")
		}
	}
}
