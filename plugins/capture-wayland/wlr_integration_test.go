//go:build integration

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/capturetest"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

var swayApp = []string{"foot", "-e", "sh", "-c", recorder}

// swayBackground is the desktop's #1f2b38 in the bytes of a pixel.
var swayBackground = [3]byte{0x38, 0x2b, 0x1f}

// A real sway delivers its real pixels through the frame socket, follows a resize, and its applications get keys with modifiers, clicks
// and the wheel. The first key is not lost.
func TestSwayCapturesAndInjects(t *testing.T) {
	inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) {
		report, err := in.plugin.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "wlr-screencopy", Frames: 10})
		if err != nil {
			t.Fatal(err)
		}
		if i := report.Items[0]; !i.Usable || i.Frames != 10 || i.Distinct < 2 {
			t.Fatalf("probe: %v", i)
		}
		started := in.start(t, &pluginpb.StartCaptureRequest{Fps: 60})
		if started.Method != "wlr-screencopy" || !started.Input || !started.Resize {
			t.Fatalf("started %v", started)
		}
		in.inject(t, keys(35, 23)...) // at once: "hi"
		e := in.dial(t)
		wantPixels(t, e, 1280, 720)
		in.wantBytes(t, "hi")
		in.wantInput(t)
		in.wantModifiers(t)
		in.wantResize(t, e, 1600, 900)
		in.wantResize(t, e, 1280, 720)
	})
}

func (in inside) dial(t *testing.T) *capturetest.Encoder {
	t.Helper()
	e, err := capturetest.Dial(t.Context(), filepath.Join(in.home, "source.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func wantPixels(t *testing.T, e *capturetest.Encoder, width, height int) {
	t.Helper()
	p := next(t, e)
	if p.Layout.Width != width || p.Layout.Height != height {
		t.Fatalf("picture of %dx%d, want %dx%d", p.Layout.Width, p.Layout.Height, width, height)
	}
	// The gap between the output's edge and the window shows the desktop.
	at := 2*p.Layout.Planes[0].Stride + 4*2
	if got := [3]byte(p.Pix[at : at+3]); got != swayBackground {
		t.Fatalf("pixel (2,2) is %x, want %x", got, swayBackground)
	}
	release(t, e, p)
}

func next(t *testing.T, e *capturetest.Encoder) capturetest.Picture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	p, err := e.Next(ctx)
	if err != nil {
		t.Fatalf("next picture: %v", err)
	}
	return p
}

func release(t *testing.T, e *capturetest.Encoder, p capturetest.Picture) {
	t.Helper()
	if err := e.Release(p); err != nil {
		t.Fatal(err)
	}
}

// wantModifiers proves that shift, caps lock and control reach a program that reads bytes.
func (in inside) wantModifiers(t *testing.T) {
	t.Helper()
	shift := func(down bool) *pluginpb.InputEvent {
		return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: keyLeftShift, Down: down}}}
	}
	in.inject(t, shift(true))
	in.inject(t, keys(16, 17)...) // Q W
	in.inject(t, shift(false))
	in.inject(t, keys(keyCapsLock, 18, keyCapsLock, 19)...) // E r
	in.wantBytes(t, "QWEr")
	in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: keyLeftCtrl, Down: true}}})
	in.inject(t, keys(32)...) // ^D
	in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}})
	in.wantBytes(t, "\x04")
	in.inject(t, keys(79)...) // keypad 1, which is a digit because NumLock is on
	in.wantBytes(t, "1")
}

func (in inside) wantResize(t *testing.T, e *capturetest.Encoder, width, height int) {
	t.Helper()
	got, err := in.plugin.Resize(t.Context(), &pluginpb.Size{Width: uint32(width), Height: uint32(height)})
	if err != nil || int(got.Width) != width || int(got.Height) != height {
		t.Fatalf("resize to %dx%d: %v, %v", width, height, got, err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		p := next(t, e)
		release(t, e, p)
		if p.Layout.Width == width && p.Layout.Height == height {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pictures still have %dx%d", p.Layout.Width, p.Layout.Height)
		}
	}
}

// A layout with AltGr types what is printed on its keys; one that does not exist is refused with what to do.
func TestSwayLayouts(t *testing.T) {
	inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) {
		_, err := in.plugin.Start(t.Context(), in.request("nosuchlayout"))
		if err == nil || !strings.Contains(err.Error(), "nosuchlayout") {
			t.Fatalf("an unknown layout: %v", err)
		}
		in.start(t, in.request("de"))
		altGr := func(down bool) *pluginpb.InputEvent {
			return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: keyRightAlt, Down: down}}}
		}
		in.inject(t, keys(21)...) // z where us has y
		in.inject(t, altGr(true))
		in.inject(t, keys(16)...) // @
		in.inject(t, altGr(false))
		in.wantBytes(t, "z@")
	})
}

func (in inside) request(layout string) *pluginpb.StartCaptureRequest {
	return &pluginpb.StartCaptureRequest{
		Fps:        60,
		SourcePath: filepath.Join(in.home, "source.sock"), Methods: []string{"wlr-screencopy"}, Options: map[string]string{optionLayout: layout},
	}
}

// A compositor that is killed, or stops answering, ends the capture with a clear error within two seconds, and nothing is left open.
func TestSwayDies(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		want   error
	}{
		{"killed", syscall.SIGKILL, wayland.ErrCompositorGone},
		{"stopped", syscall.SIGSTOP, errCompositorSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) { in.compositorDies(t, c.signal, c.want) })
		})
	}
}

func (in inside) compositorDies(t *testing.T, signal syscall.Signal, want error) {
	before := openFiles(t)
	in.start(t, &pluginpb.StartCaptureRequest{Fps: 60})
	e := in.dial(t)
	release(t, e, next(t, e))
	sway := findProcess(t, "sway")
	if err := syscall.Kill(sway, signal); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(sway, syscall.SIGCONT)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := in.plugin.Watch(ctx, func(*pluginpb.CaptureEvent) error { return nil })
	took := time.Since(began)
	t.Logf("after %v: %v", took.Round(time.Millisecond), err)
	if !errors.Is(err, want) && !strings.Contains(fmt.Sprint(err), want.Error()) {
		t.Errorf("Watch ended with %v, want %v", err, want)
	}
	if took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := in.plugin.Inject(ctx, &pluginpb.InputBatch{Events: keys(30)}); err == nil {
		t.Error("input went to a dead compositor")
	}
	_ = e.Close()
	if err := in.plugin.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}

// openFiles counts descriptors, without the one that counts them.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) - 1
}

// findProcess finds the process of that name which listens on our display: several desktops may run.
func findProcess(t *testing.T, name string) int {
	t.Helper()
	matches, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, comm := range matches {
		text, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue
		}
		environ, err := os.ReadFile(filepath.Join(filepath.Dir(comm), "environ"))
		if err == nil && strings.Contains(string(environ), "XDG_RUNTIME_DIR="+os.Getenv("XDG_RUNTIME_DIR")+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process %s of this desktop", name)
	return 0
}

// At the frame rate asked for, each picture of a moving desktop is in the encoder's hand within a refresh of its stamp. The numbers of
// the documentation are this test's log.
func TestSwayNumbers(t *testing.T) {
	inDesktop(t, desktop.Sway, swayApp, func(t *testing.T, in inside) {
		in.start(t, &pluginpb.StartCaptureRequest{Fps: 60})
		e := in.dial(t)
		for _, size := range []capture.Size{{Width: 1920, Height: 1080}, {Width: 1280, Height: 720}} {
			in.wantResize(t, e, size.Width, size.Height)
			in.measure(t, e, size)
		}
	})
}

func (in inside) measure(t *testing.T, e *capturetest.Encoder, size capture.Size) {
	t.Helper()
	const pictures = 120
	var delays []time.Duration
	began, cpu, allocated := time.Now(), cpuTime(t), mallocs()
	for i := range pictures {
		in.inject(t, moveTo(float64(i%100)/100, 0.9)) // something moves in every picture
		p := next(t, e)
		delays = append(delays, media.Now().Sub(p.CaptureTime))
		release(t, e, p)
	}
	took := time.Since(began)
	t.Logf("%v: %.1f fps, stamp to encoder p50 %.2f ms p95 %.2f ms p99 %.2f ms, %.0f us CPU and %.0f allocations a picture with injection and reading", size, pictures/took.Seconds(),
		capture.Percentile(delays, 50), capture.Percentile(delays, 95), capture.Percentile(delays, 99),
		float64((cpuTime(t)-cpu).Microseconds())/pictures, float64(mallocs()-allocated)/pictures)
	if p50 := capture.Percentile(delays, 50); p50 > 17 {
		t.Errorf("a picture needs %.1f ms", p50)
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
