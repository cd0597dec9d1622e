package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/plugintest"
	"github.com/wavry/fleet/plugins/capture-test/pattern"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/capturetest"
)

// asPlugin makes this binary the plugin itself, so that the conformance suite needs no build.
const asPlugin = "WAVRY_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// The plugin keeps the contract, over real gRPC, as a real process.
func TestConformance(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plugintest.Capture(t, plugintest.Spec{Path: self, Env: append(os.Environ(), asPlugin+"=1"), Moving: true, Slow: 2})
}

// Pictures arrive at about the asked rate, each with a younger stamp and the next sequence number, and are not torn.
func TestPicturesFlow(t *testing.T) {
	r := start(t, &pluginpb.StartCaptureRequest{Fps: 200, Size: &pluginpb.Size{Width: 640, Height: 360}})
	e := r.dial()
	var last pattern.Stamp
	for i := range 40 {
		p, s := r.next(e)
		if p.Layout.Width != 640 || p.Layout.Height != 360 || p.Layout.Format != media.FormatXRGB8888 {
			t.Fatalf("layout %+v", p.Layout)
		}
		if i > 0 && (s.Time <= last.Time || s.Sequence <= last.Sequence || p.Sequence != uint64(s.Sequence)) {
			t.Fatalf("stamp %+v after %+v in frame %d", s, last, p.Sequence)
		}
		if p.CaptureTime/1000 != media.Time(s.Time) {
			t.Fatalf("capture time %d, stamp %d", p.CaptureTime, s.Time)
		}
		last = s
	}
}

// Every kind of input shows in the picture, with its count.
func TestInputShows(t *testing.T) {
	r := start(t, &pluginpb.StartCaptureRequest{Fps: 200})
	e := r.dial()
	inject := func(want uint32, events ...*pluginpb.InputEvent) pattern.Stamp {
		t.Helper()
		got, err := r.plugin.Inject(r.ctx, &pluginpb.InputBatch{Events: events})
		if err != nil || got.Rejected != want {
			t.Fatalf("Inject = %v, %v", got, err)
		}
		r.inputs += len(events) - int(want)
		return r.until(e, func(s pattern.Stamp) bool { return int(s.Inputs) == r.inputs })
	}
	s := inject(0, key(30, true), absolute(0.25, 0.75))
	if s.Key != 30 || !s.KeyDown || s.X/655 != 25 || s.Y/655 != 75 {
		t.Errorf("key and motion: %+v", s)
	}
	s = inject(0, button(0x110, true), button(0x112, true), relative(-128, 0), scroll(240))
	if s.Buttons != 5 || s.Notches != 2 || s.X/655 != 15 {
		t.Errorf("buttons, relative motion, scroll: %+v", s)
	}
	s = inject(0, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}})
	if s.Buttons != 0 || s.KeyDown {
		t.Errorf("release all: %+v", s)
	}
	s = inject(1, &pluginpb.InputEvent{}, touch(pluginpb.Touch_DOWN, 1, 1))
	if s.Buttons != 1 || s.X != 65535 {
		t.Errorf("touch: %+v", s)
	}
}

// A resize takes effect on pictures and is announced; a size without room for the strip is refused and changes nothing.
func TestResize(t *testing.T) {
	r := start(t, &pluginpb.StartCaptureRequest{Fps: 200})
	e := r.dial()
	r.next(e)
	if _, err := r.plugin.Resize(r.ctx, &pluginpb.Size{Width: 100, Height: 100}); err == nil {
		t.Error("100x100 was accepted")
	}
	for _, size := range []*pluginpb.Size{{Width: 800, Height: 600}, {Width: 1000, Height: 500}, {Width: 320, Height: 240}} {
		got, err := r.plugin.Resize(r.ctx, size)
		if err != nil || got.Width != size.Width || got.Height != size.Height {
			t.Fatalf("Resize(%v) = %v, %v", size, got, err)
		}
		for p, _ := r.next(e); p.Layout.Width != int(size.Width); {
			p, _ = r.next(e)
		}
	}
	err := r.plugin.Watch(r.ctx, func(e *pluginpb.CaptureEvent) error {
		if e.GetResized().GetWidth() == 320 {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Errorf("Watch ended with %v before the resize was announced", err)
	}
}

var errSeen = errors.New("seen")

// An encoder that holds all buffers makes pictures drop, never wait; after a release they flow again. A new encoder takes over.
func TestCreditAndReconnect(t *testing.T) {
	r := start(t, &pluginpb.StartCaptureRequest{Fps: 500})
	e := r.dial()
	var held []capturetest.Picture
	for range capture.Buffers {
		p, err := e.Next(r.ctx)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	r.heartbeat(func(h *pluginpb.CaptureHeartbeat) bool { return h.Dropped >= 10 })
	if err := e.Release(held[0]); err != nil {
		t.Fatal(err)
	}
	if p, _ := r.next(e); p.Sequence <= held[capture.Buffers-1].Sequence+1 {
		t.Errorf("sequence %d has no gap after %d", p.Sequence, held[capture.Buffers-1].Sequence)
	}
	second := r.dial()
	for range 2 * capture.Buffers {
		r.next(second)
	}
	if _, err := drain(r.ctx, e); !errors.Is(err, net.ErrClosed) && err == nil {
		t.Errorf("the first encoder was not disconnected: %v", err)
	}
}

func drain(ctx context.Context, e *capturetest.Encoder) (n int, err error) {
	for ; err == nil && n < 100; n++ {
		_, err = e.Next(ctx)
	}
	return n, err
}

// The probe really draws, and says so.
func TestProbe(t *testing.T) {
	p := newPlugin(nil)
	report, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 5})
	if err != nil {
		t.Fatal(err)
	}
	i := report.Items[0]
	if !i.Usable || i.Frames != 5 || i.Distinct != 5 || i.LatencyP50Ms <= 0 || i.Method != "test" {
		t.Errorf("item %v", i)
	}
	if _, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "nonsense"}); err == nil {
		t.Error("an unknown method was probed")
	}
}

// A wish for an impossible size or rate fails at Start, and calls before Start say what is missing.
func TestBadRequests(t *testing.T) {
	p := newPlugin(nil)
	dir := t.TempDir()
	for _, r := range []*pluginpb.StartCaptureRequest{
		{Size: &pluginpb.Size{Width: 4, Height: 4}, Fps: 60}, {Fps: -1}, {Fps: 1e9}, {Methods: []string{"portal"}, Fps: 60},
	} {
		r.SourcePath = filepath.Join(dir, "s")
		if _, err := p.Start(t.Context(), r); err == nil {
			t.Errorf("Start(%v) succeeded", r)
		}
	}
	if _, err := p.Inject(t.Context(), &pluginpb.InputBatch{}); !errors.Is(err, capture.ErrNotStarted) {
		t.Errorf("Inject before Start: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop before Start: %v", err)
	}
}

// The moving parts never leave a trace: a canvas drawn over many states equals one drawn once, and drawing allocates nothing.
func TestCanvasLeavesNoTrace(t *testing.T) {
	scene := newScene(layoutOf(capture.Size{Width: 320, Height: 200}))
	used, fresh := newCanvas(scene, make([]byte, 320*200*4)), newCanvas(scene, make([]byte, 320*200*4))
	var s pattern.Stamp
	for i := range 200 {
		s = pattern.Stamp{Time: int64(i) * 33_333, Sequence: uint32(i), Inputs: uint16(i / 3), X: uint16(i * 327), Y: uint16(65535 - i*300)}
		used.draw(s)
	}
	fresh.draw(s)
	if string(used.pix) != string(fresh.pix) {
		t.Error("traces of earlier pictures are left")
	}
	if n := testing.AllocsPerRun(10, func() { s.Time += 16_667; used.draw(s) }); n != 0 {
		t.Errorf("%v allocations per picture", n)
	}
}

// newest keeps the last of several wishes.
func TestNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := make(chan int, 1)
		newest(c, 1)
		newest(c, 2)
		if v := <-c; v != 2 {
			t.Errorf("got %d", v)
		}
	})
}

func BenchmarkPicture720p(b *testing.B) { benchmarkPicture(b, capture.Size{Width: 1280, Height: 720}) }
func BenchmarkPicture1080p(b *testing.B) {
	benchmarkPicture(b, capture.Size{Width: 1920, Height: 1080})
}

func benchmarkPicture(b *testing.B, size capture.Size) {
	scene := newScene(layoutOf(size))
	c := newCanvas(scene, make([]byte, len(scene.background)))
	s := pattern.Stamp{}
	c.draw(s)
	b.ReportAllocs()
	for b.Loop() {
		s.Time += 16_667
		c.draw(s)
	}
}

// running is a started plugin.
type running struct {
	t      *testing.T
	ctx    context.Context
	plugin *capture.Plugin
	path   string
	inputs int
}

func start(t *testing.T, r *pluginpb.StartCaptureRequest) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	r.SourcePath = filepath.Join(t.TempDir(), "source")
	p := newPlugin(nil)
	got, err := p.Start(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Input || !got.Resize || got.Kind != pluginpb.SourceKind_SOURCE_FRAMES || got.Method != "test" {
		t.Errorf("started %v", got)
	}
	t.Cleanup(func() {
		if err := p.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		cancel()
	})
	return &running{t: t, ctx: ctx, plugin: p, path: r.SourcePath}
}

func (r *running) dial() *capturetest.Encoder {
	r.t.Helper()
	e, err := capturetest.Dial(r.ctx, r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = e.Close() })
	return e
}

// next reads, decodes and releases one picture. The Picture's pixels are not valid any more.
func (r *running) next(e *capturetest.Encoder) (capturetest.Picture, pattern.Stamp) {
	r.t.Helper()
	p, err := e.Next(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := pattern.Decode(p.Pix, p.Layout.Planes[0].Stride, p.Layout.Width, p.Layout.Height)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := e.Release(p); err != nil {
		r.t.Fatal(err)
	}
	return p, s
}

func (r *running) until(e *capturetest.Encoder, ok func(pattern.Stamp) bool) pattern.Stamp {
	r.t.Helper()
	for {
		if _, s := r.next(e); ok(s) {
			return s
		}
	}
}

func (r *running) heartbeat(ok func(*pluginpb.CaptureHeartbeat) bool) {
	r.t.Helper()
	err := r.plugin.Watch(r.ctx, func(e *pluginpb.CaptureEvent) error {
		if h := e.GetHeartbeat(); h != nil && ok(h) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		r.t.Fatalf("Watch: %v", err)
	}
}

func key(code uint32, down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: code, Down: down}}}
}

func button(code uint32, down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Button{Button: &pluginpb.Button{Code: code, Down: down}}}
}

func absolute(x, y float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionAbsolute{MotionAbsolute: &pluginpb.MotionAbsolute{X: x, Y: y}}}
}

func relative(dx, dy float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionRelative{MotionRelative: &pluginpb.MotionRelative{Dx: dx, Dy: dy}}}
}

func scroll(y int32) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{Y: y}}}
}

func touch(phase pluginpb.Touch_Phase, x, y float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Touch{Touch: &pluginpb.Touch{Phase: phase, X: x, Y: y}}}
}
