package plugintest

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Capture proves that a capture plugin keeps the contract.
func Capture(t *testing.T, spec Spec) {
	spec.role = pluginhost.RoleCapture
	for name, f := range map[string]func(*captureRun){
		"Probe": testCaptureProbe, "WrongInput": testCaptureWrongInput, "Heartbeats": testCaptureBeats, "Pictures": testPictures,
		"Reconnect": testReconnect, "Resize": testCaptureResize, "Framerate": testCaptureFramerate, "Input": testInput, "Stop": testCaptureStop,
	} {
		t.Run(name, func(t *testing.T) {
			r := launch(t, spec)
			f(&captureRun{run: r, c: r.proc.Capture()})
		})
	}
}

type captureRun struct {
	*run
	c       pluginapi.Capturer
	started *pluginpb.CaptureStarted
}

func (r *captureRun) request() *pluginpb.StartCaptureRequest {
	state := r.spec.StateDir
	if state == "" {
		state = r.T.TempDir()
	}
	return &pluginpb.StartCaptureRequest{SourcePath: r.source, Methods: r.spec.Methods, Fps: 30, KeepaliveFps: 5,
		Display: r.spec.Display, StateDir: state, Options: r.spec.Options}
}

// start begins the capture and checks the answer.
func (r *captureRun) start() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	started, err := r.c.Start(ctx, r.request())
	if err != nil {
		r.Fatal(err)
	}
	if started.Method == "" || started.Reason == "" || started.Kind == pluginpb.SourceKind_SOURCE_UNSPECIFIED {
		r.Errorf("answer to Start is incomplete: %v", started)
	}
	r.started = started
}

// pictures is a connected encoder's view of a capture.
type pictures struct {
	r      *captureRun
	source *framesource.Source
	node   framesource.Node          // of a PipeWire source
	sizes  map[uint32]*pluginpb.Size // of the buffers of a frame socket
	next   uint64                    // least sequence that the next frame may have
}

// connect is an encoder that connects.
func (r *captureRun) connect() *pictures {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.T.Context(), r.spec.limit(eventLimit))
	defer cancel()
	s, err := framesource.Dial(ctx, r.source)
	if err != nil {
		r.Fatal(err)
	}
	p := &pictures{r: r, source: s, sizes: map[uint32]*pluginpb.Size{}}
	r.T.Cleanup(p.close)
	wantKind := map[pluginpb.SourceKind]framesource.Kind{
		pluginpb.SourceKind_SOURCE_FRAMES: framesource.KindFrames, pluginpb.SourceKind_SOURCE_PIPEWIRE: framesource.KindPipeWire,
	}[r.started.Kind]
	if s.Kind() != wantKind {
		r.Fatalf("Start said %v, the source is %d", r.started.Kind, s.Kind())
	}
	if s.Kind() == framesource.KindPipeWire {
		p.node = s.PipeWire()
		if r.spec.Look == nil {
			r.Fatal("Spec.Look is needed to see the pictures of a PipeWire node")
		}
	}
	return p
}

// close disconnects; it is idempotent.
func (p *pictures) close() {
	_ = p.source.Close()
	if p.node.Remote != nil {
		_ = p.node.Remote.Close()
	}
}

// take lets n pictures come and returns the size of the last. Limits hold for all of them.
func (p *pictures) take(n int) *pluginpb.Size {
	p.r.Helper()
	if p.node.Remote != nil {
		return p.look(n)
	}
	stop := time.AfterFunc(p.r.spec.limit(eventLimit), func() { _ = p.source.Close() })
	defer stop.Stop()
	var size *pluginpb.Size
	for got := 0; got < n; {
		e, err := p.source.Next()
		if err != nil {
			p.r.Fatalf("after %d of %d frames: %v", got, n, err)
		}
		switch {
		case e.Added != nil:
			p.sizes[e.Added.ID] = &pluginpb.Size{Width: uint32(e.Added.Layout.Width), Height: uint32(e.Added.Layout.Height)}
			_ = e.Added.File.Close()
		case e.Frame != nil:
			p.check(e.Frame)
			size = p.sizes[e.Frame.Buffer]
			if err := p.source.Release(e.Frame.Buffer); err != nil {
				p.r.Fatal(err)
			}
			got++
		}
	}
	return size
}

func (p *pictures) check(f *framesource.Frame) {
	p.r.Helper()
	if now := media.Now(); f.CaptureTime > now || now.Sub(f.CaptureTime) > p.r.spec.limit(eventLimit) {
		p.r.Errorf("frame of %v taken at %v: not CLOCK_MONOTONIC of the capture", f.CaptureTime, now)
	}
	if f.Sequence < p.next {
		p.r.Errorf("sequence %d, want at least %d", f.Sequence, p.next)
	}
	p.next = f.Sequence + 1
}

func (p *pictures) look(n int) *pluginpb.Size {
	p.r.Helper()
	ctx, cancel := context.WithTimeout(p.r.T.Context(), p.r.spec.limit(eventLimit))
	defer cancel()
	size, oldest, err := p.r.spec.Look(ctx, p.node, n)
	if err != nil {
		p.r.Fatalf("pictures of PipeWire node %d: %v", p.node.ID, err)
	}
	if oldest < 0 || oldest > p.r.spec.limit(eventLimit) {
		p.r.Errorf("a picture was %v old: not CLOCK_MONOTONIC of the capture", oldest)
	}
	return size
}

// wanted is how many frames a screen must deliver: keep-alive frames come when it rests.
func (r *captureRun) wanted() int {
	if r.spec.Moving {
		return 20
	}
	return 2
}

func testCaptureProbe(r *captureRun) {
	ctx, cancel := r.context()
	defer cancel()
	for _, frames := range []uint32{0, 5} {
		report, err := r.c.Probe(ctx, &pluginpb.ProbeRequest{Frames: frames})
		if err != nil {
			r.Fatal(err)
		}
		checkProbe(r.T, report, frames > 0)
	}
	report, err := r.c.Probe(ctx, &pluginpb.ProbeRequest{Method: "no-such-method"})
	if err == nil {
		for _, i := range report.Items {
			if i.Usable {
				r.Errorf("a probe of an unknown method finds %v", i)
			}
		}
	}
}

func testCaptureWrongInput(r *captureRun) {
	for what, spoil := range map[string]func(*pluginpb.StartCaptureRequest){
		"unknown method":   func(q *pluginpb.StartCaptureRequest) { q.Methods = []string{"no-such-method"} },
		"missing folder":   func(q *pluginpb.StartCaptureRequest) { q.SourcePath = filepath.Join(r.dir, "none", "s") },
		"negative rate":    func(q *pluginpb.StartCaptureRequest) { q.Fps = -5 },
		"absurd rate":      func(q *pluginpb.StartCaptureRequest) { q.Fps = 1e9 },
		"no source path":   func(q *pluginpb.StartCaptureRequest) { q.SourcePath = "" },
		"long source path": func(q *pluginpb.StartCaptureRequest) { q.SourcePath = r.dir + "/" + strings.Repeat("x", 300) },
	} {
		r.T.Run(what, func(t *testing.T) { // in a process of its own: a plugin is one run
			next := launch(t, r.spec)
			c := &captureRun{run: next, c: next.proc.Capture()}
			ctx, cancel := c.context()
			defer cancel()
			q := c.request()
			spoil(q)
			_, err := c.c.Start(ctx, q)
			refused(t, what, err)
			if err := c.c.Stop(ctx); err != nil {
				t.Error("Stop after a refused Start:", err)
			}
		})
	}
	ctx, cancel := r.context()
	defer cancel()
	key := &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 42, Down: true}}}
	done, err := r.c.Inject(ctx, &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{key}})
	if err == nil && done.Rejected == 0 {
		r.Error("Inject before Start succeeds")
	}
	r.start()
	_, err = r.c.Start(ctx, r.request())
	refused(r.T, "a second Start", err)
}

func testCaptureBeats(r *captureRun) {
	r.start()
	beats := 0
	last := time.Now()
	enough := errors.New("enough")
	ctx, cancel := r.context()
	defer cancel()
	err := r.c.Watch(ctx, func(e *pluginpb.CaptureEvent) error {
		if e.GetHeartbeat() == nil {
			return nil
		}
		if gap := time.Since(last); gap > beatLimit {
			r.Errorf("%v without a heartbeat", gap)
		}
		if last = time.Now(); e.Time == 0 {
			r.Error("heartbeat without a time")
		}
		if beats++; beats == 5 {
			return enough
		}
		return nil
	})
	if err != enough {
		r.Fatal(err)
	}
}

func testPictures(r *captureRun) {
	r.start()
	if got := r.connect().take(r.wanted()); !proto.Equal(got, r.started.Size) {
		r.Errorf("pictures of %v, Start said %v", got, r.started.Size)
	}
}

func testReconnect(r *captureRun) {
	r.start()
	before := 0
	for round := range 4 {
		p := r.connect()
		p.take(1)
		p.close()
		if round == 0 {
			before = r.descriptors()
		}
	}
	r.settle(before+3, "after four encoders instead of one")
}

func testCaptureResize(r *captureRun) {
	r.start()
	ctx, cancel := r.context()
	defer cancel()
	got, err := r.c.Resize(ctx, &pluginpb.Size{Width: 800, Height: 600})
	if !r.started.Resize {
		if err == nil && got.Width == 800 {
			r.Error("Start says that Resize does not work, but it does")
		}
		refusedOrSame(r, got, err)
		return
	}
	if err != nil || got.GetWidth() == 0 {
		r.Fatal(got, err)
	}
	p := r.connect()
	deadline := time.Now().Add(r.spec.limit(eventLimit))
	for size := p.take(1); !proto.Equal(size, got); size = p.take(1) {
		if time.Now().After(deadline) {
			r.Fatalf("Resize said %v, pictures have %v", got, size)
		}
	}
	_, err = r.c.Resize(ctx, &pluginpb.Size{})
	refused(r.T, "size 0x0", err)
	_, err = r.c.Resize(ctx, &pluginpb.Size{Width: 1 << 30, Height: 1 << 30})
	refused(r.T, "absurd size", err)
}

// refusedOrSame: a plugin that cannot resize says so or answers with the size that stays.
func refusedOrSame(r *captureRun, got *pluginpb.Size, err error) {
	r.Helper()
	if err != nil {
		refused(r.T, "Resize", err)
	} else if got.GetWidth() != r.started.Size.GetWidth() {
		r.Errorf("Resize answers %v, the size is %v", got, r.started.Size)
	}
}

func testCaptureFramerate(r *captureRun) {
	r.start()
	ctx, cancel := r.context()
	defer cancel()
	for _, fps := range []float64{5, 60} {
		if err := r.c.SetFramerate(ctx, fps); err != nil {
			r.Error(err)
		}
	}
	for _, fps := range []float64{0, -1, 1e9} {
		refused(r.T, "frame rate", r.c.SetFramerate(ctx, fps))
	}
	r.connect().take(r.wanted())
}

func testInput(r *captureRun) {
	r.start()
	ctx, cancel := r.context()
	defer cancel()
	batch := &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{
		{Event: &pluginpb.InputEvent_MotionAbsolute{MotionAbsolute: &pluginpb.MotionAbsolute{X: .5, Y: .5}}},
		{Event: &pluginpb.InputEvent_MotionRelative{MotionRelative: &pluginpb.MotionRelative{Dx: 3, Dy: -3}}},
		{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{Y: 120}}},
		{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 42, Down: true}}}, // left shift: harmless
		{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 42}}},
		{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}},
	}}
	before := media.Now()
	done, err := r.c.Inject(ctx, batch)
	if !r.started.Input {
		if err == nil && done.Rejected < uint32(len(batch.Events)) {
			r.Error("Start says that input does not work, but it is taken")
		}
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	if at := media.Time(done.Time); at < before || at > media.Now() {
		r.Errorf("injected at %v, which is not between call and return", at)
	}
	if done.Rejected > 0 {
		r.Errorf("%d events rejected: %s", done.Rejected, done.Reason)
	}
	nonsense := &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{{}, {Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 1 << 31, Down: true}}}}}
	if done, err := r.c.Inject(ctx, nonsense); err == nil && done.Rejected == 0 {
		r.Error("an event without content is not counted as rejected")
	}
	if _, err := r.c.Inject(ctx, batch); err != nil {
		r.Error("input does not work after nonsense:", err)
	}
}

func testCaptureStop(r *captureRun) {
	ctx, cancel := r.context()
	defer cancel()
	if err := r.c.Stop(ctx); err != nil {
		r.Error("Stop before Start:", err)
	}
	r.proc.Kill()
	next := launchIn(r.T, r.spec, r.dir)
	c := &captureRun{run: next, c: next.proc.Capture()}
	c.start()
	s, err := framesource.Dial(ctx, c.source)
	if err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		if err := c.c.Stop(ctx); err != nil {
			r.Error(err)
		}
	}
	stop := time.AfterFunc(r.spec.limit(eventLimit), func() { r.Error("Stop leaves the encoder waiting"); _ = s.Close() })
	defer stop.Stop()
	for {
		e, err := s.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				r.Error("the source ends with", err)
			}
			return
		}
		if e.Added != nil {
			_ = e.Added.File.Close()
		}
	}
}
