package plugintest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Encode proves that an encoder plugin keeps the contract, with the fake capturer's moving bar as its source.
func Encode(t *testing.T, spec Spec) {
	spec.role = pluginhost.RoleEncode
	if spec.Codec == "" {
		spec.Codec = "h264"
	}
	for name, f := range map[string]func(*encodeRun){
		"Probe": testEncodeProbe, "WrongInput": testEncodeWrongInput, "Units": testUnits, "Heartbeats": testEncodeBeats,
		"KeyframeMoving": testKeyframeMoving, "KeyframeIdle": testKeyframeIdle, "Settings": testSettings, "Resize": testEncodeResize,
		"SourceLost": testSourceLost, "BadSource": testBadSource, "Replaced": testReplaced, "Stop": testEncodeStop,
	} {
		t.Run(name, func(t *testing.T) {
			r := launch(t, spec)
			f(&encodeRun{run: r, e: r.proc.Encoder()})
		})
	}
}

type encodeRun struct {
	*run
	e      pluginapi.Encoder
	events chan *pluginpb.EncodeEvent
	ended  chan error
	next   uint64 // sequence
	any    bool
}

// capture serves pictures from this process.
func (r *encodeRun) capture(b fakeplugin.Behaviour) *fakeplugin.Capturer {
	r.Helper()
	b.Role = "capture"
	c := fakeplugin.NewCapturer(b)
	if _, err := c.Start(r.T.Context(), &pluginpb.StartCaptureRequest{SourcePath: r.source, Fps: 30, KeepaliveFps: 1}); err != nil {
		r.Fatal(err)
	}
	r.T.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

func (r *encodeRun) request() *pluginpb.StartEncodeRequest {
	return &pluginpb.StartEncodeRequest{SourcePath: inbox.Handed, Codec: r.spec.Codec, Methods: r.spec.Methods, BitsPerSecond: 2_000_000,
		Fps: 30, KeepaliveFps: 2, Options: r.spec.Options}
}

// start begins encoding and watches.
func (r *encodeRun) start() {
	r.Helper()
	ctx, cancel := r.context()
	defer cancel()
	if err := r.proc.HandPath(r.source); err != nil {
		r.Fatal(err)
	}
	started, err := r.e.Start(ctx, r.request())
	if err != nil {
		r.Fatal(err)
	}
	if started.Method == "" || started.Reason == "" {
		r.Errorf("answer to Start is incomplete: %v", started)
	}
	r.watch()
}

func (r *encodeRun) watch() {
	r.events, r.ended = make(chan *pluginpb.EncodeEvent), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	r.T.Cleanup(cancel)
	go func() {
		r.ended <- r.e.Watch(ctx, func(e *pluginpb.EncodeEvent) error {
			select {
			case r.events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
}

// event waits for the next one.
func (r *encodeRun) event() *pluginpb.EncodeEvent {
	r.Helper()
	t := time.NewTimer(r.spec.limit(eventLimit))
	defer t.Stop()
	select {
	case e := <-r.events:
		return e
	case err := <-r.ended:
		r.Fatalf("the run ended: %v", err)
	case <-t.C:
		r.Fatal("neither unit nor heartbeat comes")
	}
	return nil
}

// unit waits for the next one and checks what holds for all.
func (r *encodeRun) unit() *pluginpb.AccessUnit {
	r.Helper()
	deadline := time.Now().Add(r.spec.limit(eventLimit))
	for {
		u := r.event().GetUnit()
		if u != nil {
			r.checkUnit(u)
			return u
		}
		if time.Now().After(deadline) {
			r.Fatal("heartbeats, but no unit")
		}
	}
}

func (r *encodeRun) checkUnit(u *pluginpb.AccessUnit) {
	r.Helper()
	if u.Sequence != r.next {
		r.Errorf("sequence %d, want %d", u.Sequence, r.next)
	}
	if !r.any && !u.Keyframe {
		r.Error("the first unit is no keyframe")
	}
	r.any, r.next = true, u.Sequence+1
	if len(u.Data) == 0 || media.Codec(u.Codec).String() != r.spec.Codec {
		r.Errorf("unit of %d bytes in codec %v", len(u.Data), media.Codec(u.Codec))
	}
	if u.CaptureTime > u.HandoffTime && !u.Repeat || u.HandoffTime > u.EncodeTime || u.EncodeTime > int64(media.Now()) {
		r.Errorf("times out of order: capture %d, handoff %d, encode %d", u.CaptureTime, u.HandoffTime, u.EncodeTime)
	}
	if r.spec.Codec == "h264" {
		r.checkAnnexB(u)
	}
}

// checkAnnexB demands start codes, and SPS and PPS before every IDR picture.
func (r *encodeRun) checkAnnexB(u *pluginpb.AccessUnit) {
	r.Helper()
	types := map[byte]bool{}
	rest := u.Data
	for {
		_, after, found := bytes.Cut(rest, []byte{0, 0, 1})
		if !found || len(after) == 0 {
			break
		}
		types[after[0]&31] = true
		rest = after
	}
	if u.Keyframe != types[5] || u.Keyframe && (!types[7] || !types[8]) {
		r.Errorf("unit %d: keyframe %v, with NAL units %v", u.Sequence, u.Keyframe, types)
	}
}

// until takes units until ok.
func (r *encodeRun) until(what string, ok func(*pluginpb.AccessUnit) bool) *pluginpb.AccessUnit {
	r.Helper()
	deadline := time.Now().Add(r.spec.limit(eventLimit))
	for {
		if u := r.unit(); ok(u) {
			return u
		}
		if time.Now().After(deadline) {
			r.Fatalf("no %s", what)
		}
	}
}

func keyframe(u *pluginpb.AccessUnit) bool { return u.Keyframe }

func testEncodeProbe(r *encodeRun) {
	ctx, cancel := r.context()
	defer cancel()
	for _, frames := range []uint32{0, 10} {
		report, err := r.e.Probe(ctx, &pluginpb.ProbeRequest{Frames: frames, Size: &pluginpb.Size{Width: 320, Height: 240}, Fps: 30})
		if err != nil {
			r.Fatal(err)
		}
		checkProbe(r.T, report, frames > 0)
		for _, i := range report.Items {
			if i.Usable && len(i.Codecs) == 0 {
				r.Errorf("%s: usable without a codec", i.Method)
			}
		}
	}
}

func testEncodeWrongInput(r *encodeRun) {
	for what, spoil := range map[string]func(*pluginpb.StartEncodeRequest){
		"unknown codec":  func(q *pluginpb.StartEncodeRequest) { q.Codec = "theora" },
		"unknown method": func(q *pluginpb.StartEncodeRequest) { q.Methods = []string{"no-such-method"} },
		"missing source": func(q *pluginpb.StartEncodeRequest) { q.SourcePath += "none" },
		"no source":      func(q *pluginpb.StartEncodeRequest) { q.SourcePath = "" },
		"rate zero":      func(q *pluginpb.StartEncodeRequest) { q.Fps = 0 },
		"absurd rate":    func(q *pluginpb.StartEncodeRequest) { q.Fps = 1e9 },
	} {
		r.T.Run(what, func(t *testing.T) { // in a process of its own: a plugin is one run
			next := launch(t, r.spec)
			e := &encodeRun{run: next, e: next.proc.Encoder()}
			e.capture(fakeplugin.Behaviour{})
			ctx, cancel := e.context()
			defer cancel()
			q := e.request()
			spoil(q)
			_, err := e.e.Start(ctx, q)
			refused(t, what, err)
			if err := e.e.Stop(ctx); err != nil {
				t.Error("Stop after a refused Start:", err)
			}
		})
	}
	r.capture(fakeplugin.Behaviour{})
	r.start()
	ctx, cancel := r.context()
	defer cancel()
	if err := r.proc.HandPath(r.source); err != nil {
		r.Fatal(err)
	}
	_, err := r.e.Start(ctx, r.request())
	refused(r.T, "a second Start", err)
	refused(r.T, "bitrate 0", r.e.SetBitrate(ctx, 0))
	refused(r.T, "frame rate -1", r.e.SetFramerate(ctx, -1))
	r.unit()
}

func testUnits(r *encodeRun) {
	r.capture(fakeplugin.Behaviour{})
	r.start()
	for range 40 {
		if u := r.unit(); u.Width != 320 || u.Height != 240 {
			r.Fatalf("unit of %dx%d", u.Width, u.Height)
		}
	}
}

func testEncodeBeats(r *encodeRun) {
	r.capture(fakeplugin.Behaviour{})
	r.start()
	last, previous := time.Now(), (*pluginpb.EncodeHeartbeat)(nil)
	for beats := 0; beats < 5; {
		h := r.event().GetHeartbeat()
		if h == nil {
			continue
		}
		if gap := time.Since(last); gap > beatLimit {
			r.Errorf("%v without a heartbeat", gap)
		}
		if previous != nil && (h.FramesIn <= previous.FramesIn || h.UnitsOut < previous.UnitsOut) {
			r.Errorf("counters stand still: %v after %v", h, previous)
		}
		if beats > 1 && (h.Black || h.PictureHash == 0) {
			r.Errorf("a moving bar looks like %v", h)
		}
		last, previous = time.Now(), h
		beats++
	}
}

func testKeyframeMoving(r *encodeRun) {
	r.capture(fakeplugin.Behaviour{})
	r.start()
	r.until("keyframe", keyframe)
	for range 3 {
		r.until("delta unit", func(u *pluginpb.AccessUnit) bool { return !u.Keyframe })
		if err := r.e.RequestKeyframe(r.T.Context()); err != nil {
			r.Fatal(err)
		}
		r.until("keyframe on request", keyframe)
	}
	for range 60 { // two seconds: no keyframe without need
		if r.unit().Keyframe {
			r.Fatal("a keyframe that nobody asked for")
		}
	}
}

func testKeyframeIdle(r *encodeRun) {
	r.capture(fakeplugin.Behaviour{Idle: true})
	r.start()
	r.until("keyframe", keyframe)
	r.until("keep-alive", func(u *pluginpb.AccessUnit) bool { return u.Repeat })
	if err := r.e.RequestKeyframe(r.T.Context()); err != nil {
		r.Fatal(err)
	}
	begin := time.Now()
	r.until("keyframe on an idle desktop", keyframe)
	if took := time.Since(begin); took > r.spec.limit(time.Second) {
		r.Errorf("keyframe on an idle desktop after %v", took)
	}
}

func testSettings(r *encodeRun) {
	r.capture(fakeplugin.Behaviour{})
	r.start()
	r.unit()
	ctx, cancel := r.context()
	defer cancel()
	for _, kbps := range []uint32{500, 8000, 1000} {
		if err := r.e.SetBitrate(ctx, kbps*1000); err != nil {
			r.Fatal(err)
		}
		if err := r.e.SetFramerate(ctx, float64(10+kbps/500)); err != nil {
			r.Fatal(err)
		}
		for range 5 { // checkUnit sees a restart as a gap
			r.unit()
		}
	}
}

func testEncodeResize(r *encodeRun) {
	c := r.capture(fakeplugin.Behaviour{})
	r.start()
	r.unit()
	for _, size := range []*pluginpb.Size{{Width: 640, Height: 360}, {Width: 162, Height: 122}, {Width: 320, Height: 240}} {
		if _, err := c.Resize(r.T.Context(), size); err != nil {
			r.Fatal(err)
		}
		u := r.until("unit of the new size", func(u *pluginpb.AccessUnit) bool { return u.Width == size.Width && u.Height == size.Height })
		if !u.Keyframe {
			r.Errorf("the first unit of %v is no keyframe", size)
		}
	}
}

// end waits for the end of Watch.
func (r *encodeRun) end() error {
	r.Helper()
	t := time.NewTimer(r.spec.limit(eventLimit))
	defer t.Stop()
	for {
		select {
		case <-r.events:
		case err := <-r.ended:
			return err
		case <-t.C:
			r.Fatal("the run does not end")
		}
	}
}

func testSourceLost(r *encodeRun) {
	c := r.capture(fakeplugin.Behaviour{})
	r.start()
	r.unit()
	if err := c.Stop(r.T.Context()); err != nil {
		r.Fatal(err)
	}
	if err := r.end(); err == nil {
		r.Error("the run ends without an error when its source is gone")
	}
}

func testBadSource(r *encodeRun) {
	for _, b := range []fakeplugin.Behaviour{{Garbage: true}, {WrongFD: true}, {Unsealed: true}, {ManyFDs: true}} {
		r.T.Run(b.String(), func(t *testing.T) {
			next := launch(t, r.spec)
			e := &encodeRun{run: next, e: next.proc.Encoder()}
			e.capture(b)
			e.start()
			if err := e.end(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func testReplaced(r *encodeRun) {
	c := r.capture(fakeplugin.Behaviour{})
	r.start()
	r.unit()
	if err := unix.Kill(r.proc.PID(), unix.SIGKILL); err != nil {
		r.Fatal(err)
	}
	if err := r.end(); err == nil {
		r.Error("Watch of a killed plugin ends without an error")
	}
	r.proc.Kill()
	next := launchIn(r.T, r.spec, r.dir)
	again := &encodeRun{run: next, e: next.proc.Encoder()}
	again.start() // at the same source
	again.unit()
	if err := c.Stop(r.T.Context()); err != nil {
		r.Error(err)
	}
}

func testEncodeStop(r *encodeRun) {
	ctx, cancel := r.context()
	defer cancel()
	if err := r.e.Stop(ctx); err != nil {
		r.Error("Stop before Start:", err)
	}
	r.proc.Kill()
	next := launchIn(r.T, r.spec, r.dir)
	again := &encodeRun{run: next, e: next.proc.Encoder()}
	again.capture(fakeplugin.Behaviour{})
	again.start()
	again.unit()
	before := again.descriptors()
	for range 2 {
		if err := again.e.Stop(ctx); err != nil {
			r.Error(err)
		}
	}
	if err := again.end(); err != nil && !errors.Is(err, context.Canceled) {
		r.Error("Watch ends with", err)
	}
	again.settle(before, "after Stop")
}
