//go:build integration

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// TestPortalCapturesWithoutAHuman proves on a real gnome-shell that the portal casts by a permission granted beforehand, that its
// restore token is kept where only its owner can read it and serves the next start, and that a killed gnome-shell is noticed.
func TestPortalCapturesWithoutAHuman(t *testing.T) {
	inDesktop(t, desktop.GNOME, gnomeApp, func(t *testing.T, in inside) {
		report, err := in.plugin.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "portal", Frames: 10})
		if err != nil {
			t.Fatal(err)
		}
		item := report.Items[0]
		t.Logf("probe: %v", item)
		if !item.Usable || item.Frames < 10 {
			t.Fatalf("probe says %v", item)
		}
		started := in.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"portal"}, Display: "first"})
		if started.Size.GetWidth() != 1280 || started.Kind != pluginpb.SourceKind_SOURCE_PIPEWIRE {
			t.Fatalf("started %v", started)
		}
		in.frames(t, 10)
		in.wantInput(t, 1280)
		wantToken(t, in)
		again := newInside(t)
		again.home = t.TempDir()
		if err := os.Rename(filepath.Join(in.home, "state"), filepath.Join(again.home, "state")); err != nil {
			t.Fatal(err)
		}
		again.start(t, &pluginpb.StartCaptureRequest{
			Methods: []string{"portal"}, Display: "first", Options: map[string]string{"portal_preauthorize": "no"},
		})
		again.frames(t, 5)
		again.wantFaults(t, "gnome-shell")
	})
}

func wantToken(t *testing.T, in inside) {
	t.Helper()
	dir := filepath.Join(in.home, "state")
	files, err := filepath.Glob(filepath.Join(dir, "restore-token-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("restore tokens %v, %v", files, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, files[0]: 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

// TestPortalDialogIsReported proves that a dialog which nobody answers is found out and explained.
func TestPortalDialogIsReported(t *testing.T) {
	inDesktop(t, desktop.GNOME, gnomeApp, func(t *testing.T, in inside) {
		_, err := in.plugin.Start(t.Context(), &pluginpb.StartCaptureRequest{
			Methods: []string{"portal"}, SourcePath: filepath.Join(in.home, "source.sock"), Display: "asked",
			Options: map[string]string{"portal_preauthorize": "no"},
		})
		t.Logf("start: %v", err)
		wantText(t, err, "dialog", "portal_preauthorize=yes")
	})
}
