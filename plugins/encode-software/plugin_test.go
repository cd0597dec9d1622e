package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/encode/bitstream"
	"github.com/wavry/fleet/plugins/internal/encode/encodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far above anything that a loaded machine needs.
const patience = 20 * time.Second

// rig is an encoder plugin in this process, fed by a capturer over a real socket.
type rig struct {
	t       testing.TB
	plugin  *encode.Plugin
	cap     *encodetest.Capturer
	started *pluginpb.EncodeStarted
	units   chan *pluginpb.AccessUnit
	beats   chan *pluginpb.EncodeHeartbeat
	watched chan error
	stop    context.CancelFunc
}

func newRig(t testing.TB, change func(*pluginpb.StartEncodeRequest)) *rig {
	t.Helper()
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
	r.start(change)
	r.watch()
	return r
}

// start connects the plugin to a new capturer and cleans up after the test.
func (r *rig) start(change func(*pluginpb.StartEncodeRequest)) {
	r.t.Helper()
	r.listen(change)
	r.t.Cleanup(r.close)
}

func (r *rig) listen(change func(*pluginpb.StartEncodeRequest)) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "frames")
	var err error
	if r.cap, err = encodetest.Listen(path); err != nil {
		r.t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() { accepted <- r.cap.Accept() }()
	req := &pluginpb.StartEncodeRequest{SourcePath: path, Codec: "h264", BitsPerSecond: 6_000_000, Fps: 60}
	if change != nil {
		change(req)
	}
	if r.started, err = r.plugin.Start(r.t.Context(), req); err != nil {
		r.t.Fatal(err)
	}
	if err := <-accepted; err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.units = make(chan *pluginpb.AccessUnit, 1000)
	r.beats = make(chan *pluginpb.EncodeHeartbeat, 1000)
	r.watched = make(chan error, 1)
	go func() {
		r.watched <- r.plugin.Watch(ctx, func(e *pluginpb.EncodeEvent) error {
			if u := e.GetUnit(); u != nil {
				r.units <- u
			}
			if b := e.GetHeartbeat(); b != nil {
				r.beats <- b
			}
			return nil
		})
	}()
}

func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.plugin.Stop(ctx); err != nil {
		r.t.Error(err)
	}
	if r.watched != nil {
		r.stop()
		<-r.watched
	}
	r.cap.Close()
}

func (r *rig) unit() *pluginpb.AccessUnit {
	r.t.Helper()
	select {
	case u := <-r.units:
		return u
	case err := <-r.watched:
		r.watched <- err
		r.t.Fatalf("watch ended: %v", err)
	case <-time.After(patience):
		r.t.Fatal("no unit")
	}
	return nil
}

// send hands a picture over and returns its unit.
func (r *rig) send() *pluginpb.AccessUnit {
	r.t.Helper()
	r.show(nil)
	return r.unit()
}

func (r *rig) show(draw encodetest.Draw) {
	r.t.Helper()
	if err := r.cap.AwaitCredit(1, patience); err != nil {
		r.t.Fatal(err)
	}
	if err := r.cap.Send(draw); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) register(n, w, h int) {
	r.t.Helper()
	if err := r.cap.Register(n, w, h); err != nil {
		r.t.Fatal(err)
	}
}

// Frames from a frame socket come out as access units in order, the first a keyframe with parameter sets.
func TestFramesBecomeUnits(t *testing.T) {
	for _, method := range []string{"x264", "openh264"} {
		t.Run(method, func(t *testing.T) {
			r := newRig(t, func(q *pluginpb.StartEncodeRequest) { q.Methods = []string{method} })
			if r.started.Method != method {
				t.Fatalf("method %s", r.started.Method)
			}
			r.register(3, 640, 360)
			for i := range 20 {
				u := r.send()
				info := bitstream.Inspect(media.CodecH264, u.Data)
				if u.Sequence != uint64(i) || u.Keyframe != (i == 0) || info.Key != u.Keyframe || info.Params != (i == 0) {
					t.Fatalf("unit %d: sequence %d key %v, %+v", i, u.Sequence, u.Keyframe, info)
				}
				if u.Width != 640 || u.Height != 360 || u.Repeat || media.Codec(u.Codec) != media.CodecH264 {
					t.Fatalf("unit %d: %dx%d repeat %v codec %d", i, u.Width, u.Height, u.Repeat, u.Codec)
				}
				if !(u.CaptureTime <= u.HandoffTime && u.HandoffTime < u.EncodeTime) {
					t.Fatalf("times %d %d %d", u.CaptureTime, u.HandoffTime, u.EncodeTime)
				}
			}
		})
	}
}

// The SPS is constrained baseline without reordering, so that a decoder shows each picture at once.
func TestSPSPromisesNoDelay(t *testing.T) {
	for _, method := range []string{"x264", "openh264"} {
		t.Run(method, func(t *testing.T) {
			r := newRig(t, func(q *pluginpb.StartEncodeRequest) { q.Methods = []string{method} })
			r.register(2, 1280, 720)
			sps, err := bitstream.ParseSPS(bitstream.FindSPS(r.send().Data))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %+v", sps.CodecString(), sps)
			if sps.Profile != 66 || sps.Constraints&0x40 == 0 || !sps.Restricted || sps.MaxReorder != 0 || sps.RefFrames != 1 {
				t.Fatalf("%s %+v", sps.CodecString(), sps)
			}
			if sps.Width != 1280 || sps.Height != 720 {
				t.Fatalf("%+v", sps)
			}
		})
	}
}

// A request for a keyframe without a new picture is answered at once with the last one.
func TestKeyframeOnRequest(t *testing.T) {
	r := newRig(t, nil)
	r.register(3, 640, 360)
	r.send()
	if u := r.send(); u.Keyframe {
		t.Fatal("second unit is a keyframe")
	}
	if err := r.plugin.RequestKeyframe(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := r.unit()
	if !u.Keyframe || !u.Repeat {
		t.Fatalf("key %v repeat %v", u.Keyframe, u.Repeat)
	}
	if info := bitstream.Inspect(media.CodecH264, u.Data); !info.Key || !info.Params {
		t.Fatalf("%+v", info)
	}
	if u := r.send(); u.Keyframe || u.Repeat {
		t.Fatalf("after it: key %v repeat %v", u.Keyframe, u.Repeat)
	}
}

// A still picture is repeated at the keep-alive rate.
func TestKeepalive(t *testing.T) {
	r := newRig(t, func(q *pluginpb.StartEncodeRequest) { q.KeepaliveFps = 20 })
	r.register(3, 640, 360)
	first := r.send()
	for range 3 {
		u := r.unit()
		if !u.Repeat || u.CaptureTime != first.CaptureTime || u.Keyframe {
			t.Fatalf("repeat %v key %v", u.Repeat, u.Keyframe)
		}
	}
}

// A size that changes mid-stream gives a keyframe of the new size.
func TestSizeChange(t *testing.T) {
	r := newRig(t, nil)
	for _, size := range [][2]int{{640, 360}, {800, 600}, {321, 241}} {
		r.register(3, size[0], size[1])
		u := r.send()
		if !u.Keyframe || int(u.Width) != size[0]&^1 || int(u.Height) != size[1]&^1 {
			t.Fatalf("key %v %dx%d, want %v", u.Keyframe, u.Width, u.Height, size)
		}
		sps, err := bitstream.ParseSPS(bitstream.FindSPS(u.Data))
		if err != nil || sps.Width != size[0]&^1 || sps.Height != size[1]&^1 {
			t.Fatalf("%+v %v", sps, err)
		}
		if u := r.send(); u.Keyframe {
			t.Fatal("second unit of the size is a keyframe")
		}
	}
}

// The encoder keeps at most one picture when nothing moves, and none when the capturer would be left without a buffer.
func TestCredit(t *testing.T) {
	for buffers, kept := range map[int]int{1: 0, 2: 1, 3: 1} {
		r := newRig(t, nil)
		r.register(buffers, 320, 240)
		for range 5 {
			r.send()
		}
		if err := r.cap.AwaitCredit(buffers-kept, patience); err != nil {
			t.Fatal(err)
		}
	}
}

// The run ends with a clear error when the capture plugin leaves.
func TestSourceGone(t *testing.T) {
	r := newRig(t, nil)
	r.register(2, 320, 240)
	r.send()
	r.cap.Close()
	err := <-r.watched
	r.watched <- err
	if !errors.Is(err, encode.ErrSourceGone) {
		t.Fatalf("watch ended with %v", err)
	}
}
