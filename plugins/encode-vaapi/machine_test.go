package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a made-up machine under a temporary root.
func node(t *testing.T, files map[string]string, features int, elements ...string) machine {
	t.Helper()
	t.Setenv("LIBVA_DRIVERS_PATH", "")
	root := t.TempDir()
	for path, text := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return machine{
		root: root,
		plugin: func() (gstpipe.Plugin, bool) {
			return gstpipe.Plugin{Version: "1.22.0", Features: features}, features >= 0
		},
		has: func(f string) bool {
			for _, e := range elements {
				if e == f {
					return true
				}
			}
			return false
		},
	}
}

const (
	renderNode = "dev/dri/renderD128"
	uevent     = "sys/class/drm/renderD128/device/uevent"
)

// Every way in which a node can lack VA-API encoding has its own reason and remedy.
func TestReasons(t *testing.T) {
	intel := map[string]string{renderNode: "", uevent: "DRIVER=i915\nPCI_ID=8086:9A49\n"}
	withDriver := map[string]string{renderNode: "", uevent: "DRIVER=i915\n", "usr/lib/x86_64-linux-gnu/dri/iHD_drv_video.so": ""}
	nvidia := map[string]string{renderNode: "", uevent: "DRIVER=nvidia\n"}
	for name, c := range map[string]struct {
		m              machine
		reason, remedy string
	}{
		"no node":       {node(t, nil, 0), "no DRM render node under /dev/dri", "encode-software"},
		"no plugin":     {node(t, intel, -1), "va plugin is not installed", "gstreamer1.0-plugins-bad"},
		"no VA driver":  {node(t, intel, 0), "registered 0 features because no VA driver for i915", "intel-media-va-driver"},
		"driver broken": {node(t, withDriver, 0), "does not start", "vainfo"},
		"wrong vendor":  {node(t, nvidia, 0), `kernel driver "nvidia" has no VA-API encoder`, "encode-nvenc"},
		"no entrypoint": {node(t, withDriver, 12), "driver present, no encode entrypoint", "vainfo"},
	} {
		t.Run(name, func(t *testing.T) {
			u := c.m.why("vah264enc")
			if u == nil || !strings.Contains(u.Reason, c.reason) || !strings.Contains(u.Remedy, c.remedy) {
				t.Fatalf("%v, want %q and %q", u, c.reason, c.remedy)
			}
		})
	}
	if u := node(t, withDriver, 12, "vah264enc").why("vah264enc"); u != nil {
		t.Fatalf("registered element: %v", u)
	}
}

// A render node that may not be opened names the group to join.
func TestNoPermission(t *testing.T) {
	m := node(t, map[string]string{renderNode: ""}, 5, "vah264enc")
	m.writable = func(path string) error { return &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission} }
	u := m.why("vah264enc")
	if u == nil || !strings.Contains(u.Reason, "permission denied") && !errors.Is(u, fs.ErrPermission) || !strings.Contains(u.Remedy, "render") {
		t.Fatal(u)
	}
}

// The chain names every element and property for each codec, with the device's own elements where one is asked for.
func TestChain(t *testing.T) {
	for _, c := range codecs {
		in := encode.Input{Codec: c, Layout: media.Layout{Width: 1280, Height: 720, Format: media.FormatXRGB8888}, FPS: 60, BitsPerSecond: 6e6,
			Options: map[string]string{"device": "renderD129"}}
		found := false
		for _, e := range methods(machine{})[1].Chain(in) {
			if e.Name == encode.EncoderName {
				found = e.Factory == "varenderD129"+short[c]+"enc"
			}
		}
		if !found {
			t.Errorf("%v: no encoder of the device", c)
		}
	}
}

// Caps of DMA-BUFs follow the GStreamer version.
func TestDMABufCaps(t *testing.T) {
	tiled := media.Layout{Width: 640, Height: 480, Format: media.FormatXRGB8888, Modifier: 0x0100000000000002}
	linear := tiled
	linear.Modifier = 0
	if caps := dmabufCaps(tiled, gstpipe.Version{Major: 1, Minor: 22}); caps != "" {
		t.Errorf("1.22 tiled: %s", caps)
	}
	if caps := dmabufCaps(linear, gstpipe.Version{Major: 1, Minor: 22}); !strings.Contains(caps, "memory:DMABuf), format=(string)BGRx, width=(int)640") {
		t.Errorf("1.22 linear: %s", caps)
	}
	if caps := dmabufCaps(tiled, gstpipe.Version{Major: 1, Minor: 24}); !strings.Contains(caps, "drm-format=(string)XR24:0x0100000000000002, width=(int)640") {
		t.Errorf("1.24 tiled: %s", caps)
	}
	if caps := dmabufCaps(linear, gstpipe.Version{Major: 1, Minor: 26}); !strings.Contains(caps, "drm-format=(string)XR24, width") {
		t.Errorf("1.26 linear: %s", caps)
	}
}

// The plugin answers a functional probe on this machine, whatever it has: usable with distinct pictures, or a reason and a remedy.
func TestProbeHere(t *testing.T) {
	p := encode.New(encode.Config{Name: "test", Methods: methods(machine{})})
	report, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Items) != 2 {
		t.Fatalf("%d items", len(report.Items))
	}
	for _, i := range report.Items {
		t.Log(i.Method, i.Usable, i.Reason, "|", i.Remedy)
		if i.Usable && i.Distinct != 10 || !i.Usable && (i.Reason == "" || i.Remedy == "") {
			t.Fatalf("%+v", i)
		}
	}
}
