package main

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/capturetest"
)

// running is a plugin started on a fake compositor.
type running struct {
	t      *testing.T
	ctx    context.Context
	fake   *fakeWlr
	plugin *capture.Plugin
	path   string
}

func wlrPlugin(f *fakeWlr) *capture.Plugin {
	only := func(context.Context) []capture.Method { return wlrMethods(f.session(), discard) }
	return capture.New(capture.Config{Methods: only})
}

func startWlr(t *testing.T, f *fakeWlr, r *pluginpb.StartCaptureRequest) *running {
	t.Helper()
	startFake(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	run := &running{t: t, ctx: ctx, fake: f, plugin: wlrPlugin(f), path: filepath.Join(t.TempDir(), "source")}
	r.SourcePath, r.Fps = run.path, 1000
	if _, err := run.plugin.Start(ctx, r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.plugin.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		cancel()
	})
	return run
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

func (r *running) next(e *capturetest.Encoder) capturetest.Picture {
	r.t.Helper()
	p, err := e.Next(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func (r *running) poll(what string, ok func() bool) {
	r.t.Helper()
	poll(r.t, r.ctx, what, ok)
}

// poll waits until ok, at most ten seconds.
func poll(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: never", what)
		}
	}
}

// damage commits once the copier waits for it.
func (r *running) damage() {
	r.t.Helper()
	r.poll("a copy waits for damage", func() bool { return r.fake.waiting() > 0 })
	r.fake.commit()
}

// The first picture comes at once although nothing changes, the next ones with damage only, and a new encoder does not have to wait.
func TestWlrDamageDriven(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{})
	e := r.dial()
	p := r.next(e)
	if p.Layout.Width != 320 || p.Layout.Height != 200 || p.Pix[199*4*320] != 199 {
		t.Fatalf("picture %+v, last row %d", p.Layout, p.Pix[199*4*320])
	}
	if err := e.Release(p); err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want < 20; want++ {
		r.damage()
		p := r.next(e)
		if p.Sequence != want {
			t.Fatalf("sequence %d, want %d", p.Sequence, want)
		}
		if err := e.Release(p); err != nil {
			t.Fatal(err)
		}
	}
	r.poll("a copy waits for damage", func() bool { return r.fake.waiting() > 0 })
	r.next(r.dial())
}

// A resting desktop's picture is repeated at the keep-alive rate, and marked so.
func TestWlrKeepAlive(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{KeepaliveFps: 100})
	e := r.dial()
	first := r.next(e)
	for range 5 {
		if err := e.Release(first); err != nil {
			t.Fatal(err)
		}
		if p := r.next(e); !p.Repeat || p.Buffer != first.Buffer || p.CaptureTime <= first.CaptureTime {
			t.Fatalf("repeated %+v, first %+v", p.Frame, first.Frame)
		}
	}
}

// Without credit no picture is asked for; it is one drop, and the next release makes pictures flow again.
func TestWlrCredit(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{})
	e := r.dial()
	held := []capturetest.Picture{r.next(e)}
	for len(held) < capture.Buffers {
		r.damage()
		held = append(held, r.next(e))
	}
	err := r.plugin.Watch(r.ctx, func(e *pluginpb.CaptureEvent) error {
		if e.GetHeartbeat().GetDropped() == 1 {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Fatalf("no drop was counted: %v", err)
	}
	if n := r.fake.waiting(); n != 0 {
		t.Fatalf("%d copies without a buffer", n)
	}
	if err := e.Release(held[0]); err != nil {
		t.Fatal(err)
	}
	r.damage()
	if p := r.next(e); p.Sequence != capture.Buffers+1 {
		t.Errorf("sequence %d after one drop", p.Sequence)
	}
}

var errSeen = errors.New("seen")

// A compositor that delivers bottom-up pictures is turned round.
func TestWlrYInvert(t *testing.T) {
	r := startWlr(t, &fakeWlr{yInvert: true}, &pluginpb.StartCaptureRequest{})
	if p := r.next(r.dial()); p.Pix[0] != 199 || p.Pix[199*4*320] != 0 {
		t.Errorf("rows %d ... %d, want them flipped", p.Pix[0], p.Pix[199*4*320])
	}
}

// Failing copies are repeated; one that fails for ever ends the capture with its reason.
func TestWlrFailures(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{})
	r.fake.mu.Lock()
	r.fake.failures = 2
	r.fake.mu.Unlock()
	e := r.dial()
	r.next(e)
	r.fake.mu.Lock()
	r.fake.failures = 1000
	r.fake.mu.Unlock()
	r.damage()
	err := r.plugin.Watch(r.ctx, func(*pluginpb.CaptureEvent) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "failed to copy output HEADLESS-1") {
		t.Errorf("Watch ended with %v", err)
	}
}

// A resize reaches the compositor, odd sizes are evened, pictures follow, and a refusal says so and changes nothing.
func TestWlrResize(t *testing.T) {
	r := startWlr(t, &fakeWlr{outputs: []string{"HEADLESS-1", "HEADLESS-2"}}, &pluginpb.StartCaptureRequest{})
	e := r.dial()
	r.next(e)
	r.damage()
	r.next(e)
	r.poll("a copy waits for damage", func() bool { return r.fake.waiting() > 0 })
	done := make(chan *pluginpb.Size, 1)
	go func() { // ends with the resize
		got, err := r.plugin.Resize(r.ctx, &pluginpb.Size{Width: 641, Height: 481})
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	r.poll("the compositor was asked", func() bool {
		r.fake.mu.Lock()
		defer r.fake.mu.Unlock()
		return r.fake.width == 640
	})
	r.fake.commit() // the picture that was under way still has the old size
	if p := r.next(e); p.Layout.Width != 320 {
		t.Errorf("width %d", p.Layout.Width)
	}
	if p := r.next(e); p.Layout.Width != 640 || p.Layout.Height != 480 || p.Pix[479*4*640] != byte(479%256) {
		t.Errorf("layout %+v", p.Layout)
	}
	if got := <-done; got.Width != 640 || got.Height != 480 {
		t.Errorf("Resize = %v", got)
	}
	got, err := r.plugin.Resize(r.ctx, &pluginpb.Size{Width: 9000, Height: 480})
	if err == nil {
		t.Errorf("9000 pixels: %v", got)
	}
}

// A monitor that someone looks at keeps its mode.
func TestWlrLeavesMonitorsAlone(t *testing.T) {
	r := startWlr(t, &fakeWlr{outputs: []string{"DP-1"}}, &pluginpb.StartCaptureRequest{Size: &pluginpb.Size{Width: 640, Height: 480}})
	_, err := r.plugin.Resize(r.ctx, &pluginpb.Size{Width: 640, Height: 480})
	var u *pluginapi.UnavailableError
	if !errors.As(err, &u) || !strings.Contains(u.Reason, "DP-1") || u.Remedy == "" {
		t.Errorf("Resize of a monitor: %v", err)
	}
	if p := r.next(r.dial()); p.Layout.Width != 320 {
		t.Errorf("the picture is %d wide", p.Layout.Width)
	}
}

// A dying compositor ends Watch with its reason; input after that is an error.
func TestWlrCompositorDies(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{})
	r.next(r.dial())
	r.fake.server.Kill()
	err := r.plugin.Watch(r.ctx, func(*pluginpb.CaptureEvent) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "compositor closed the connection") {
		t.Errorf("Watch ended with %v", err)
	}
	if _, err := r.plugin.Inject(r.ctx, &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{keyEvent(30, true)}}); err == nil {
		t.Error("input to a dead compositor succeeded")
	}
}

// What is missing is named, with what to do.
func TestWlrUnavailable(t *testing.T) {
	for _, c := range []struct {
		name    string
		fake    *fakeWlr
		options map[string]string
		want    string
	}{
		{"no screencopy", &fakeWlr{without: []string{"zwlr_screencopy_manager_v1"}}, nil, "does not offer zwlr_screencopy_manager_v1"},
		{"no output", &fakeWlr{outputs: []string{}}, nil, "no output"},
		{"other output", &fakeWlr{}, map[string]string{optionOutput: "DP-7"}, `no output "DP-7"`},
		{"no GPU", &fakeWlr{}, map[string]string{optionMemory: memoryDMABuf}, "does not offer zwp_linux_dmabuf_v1"},
		{"nonsense memory", &fakeWlr{}, map[string]string{optionMemory: "gold"}, `memory = "gold"`},
		{"10 bit colour", &fakeWlr{shmFormat: 'X' | 'R'<<8 | '3'<<16 | '0'<<24}, nil, "pictures only as XR30"},
		{"layout refused", &fakeWlr{badKeymap: true}, map[string]string{optionLayout: "xx"}, `refuses the keyboard layout "xx"`},
		{"layout nonsense", &fakeWlr{}, map[string]string{optionLayout: `us" }; evil`}, "is no layout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			startFake(t, c.fake)
			_, err := wlrPlugin(c.fake).Start(t.Context(), &pluginpb.StartCaptureRequest{
				SourcePath: filepath.Join(t.TempDir(), "source"), Options: c.options, Fps: 60,
			})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	_, err := wlrMethod{session{}, discard}.Open(t.Context(), &pluginpb.StartCaptureRequest{})
	var u *pluginapi.UnavailableError
	if !errors.As(err, &u) || u.Remedy == "" {
		t.Errorf("no display: %v", err)
	}
	_, err = wlrMethod{session{Display: filepath.Join(t.TempDir(), "gone")}, discard}.Open(t.Context(), &pluginpb.StartCaptureRequest{})
	if !errors.As(err, &u) || !strings.Contains(u.Remedy, "start it") {
		t.Errorf("no compositor: %v", err)
	}
}

// Without a GPU, auto uses shared memory and says why.
func TestWlrAutoMemory(t *testing.T) {
	f := startFake(t, &fakeWlr{})
	s, err := wlrMethod{f.session(), discard}.Open(t.Context(), &pluginpb.StartCaptureRequest{Options: map[string]string{optionMemory: memoryAuto}})
	if err != nil {
		t.Fatal(err)
	}
	if why := s.Info().Reason; !strings.Contains(why, "shared memory because of DMA-BUF: compositor does not offer") {
		t.Errorf("reason %q", why)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The probe takes real pictures and leaves no device behind.
func TestWlrProbe(t *testing.T) {
	f := startFake(t, &fakeWlr{})
	report, err := wlrPlugin(f).Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 3})
	if err != nil {
		t.Fatal(err)
	}
	if i := report.Items[0]; !i.Usable || i.Frames != 3 || i.Details["output"] != "HEADLESS-1" || !strings.HasPrefix(i.Details["dmabuf"], "no: ") {
		t.Errorf("item %v", i)
	}
	want := []string{"motion 4 0", "frame", "motion -4 0", "frame", "motion 4 0", "frame", "motion -4 0", "frame", "pointer gone"}
	poll(t, t.Context(), "the pointer is back", func() bool { return reflect.DeepEqual(f.did(), want) })
}

// Every kind of input becomes the right requests, keys carry modifiers, nothing stays down, and what cannot be played is rejected.
func TestWlrInput(t *testing.T) {
	r := startWlr(t, &fakeWlr{}, &pluginpb.StartCaptureRequest{Options: map[string]string{optionLayout: "de(nodeadkeys)"}})
	r.fake.mu.Lock()
	keymap := r.fake.keymap
	r.fake.mu.Unlock()
	if !strings.Contains(keymap, `"pc+de(nodeadkeys)+inet(evdev)"`) {
		t.Errorf("keymap %q", keymap)
	}
	for _, c := range []struct {
		name     string
		events   []*pluginpb.InputEvent
		want     []string
		rejected uint32
	}{
		{"key", []*pluginpb.InputEvent{keyEvent(30, true), keyEvent(30, true), keyEvent(30, false), keyEvent(30, false)}, []string{"key 30 1", "key 30 0"}, 0},
		{"shift", []*pluginpb.InputEvent{keyEvent(42, true), keyEvent(54, true), keyEvent(42, false), keyEvent(54, false)}, []string{
			"key 42 1", "modifiers 0x1 0x0 0x10", "key 54 1", "modifiers 0x1 0x0 0x10", "key 42 0", "modifiers 0x1 0x0 0x10", "key 54 0", "modifiers 0x0 0x0 0x10",
		}, 0},
		{"caps", []*pluginpb.InputEvent{keyEvent(58, true), keyEvent(58, false), keyEvent(58, true), keyEvent(58, false)}, []string{
			"key 58 1", "modifiers 0x0 0x0 0x12", "key 58 0", "key 58 1", "modifiers 0x0 0x0 0x10", "key 58 0",
		}, 0},
		{"nonsense key", []*pluginpb.InputEvent{keyEvent(0, true), keyEvent(4000, true), {}}, nil, 3},
		{"motion", []*pluginpb.InputEvent{pointTo(0.5, 2), relative(-3.5, 1)}, []string{"to 32768 65536 of 65536 65536", "frame", "motion -3.5 1", "frame"}, 0},
		{"button", []*pluginpb.InputEvent{buttonEvent(0x110, true), buttonEvent(0x110, true), buttonEvent(0x110, false), buttonEvent(5000, true)}, []string{
			"button 0x110 1", "frame", "frame", "button 0x110 0", "frame",
		}, 1},
		{"smooth", []*pluginpb.InputEvent{scrollEvent(8, -16)}, []string{"source 2", "axis 0 -2", "source 2", "axis 1 1", "frame"}, 0},
		{"smooth, back to where it began", []*pluginpb.InputEvent{scrollEvent(-8, 16)}, []string{"source 2", "axis 0 2", "source 2", "axis 1 -1", "frame"}, 0},
		{"wheel", []*pluginpb.InputEvent{scrollEvent(0, -240)}, []string{"source 0", "wheel 0 -30 -2", "frame"}, 0},
		{"halves", []*pluginpb.InputEvent{scrollEvent(0, 60), scrollEvent(0, 60), scrollEvent(0, 120)}, []string{
			"source 2", "axis 0 7.5", "frame", "source 2", "axis 0 7.5", "frame", "source 0", "wheel 0 15 1", "frame",
		}, 0},
		{"fine wheel", []*pluginpb.InputEvent{scrollEvent(0, 40), scrollEvent(0, 40), scrollEvent(0, 40)}, []string{
			"source 2", "axis 0 5", "frame", "source 2", "axis 0 5", "frame", "source 2", "axis 0 5", "frame",
		}, 0},
		{"locks", []*pluginpb.InputEvent{locksEvent(lockCaps|lockNum|lockScroll, lockCaps), locksEvent(lockCaps, lockCaps), locksEvent(lockCaps|lockNum, lockNum)}, []string{
			"modifiers 0x0 0x0 0x2", "modifiers 0x0 0x0 0x10",
		}, 0},
		{"text", []*pluginpb.InputEvent{textEvent("é😀é\n")}, []string{
			"key 16 1", "key 16 0", "key 17 1", "key 17 0", "key 16 1", "key 16 0", "key 18 1", "key 18 0",
		}, 0},
		{"the same text", []*pluginpb.InputEvent{textEvent("😀")}, []string{"key 17 1", "key 17 0"}, 0},
		{"touch", []*pluginpb.InputEvent{
			touchEvent(7, pluginpb.Touch_DOWN, 0), touchEvent(8, pluginpb.Touch_DOWN, 0.5), touchEvent(7, pluginpb.Touch_MOVE, 1), touchEvent(7, pluginpb.Touch_UP, 1),
		}, []string{
			"to 0 0 of 65536 65536", "frame", "button 0x110 1", "frame", "to 65536 0 of 65536 65536", "frame", "frame",
			"to 65536 0 of 65536 65536", "frame", "button 0x110 0", "frame",
		}, 1},
		{"release all", []*pluginpb.InputEvent{
			keyEvent(29, true), buttonEvent(0x111, true), {Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}},
		}, []string{
			"key 29 1", "modifiers 0x4 0x0 0x10", "button 0x111 1", "frame", "key 29 0", "modifiers 0x0 0x0 0x10", "button 0x111 0", "frame",
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) { r.wantRequests(t, c.events, c.want, c.rejected) })
	}
}

// wantRequests injects and compares what the compositor got.
func (r *running) wantRequests(t *testing.T, events []*pluginpb.InputEvent, want []string, rejected uint32) {
	t.Helper()
	r.fake.mu.Lock()
	r.fake.input = nil
	r.fake.mu.Unlock()
	// A relative motion of a place of its own marks the end.
	const mark = "motion 77 77"
	got, err := r.plugin.Inject(r.ctx, &pluginpb.InputBatch{Events: append(events, relative(77, 77))})
	if err != nil || got.Rejected != rejected || (rejected > 0) != (got.Reason != "") {
		t.Errorf("Inject = %v, %v", got, err)
	}
	r.poll("the mark", func() bool { return slices.Contains(r.fake.did(), mark) })
	did := r.fake.did()
	did = did[:slices.Index(did, mark)]
	if !reflect.DeepEqual(did, want) && len(did)+len(want) > 0 {
		t.Errorf("requests %q, want %q", did, want)
	}
}

// Without a wish and without a keyboard of its own, the seat gets the layout that the session's environment names; one that is none is not
// written into a keymap.
func TestWlrSessionLayout(t *testing.T) {
	for layouts, want := range map[string]string{"de(neo),us": `"pc+de(neo)+us:2+inet(evdev)"`, "": `"pc+us+inet(evdev)"`, `de" }; evil`: `"pc+us+inet(evdev)"`} {
		f := startFake(t, &fakeWlr{})
		env := f.session()
		env.Layouts = layouts
		s, err := wlrMethod{env, discard}.Open(t.Context(), &pluginpb.StartCaptureRequest{})
		if err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		keymap := f.keymap
		f.mu.Unlock()
		if !strings.Contains(keymap, want) {
			t.Errorf("%q: keymap %s", layouts, keymap)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Stopping lets go of what is down and takes the devices away.
func TestWlrStopReleases(t *testing.T) {
	f := startFake(t, &fakeWlr{})
	p := wlrPlugin(f)
	if _, err := p.Start(t.Context(), &pluginpb.StartCaptureRequest{SourcePath: filepath.Join(t.TempDir(), "source"), Fps: 60}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Inject(t.Context(), &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{keyEvent(30, true)}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"modifiers 0x0 0x0 0x10", "key 30 1", "key 30 0", "modifiers 0x0 0x0 0x10", "keyboard gone", "pointer gone"}
	poll(t, t.Context(), "everything is let go", func() bool { return reflect.DeepEqual(f.did(), want) })
}

func keyEvent(code uint32, down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: code, Down: down}}}
}

func buttonEvent(code uint32, down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Button{Button: &pluginpb.Button{Code: code, Down: down}}}
}

func pointTo(x, y float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionAbsolute{MotionAbsolute: &pluginpb.MotionAbsolute{X: x, Y: y}}}
}

func relative(dx, dy float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionRelative{MotionRelative: &pluginpb.MotionRelative{Dx: dx, Dy: dy}}}
}

func scrollEvent(x, y int32) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{X: x, Y: y}}}
}

func textEvent(text string) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Text{Text: &pluginpb.Text{Text: text}}}
}

func locksEvent(known, on uint32) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Locks{Locks: &pluginpb.Locks{Known: known, On: on}}}
}

func touchEvent(id uint32, phase pluginpb.Touch_Phase, x float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Touch{Touch: &pluginpb.Touch{Id: id, Phase: phase, X: x}}}
}
