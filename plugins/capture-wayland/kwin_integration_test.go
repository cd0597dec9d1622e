//go:build integration

package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/capturetest"
)

var kdeApp = []string{"konsole", "--hide-menubar", "--nofork", "-e", "sh", "-c", recorder}

// TestKWinWindowCapturesAndInjects proves, on a real kwin_wayland, that the stream of the maximised window delivers changing frames,
// that input reaches the application in it, and that a stopped and a killed KWin are noticed.
func TestKWinWindowCapturesAndInjects(t *testing.T) {
	inDesktop(t, desktop.KDE, kdeApp, func(t *testing.T, in inside) {
		report, err := in.plugin.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range report.Items {
			t.Logf("probe: %v", item)
			if item.Method == "kwin-window" && (!item.Usable || item.Frames < 10 || item.Distinct < 2) {
				t.Errorf("kwin-window: %v", item)
			}
		}
		started := in.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"kwin-screencast", "kwin-window"}})
		if !started.Input || started.Kind != pluginpb.SourceKind_SOURCE_PIPEWIRE {
			t.Fatalf("started %v", started)
		}
		if got := in.frames(t, 20); len(got.hashes) < 2 {
			t.Errorf("%d distinct pictures of a changing screen", len(got.hashes))
		}
		in.wantInput(t)
		in.wantFaults(t, started.Kind, "kwin_wayland")
	})
}

// TestKWinScreenshotsAreTheLastResort proves that polling delivers the whole workspace through the frame socket, with input.
func TestKWinScreenshotsAreTheLastResort(t *testing.T) {
	inDesktop(t, desktop.KDE, kdeApp, func(t *testing.T, in inside) {
		report, err := in.plugin.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "kwin-screenshot", Frames: 10})
		if err != nil {
			t.Fatal(err)
		}
		item := report.Items[0]
		t.Logf("probe: %v", item)
		if !item.Usable || item.Frames < 10 || item.Distinct < 2 {
			t.Fatalf("probe says %v", item)
		}
		started := in.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"kwin-screenshot"}, Fps: 30})
		if !started.Input || started.Kind != pluginpb.SourceKind_SOURCE_FRAMES || started.Size.Width != 1280 {
			t.Fatalf("started %v", started)
		}
		e, err := capturetest.Dial(t.Context(), filepath.Join(in.home, "source.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		looker, hashes, began := capture.NewLooker(), map[uint64]bool{}, time.Now()
		const frames = 20
		for range frames {
			p, err := e.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			look := looker.Look(p.Pix, p.Layout)
			hashes[look.Hash] = true
			if look.Black {
				t.Fatal("a picture is black")
			}
			if err := e.Release(p); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d frames, %d distinct, %.1f fps", frames, len(hashes), frames/time.Since(began).Seconds())
		if len(hashes) < 2 {
			t.Errorf("%d distinct pictures of a changing screen", len(hashes))
		}
		in.wantInput(t)
		in.wantFaults(t, started.Kind, "kwin_wayland")
	})
}
