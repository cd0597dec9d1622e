//go:build integration

package main

import (
	"os"
	"testing"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/portal"
)

var gnomeApp = []string{"foot", "-m", "-e", "sh", "-c", recorder}

// TestMutterCapturesAndInjects proves, on a real gnome-shell, that probe and capture deliver changing frames through PipeWire, that
// keys, clicks and the wheel reach an application, and that a stopped and a killed gnome-shell are noticed.
func TestMutterCapturesAndInjects(t *testing.T) {
	inDesktop(t, desktop.GNOME, gnomeApp, func(t *testing.T, in inside) {
		report, err := in.plugin.Probe(t.Context(), &pluginpb.ProbeRequest{Method: "mutter", Frames: 10})
		if err != nil {
			t.Fatal(err)
		}
		item := report.Items[0]
		t.Logf("probe: %v", item)
		if !item.Usable || item.Frames < 10 || item.Distinct < 2 {
			t.Fatalf("probe says %v", item)
		}
		started := in.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"mutter"}})
		if !started.Input || started.Kind != pluginpb.SourceKind_SOURCE_PIPEWIRE || started.Size.Width != 1280 || started.Size.Height != 720 {
			t.Fatalf("started %v", started)
		}
		if got := in.frames(t, 20); len(got.hashes) < 2 {
			t.Errorf("%d distinct pictures of a changing screen", len(got.hashes))
		}
		in.encoder(t)
		in.wantInput(t)
		wantModeAccepted(t)
		in.wantFaults(t, started.Kind, "gnome-shell")
	})
}

// wantModeAccepted sets the mode that the monitor has: a virtual monitor has no other, and Mutter checks the request all the same.
func wantModeAccepted(t *testing.T) {
	t.Helper()
	bus, err := portal.Connect(t.Context(), os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	m, err := findMonitor(t.Context(), bus, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.apply(t.Context(), bus, m.modes[0], 1); err != nil {
		t.Errorf("Mutter refused its own mode: %v", err)
	}
	m.serial--
	if err := m.apply(t.Context(), bus, m.modes[0], 1); err == nil {
		t.Error("Mutter accepted a stale serial, so nothing was checked")
	}
}
