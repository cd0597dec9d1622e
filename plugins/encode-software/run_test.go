package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/encode/encodetest"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// beat returns the first heartbeat that satisfies want.
func (r *rig) beat(want func(*pluginpb.EncodeHeartbeat) bool) *pluginpb.EncodeHeartbeat {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case b := <-r.beats:
			if want(b) {
				return b
			}
		case <-deadline:
			r.t.Fatal("no such heartbeat")
		}
	}
}

// Heartbeats come often enough, count, and see black and changed pictures.
func TestHeartbeats(t *testing.T) {
	r := newRig(t, nil)
	r.register(3, 640, 360)
	r.show(encodetest.Black)
	r.unit()
	black := r.beat(func(b *pluginpb.EncodeHeartbeat) bool {
		return b.FramesIn == 1 && b.UnitsOut == 1 && b.PictureHash != 0
	})
	if !black.Black || black.LastFrameTime == 0 {
		t.Fatalf("%+v", black)
	}
	next := r.beat(func(*pluginpb.EncodeHeartbeat) bool { return true })
	if gap := media.Time(next.Time).Sub(media.Time(black.Time)); gap > 500*time.Millisecond {
		t.Fatalf("heartbeats are %v apart", gap)
	}
	// Looks are at most every 250 ms: wait for a picture that is due.
	r.beat(func(b *pluginpb.EncodeHeartbeat) bool {
		return media.Time(b.Time).Sub(media.Time(black.Time)) > 400*time.Millisecond
	})
	r.send()
	r.beat(func(b *pluginpb.EncodeHeartbeat) bool { return !b.Black && b.PictureHash != black.PictureHash })
}

// Faint noise keeps the encoder at its bit rate without driving it to its coarsest quantizer.
func noise(seed *uint32) encodetest.Draw {
	return func(pixels []byte, _, _ int) {
		x := *seed*2654435761 + 1
		for i := 0; i+4 <= len(pixels); i += 4 {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			pixels[i], pixels[i+1], pixels[i+2] = byte(x)&15, byte(x>>8)&15, byte(x>>16)&15
		}
		*seed++
	}
}

func (r *rig) noisySize(seed *uint32, skip, n int) int {
	r.t.Helper()
	total := 0
	for i := range skip + n {
		r.show(noise(seed))
		u := r.unit()
		if u.Keyframe && u.Sequence > 0 {
			r.t.Fatal("keyframe")
		}
		if i >= skip {
			total += len(u.Data)
		}
	}
	return total / n
}

// Bit rate and frame rate change without a keyframe, and a lower frame rate gives each picture more bits.
func TestRatesChange(t *testing.T) {
	for _, method := range []string{"x264", "openh264"} {
		t.Run(method, func(t *testing.T) {
			r := newRig(t, func(q *pluginpb.StartEncodeRequest) {
				q.Methods, q.BitsPerSecond, q.Fps = []string{method}, 12_000_000, 60
			})
			r.register(3, 320, 240)
			seed := uint32(1)
			high := r.noisySize(&seed, 20, 20)
			if err := r.plugin.SetBitrate(t.Context(), 3_000_000); err != nil {
				t.Fatal(err)
			}
			low := r.noisySize(&seed, 20, 20)
			if err := r.plugin.SetFramerate(t.Context(), 20); err != nil {
				t.Fatal(err)
			}
			slow := r.noisySize(&seed, 15, 10)
			t.Logf("%d bytes at 12 Mbit/s, %d at 3 Mbit/s, %d at 20 pictures per second", high, low, slow)
			if low > high/2 || slow < low*2 {
				t.Fatal("rates do not follow")
			}
		})
	}
}

// A rate above the one at the start gives a keyframe and goes on.
func TestFramerateRaised(t *testing.T) {
	r := newRig(t, func(q *pluginpb.StartEncodeRequest) { q.Fps = 30 })
	r.register(3, 320, 240)
	r.send()
	if err := r.plugin.SetFramerate(t.Context(), 120); err != nil {
		t.Fatal(err)
	}
	if u := r.send(); !u.Keyframe || u.Sequence != 1 {
		t.Fatalf("key %v sequence %d", u.Keyframe, u.Sequence)
	}
}

// Pictures that come faster than the limit are replaced by newer ones and counted; the newest is not lost.
func TestFramerateLimit(t *testing.T) {
	r := newRig(t, func(q *pluginpb.StartEncodeRequest) { q.Fps = 10 })
	r.register(4, 320, 240)
	r.send()
	for range 6 {
		r.show(nil)
	}
	sent := media.Now()
	r.unit()
	// At most one of the six went early within the pace's tolerance; the newest came at its time.
	b := r.beat(func(b *pluginpb.EncodeHeartbeat) bool { return b.FramesIn == 7 && b.FramesIn == b.UnitsOut+b.Dropped })
	if b.Dropped < 4 || media.Time(b.LastFrameTime) > sent {
		t.Fatalf("%+v", b)
	}
}

// A receiver that is slow loses pictures, never units: what it gets decodes in order.
func TestSlowReceiver(t *testing.T) {
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
	r.start(nil)
	gate, first := make(chan struct{}), make(chan struct{}, 1)
	var got []*pluginpb.AccessUnit
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.stop, r.watched = cancel, make(chan error, 1)
	go func() {
		r.watched <- r.plugin.Watch(ctx, func(e *pluginpb.EncodeEvent) error {
			if u := e.GetUnit(); u != nil {
				got = append(got, u)
				select {
				case first <- struct{}{}:
				default:
				}
				<-gate
				if len(got) == 3 {
					cancel()
				}
			}
			return nil
		})
	}()
	r.register(4, 320, 240)
	r.show(nil)
	<-first
	for range 30 {
		r.show(nil)
	}
	close(gate)
	if err := <-r.watched; err != nil {
		t.Fatal(err)
	}
	r.watched <- nil
	if len(got) != 3 {
		t.Fatalf("%d units, want one taken, one made and one of the newest picture", len(got))
	}
	for i, u := range got {
		if u.Sequence != uint64(i) || u.Keyframe != (i == 0) {
			t.Fatalf("unit %d: sequence %d key %v", i, u.Sequence, u.Keyframe)
		}
	}
}

// Units go to one receiver; the next one begins with a keyframe and without a gap in the sequence.
func TestWatchAgain(t *testing.T) {
	r := newRig(t, nil)
	r.register(3, 320, 240)
	r.send()
	if u := r.send(); u.Keyframe {
		t.Fatal("keyframe")
	}
	if err := r.plugin.Watch(t.Context(), nil); !errors.Is(err, encode.ErrWatched) {
		t.Fatalf("second receiver: %v", err)
	}
	r.stop()
	if err := <-r.watched; err != nil {
		t.Fatal(err)
	}
	r.watch()
	if u := r.unit(); !u.Keyframe || !u.Repeat || u.Sequence != 2 {
		t.Fatalf("key %v repeat %v sequence %d", u.Keyframe, u.Repeat, u.Sequence)
	}
}

// A capturer that sends a buffer which it was not given back is refused.
func TestDoubleUse(t *testing.T) {
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
	r.start(nil) // nobody watches: the first frame waits
	r.register(1, 320, 240)
	for i := range 2 {
		if err := r.cap.Sink.Send(framesource.Frame{Buffer: 0, Sequence: uint64(i), CaptureTime: media.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	<-r.cap.Sink.Done()
	r.watch()
	err := <-r.watched
	r.watched <- err
	if !errors.Is(err, encode.ErrDoubleUse) {
		t.Fatal(err)
	}
}

// x264 with one more element behind the encoder.
func sabotaged(e gstpipe.Element) []encode.Method {
	m := methods()[0]
	plain := m.Chain
	m.Chain = func(in encode.Input) []gstpipe.Element { return append(plain(in), e) }
	return []encode.Method{m}
}

// An element that fails now and then costs a new pipeline with a keyframe, not the run.
func TestPipelineDies(t *testing.T) {
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: sabotaged(
		gstpipe.Element{Factory: "identity", Props: []gstpipe.Prop{gstpipe.P("error-after", 4)}})})}
	r.start(nil)
	r.watch()
	r.register(3, 320, 240)
	keys := 0
	for i := range 12 {
		u := r.send()
		if u.Sequence != uint64(i) {
			t.Fatalf("sequence %d, want %d", u.Sequence, i)
		}
		if u.Keyframe {
			keys++
		}
	}
	if keys < 3 {
		t.Fatalf("%d keyframes", keys)
	}
}

// An element that always fails ends the run with its own words.
func TestPipelineAlwaysDies(t *testing.T) {
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: sabotaged(
		gstpipe.Element{Factory: "identity", Props: []gstpipe.Prop{gstpipe.P("error-after", 1)}})})}
	r.start(nil)
	r.watch()
	r.register(3, 320, 240)
	r.show(nil)
	err := <-r.watched
	r.watched <- err
	var pe *gstpipe.PipelineError
	if !errors.As(err, &pe) || !strings.Contains(pe.Element, "identity") {
		t.Fatal(err)
	}
}

// An encoder that swallows pictures is found out.
func TestEncoderHangs(t *testing.T) {
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: sabotaged(
		gstpipe.Element{Factory: "identity", Props: []gstpipe.Prop{gstpipe.P("drop-probability", 1)}})})}
	r.start(nil)
	r.watch()
	r.register(3, 320, 240)
	r.show(nil)
	err := <-r.watched
	r.watched <- err
	if !errors.Is(err, encode.ErrHung) {
		t.Fatal(err)
	}
}

// Starting and stopping again and again, with pictures held everywhere, leaves no descriptor, mapping or thread behind.
func TestNothingLeaks(t *testing.T) {
	cycle := func() {
		r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
		r.listen(nil)
		r.watch()
		r.register(3, 640, 360)
		r.send()
		r.register(3, 320, 240)
		r.send()
		r.show(nil)
		r.show(nil)
		r.close()
	}
	cycle() // pays for what stays: plugins, caches, thread pools
	cycle()
	fds, maps, threads := count(t, "fd"), frameMaps(t), count(t, "task")
	for range 10 {
		cycle()
	}
	runtime.GC()
	if n := count(t, "fd"); n > fds {
		t.Errorf("%d descriptors became %d", fds, n)
	}
	if n := frameMaps(t); n > maps || n > 0 {
		t.Errorf("%d mappings of frames became %d", maps, n)
	}
	if n := count(t, "task"); n > threads+4 { // the Go runtime may add some
		t.Errorf("%d threads became %d", threads, n)
	}
}

func count(t *testing.T, what string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/" + what)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func frameMaps(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "memfd:wavry-frame")
}

// A functional probe encodes distinct pictures with both methods and decodes them again.
func TestProbe(t *testing.T) {
	p := encode.New(encode.Config{Name: "test", Methods: methods()})
	report, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 30, Size: &pluginpb.Size{Width: 640, Height: 360}, Fps: 60})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range report.Items {
		t.Logf("%+v", i)
		if !i.Usable || i.Frames != 30 || i.Distinct != 30 || i.LatencyP50Ms <= 0 || i.LatencyP95Ms < i.LatencyP50Ms || len(i.Codecs) != 1 {
			t.Errorf("%+v", i)
		}
	}
}

// Unknown presets and options are refused before anything starts.
func TestBadOptions(t *testing.T) {
	p := encode.New(encode.Config{Name: "test", Methods: methods()})
	for _, o := range []map[string]string{{"preset": "warp"}, {"threads": "many"}, {"colour": "blue"}} {
		_, err := p.Start(t.Context(), &pluginpb.StartEncodeRequest{Codec: "h264", SourcePath: filepath.Join(t.TempDir(), "none"), Fps: 60, BitsPerSecond: 1e6, Options: o})
		if err == nil || strings.Contains(err.Error(), "connect") {
			t.Errorf("%v: %v", o, err)
		}
	}
}

// A buffer whose rows are shorter than its pixels would be read beyond its end: it is refused before it is mapped.
func TestShortRows(t *testing.T) {
	r := newRig(t, nil)
	file, pixels, err := encode.SharedMemory(4 * 320 * 240)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer func() { _ = unix.Munmap(pixels) }()
	err = r.cap.Sink.Register(framesource.Buffer{ID: 7, Memory: framesource.MemoryShared, Size: 4 * 320 * 240, File: file, Layout: media.Layout{
		Width: 320, Height: 240, Format: media.FormatXRGB8888, Planes: []media.Plane{{Offset: 4*320*240 - 240, Stride: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	end := <-r.watched
	r.watched <- end
	if end == nil || !strings.Contains(end.Error(), "stride") { // the frame source's reader refuses it first, Wrap would too
		t.Fatal(end)
	}
}
