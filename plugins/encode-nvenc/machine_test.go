package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a made-up machine under a temporary root; features < 0 means that the plugin is not installed.
func node(t *testing.T, files []string, broken string, features int, elements ...string) machine {
	t.Helper()
	root := t.TempDir()
	for _, path := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return machine{
		root: root,
		plugin: func() (gstpipe.Plugin, bool) {
			return gstpipe.Plugin{Version: "1.22.0", Features: features}, features >= 0
		},
		has: func(f string) bool { return slices.Contains(elements, f) },
		library: func(name string) string {
			if name == broken {
				return name + ": cannot open shared object file"
			}
			return ""
		},
	}
}

// Every way in which a node can lack NVENC has its own reason and remedy.
func TestReasons(t *testing.T) {
	devices := []string{"dev/nvidiactl", "dev/nvidia0"}
	for name, c := range map[string]struct {
		m              machine
		reason, remedy string
	}{
		"no driver":   {node(t, nil, "", 0), "NVIDIA driver not loaded: /dev/nvidiactl missing", "kernel module"},
		"no gpu":      {node(t, devices[:1], "", 0), "/dev/nvidia0 missing", "device block"},
		"no cuda":     {node(t, devices, "libcuda.so.1", 0), "CUDA missing", "libcuda1"},
		"no encoder":  {node(t, devices, "libnvidia-encode.so.1", 0), "NVENC missing: libnvidia-encode.so.1", "libnvidia-encode1"},
		"no plugin":   {node(t, devices, "", -1), "nvcodec plugin is not installed", "gstreamer1.0-plugins-bad"},
		"no features": {node(t, devices, "", 0), "registered 0 features", "nvidia-smi"},
		"compute gpu": {node(t, devices, "", 9, "cudaupload"), "driver present, no encode entrypoint", "encode-software"},
	} {
		t.Run(name, func(t *testing.T) {
			u := c.m.why(media.CodecH264, "")
			if u == nil || !strings.Contains(u.Reason, c.reason) || !strings.Contains(u.Remedy, c.remedy) {
				t.Fatalf("%v, want %q and %q", u, c.reason, c.remedy)
			}
		})
	}
	if u := node(t, devices, "", 9, "nvh264enc").why(media.CodecH264, ""); u != nil {
		t.Fatalf("registered element: %v", u)
	}
}

// A device that may not be opened names the group to join.
func TestNoPermission(t *testing.T) {
	m := node(t, []string{"dev/nvidiactl", "dev/nvidia0"}, "", 3)
	m.open = func(path string) error { return &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission} }
	if u := m.why(media.CodecH264, ""); u == nil || !strings.Contains(u.Remedy, "video") {
		t.Fatal(u)
	}
}

// The chain converts where it can: on the GPU with CUDA elements, through OpenGL for DMA-BUFs, else on the CPU.
func TestChain(t *testing.T) {
	all := []string{"cudaupload", "cudaconvert", "glupload", "glcolorconvert", "h264parse", "nvcudah264enc"}
	in := encode.Input{Codec: media.CodecH264, FPS: 60, BitsPerSecond: 6e6}
	for name, c := range map[string]struct {
		has    []string
		dmabuf bool
		want   string
	}{
		"cuda":   {all, false, "cudaupload cudaconvert capsfilter nvcudah264enc capsfilter h264parse capsfilter"},
		"dmabuf": {all, true, "glupload glcolorconvert capsfilter cudaupload cudaconvert capsfilter nvcudah264enc capsfilter h264parse capsfilter"},
		"cpu":    {nil, false, "videoconvert capsfilter nvcudah264enc capsfilter"},
	} {
		in.DMABuf = c.dmabuf
		var got []string
		for _, e := range chain(in, "nvcudah264enc", func(f string) bool { return slices.Contains(c.has, f) }) {
			got = append(got, e.Factory)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}

// Element names follow the GStreamer version and the GPU.
func TestCandidates(t *testing.T) {
	if got := candidates(media.CodecHEVC, "1"); !slices.Equal(got, []string{"nvcudah265device1enc", "nvh265device1enc"}) {
		t.Error(got)
	}
	if got := candidates(media.CodecAV1, "0"); !slices.Equal(got, []string{"nvcudaav1enc", "nvav1enc"}) {
		t.Error(got)
	}
}

// The plugin answers a functional probe on this machine, whatever it has: usable with distinct pictures, or a reason and a remedy.
func TestProbeHere(t *testing.T) {
	p := encode.New(encode.Config{Name: "test", Methods: methods(machine{})})
	report, err := p.Probe(t.Context(), &pluginpb.ProbeRequest{Frames: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range report.Items {
		t.Log(i.Method, i.Usable, i.Reason, "|", i.Remedy)
		if i.Usable && i.Distinct != 10 || !i.Usable && (i.Reason == "" || i.Remedy == "") {
			t.Fatalf("%+v", i)
		}
	}
}
