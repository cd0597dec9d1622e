//go:build integration

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
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
		in.wantInput(t)
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
		again.wantFaults(t, started.Kind, "gnome-shell")
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

// TestPortalInputAfterADialog proves the portal's own input. A second capture plays the human who allows it in the dialog.
func TestPortalInputAfterADialog(t *testing.T) {
	inDesktop(t, desktop.GNOME, gnomeApp, func(t *testing.T, in inside) {
		human := newInside(t)
		human.home = t.TempDir()
		human.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"mutter"}, Options: map[string]string{optionMonitor: "keep"}})
		answered := make(chan error, 1)
		go func() { answered <- human.allow(t.Context()) }()
		started := in.start(t, &pluginpb.StartCaptureRequest{Methods: []string{"portal"}, Options: map[string]string{"portal_input": "ask"}})
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if !started.Input || !strings.Contains(started.Reason, "RemoteDesktop") {
			t.Fatalf("started %v", started)
		}
		in.frames(t, 5)
		in.wantInput(t)
	})
}

// allow waits for the blue button of the portal's dialog, switches interaction on and presses it.
func (in inside) allow(ctx context.Context) error {
	source, err := framesource.Dial(ctx, filepath.Join(in.home, "source.sock"))
	if err != nil {
		return err
	}
	defer source.Close()
	node := source.PipeWire()
	defer node.Remote.Close()
	p, err := gstpipe.Build("human", []gstpipe.Element{
		{Factory: "pipewiresrc", Props: []gstpipe.Prop{gstpipe.P("fd", node.Remote.Fd()), gstpipe.P("path", node.ID)}}, gstpipe.Caps(gstpipe.SizedCaps("video/x-raw", node.Width, node.Height)), gstpipe.Sink(),
	})
	if err != nil {
		return err
	}
	defer p.Close()
	p.Pictures(true)
	if err := p.Start(5*time.Second, true); err != nil {
		return err
	}
	const row, button = 448.0 / 720, 249.0 / 720
	for until := time.Now().Add(6 * time.Second); time.Now().Before(until); {
		f, err := p.PullPicture(pullTimeout)
		if errors.Is(err, gstpipe.ErrTimeout) {
			continue
		}
		if err != nil {
			return err
		}
		blue := hasBlue(&f.Picture)
		f.Picture.Release()
		if blue {
			events := []*pluginpb.InputEvent{moveTo(0.5, row), click(true), click(false), moveTo(852.0/1280, button), click(true), click(false)}
			_, err := in.plugin.Inject(ctx, &pluginpb.InputBatch{Events: events})
			return err
		}
	}
	return errors.New("no dialog appeared")
}

// hasBlue finds the accent colour of GNOME's suggested action.
func hasBlue(p *gstpipe.Picture) bool {
	var grid [trialColumns * trialRows * trialPixel]byte
	n := p.Sample(grid[:], trialPixel, trialColumns, trialRows)
	for i := 0; i < n*trialPixel; i += trialPixel {
		if b, g, r := grid[i], grid[i+1], grid[i+2]; b > 200 && g > 100 && g < 170 && r < 90 {
			return true
		}
	}
	return false
}
