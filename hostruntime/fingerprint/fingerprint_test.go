package fingerprint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// TestMain makes this binary the fake plugin when it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(fakeplugin.EnvName) != "" {
		fakeplugin.Main()
		return
	}
	goleak.VerifyTestMain(m)
}

// fakes launches fake plugins by the name of the binary.
func fakes(t *testing.T, behaviours map[string]fakeplugin.Behaviour) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var cfg Config
	for _, name := range []string{"capture-test", "capture-wayland", "encode-nvenc", "encode-software"} {
		b, exists := behaviours[name]
		if !exists {
			continue
		}
		role := pluginhost.RoleCapture
		if b.Role = "capture"; strings.HasPrefix(name, "encode") {
			role, b.Role = pluginhost.RoleEncode, "encode"
		}
		behaviours[name] = b
		cfg.Binaries = append(cfg.Binaries, pluginhost.Binary{Name: name, Role: role, Path: self})
	}
	cfg.Launch = func(ctx context.Context, b pluginhost.Binary) (pipeline.Process, error) {
		p, err := pluginhost.Launch(ctx, pluginhost.Spec{Path: b.Path, Role: b.Role, Env: append(os.Environ(), behaviours[b.Name].Env())})
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	cfg.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cfg
}

// TestRun proves the whole: what works is chosen in order, what does not says why and what to do, and the pair is tried together.
func TestRun(t *testing.T) {
	cfg := fakes(t, map[string]fakeplugin.Behaviour{
		"capture-test": {}, "capture-wayland": {}, "encode-nvenc": {Refuse: true}, "encode-software": {},
	})
	cfg.Joint = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Usable() || len(r.Captures) != 1 || r.Captures[0].Plugin != "capture-wayland" || r.Encoders[0].Plugin != "encode-software" {
		t.Fatalf("chosen %v and %v", r.Captures, r.Encoders)
	}
	if j := r.Joint; j.Verdict != OK || j.Units < 2 || j.FirstPicture <= 0 {
		t.Fatalf("together: %+v", j)
	}
	nvenc := r.Plugins[2]
	if nvenc.Verdict != Fail || nvenc.Reason != "the fake was told to refuse" || nvenc.Remedy == "" {
		t.Fatalf("refusal: %+v", nvenc)
	}
	for _, c := range r.Checks {
		if c.Verdict != OK && c.Remedy == "" || c.Detail == "" {
			t.Errorf("line without detail or remedy: %+v", c)
		}
	}
	if m := r.Meta(); m["encoder"] != "encode-software/fake" || m["codecs"] != "h264" {
		t.Error("meta", m)
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"verdict":"fail","reason":"the fake was told to refuse"`) {
		t.Fatalf("%s, %v", b, err)
	}
	if c := r.CaptureCandidates(); c[0].Name != "capture-wayland" || c[0].Methods[0] != "fake" || c[0].Path == "" {
		t.Fatal(c)
	}
}

// TestBroken proves that a plugin that cannot even be asked is a line of the report, not the end of it.
func TestBroken(t *testing.T) {
	cfg := fakes(t, map[string]fakeplugin.Behaviour{"capture-wayland": {Handshake: "exit"}, "encode-software": {Version: 3}})
	r, err := Run(t.Context(), cfg)
	if err != nil || r.Usable() || r.Joint != nil {
		t.Fatal(r, err)
	}
	for i, want := range []string{"without a handshake", "version 3"} {
		if p := r.Plugins[i]; p.Verdict != Fail || !strings.Contains(p.Reason, want) || p.Remedy == "" {
			t.Errorf("%+v does not say %q", p, want)
		}
	}
}

// TestClaims proves that a plugin which claims to work without producing pictures is not believed.
func TestClaims(t *testing.T) {
	cfg := fakes(t, map[string]fakeplugin.Behaviour{"capture-wayland": {Frozen: true}})
	r, err := Run(t.Context(), cfg)
	if err != nil || len(r.Captures) != 0 {
		t.Fatal(r.Captures, err)
	}
}

// TestChoose proves the order: the operator's, else hardware first; one choice for neighbouring methods; the pattern only by name.
func TestChoose(t *testing.T) {
	plugin := func(role pluginhost.Role, name string, methods ...string) Plugin { // "!m" is an unusable method
		p := Plugin{Name: name, Role: role, Path: "/p/" + name}
		for _, m := range methods {
			method, broken := strings.CutPrefix(m, "!")
			p.Methods = append(p.Methods, Method{Name: method, Verdict: map[bool]Verdict{false: OK, true: Fail}[broken]})
		}
		return p
	}
	plugins := []Plugin{
		plugin(pluginhost.RoleCapture, "capture-test", "test"), plugin(pluginhost.RoleCapture, "capture-wayland", "portal", "!mutter", "wlr"),
		plugin(pluginhost.RoleEncode, "encode-own", "o"), plugin(pluginhost.RoleEncode, "encode-software", "x264", "openh264"),
		plugin(pluginhost.RoleEncode, "encode-nvenc", "!nvenc"), plugin(pluginhost.RoleEncode, "encode-vaapi", "va"),
	}
	for _, c := range []struct {
		role   pluginhost.Role
		wanted []string
		want   string
	}{
		{pluginhost.RoleEncode, nil, "encode-vaapi[va] encode-software[x264 openh264] encode-own[o]"},
		{pluginhost.RoleEncode, []string{"encode-own", "encode-vaapi"}, "encode-own[o] encode-vaapi[va]"},
		{pluginhost.RoleEncode, []string{"encode-software/openh264", "encode-software/x264"}, "encode-software[openh264 x264]"},
		{pluginhost.RoleEncode, []string{"encode-software/openh264", "encode-vaapi", "encode-software/x264"}, "encode-software[openh264] encode-vaapi[va] encode-software[x264]"},
		{pluginhost.RoleEncode, []string{"encode-nvenc", "encode-none"}, ""},
		{pluginhost.RoleCapture, nil, "capture-wayland[portal wlr]"},
		{pluginhost.RoleCapture, []string{"capture-wayland/mutter", "capture-test"}, "capture-test[test]"},
		{pluginhost.RoleCapture, []string{"encode-vaapi"}, ""},
	} {
		var got []string
		for _, choice := range choose(plugins, c.role, c.wanted) {
			got = append(got, fmt.Sprintf("%s%v", choice.Plugin, choice.Methods))
			if choice.Reason == "" || choice.Path != "/p/"+choice.Plugin {
				t.Errorf("%+v", choice)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %v: got %v, want %s", c.role, c.wanted, got, c.want)
		}
	}
}

// TestLock proves that what was pinned is compared, what was not is free, and that useless files are refused.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock.json")
	r := &Result{Versions: map[string]string{"gstreamer": "1.22.0", "pipewire": "0.3.65"}}
	if err := r.WriteLock(path); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLock(path)
	if err != nil || len(l.Compare(r)) != 0 {
		t.Fatal(l, err)
	}
	other := &Result{Versions: map[string]string{"gstreamer": "1.24.2", "new": "1"}}
	want := []Mismatch{{"gstreamer", "1.22.0", "1.24.2"}, {"pipewire", "0.3.65", ""}}
	if got := l.Compare(other); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if s := want[1].String(); s != "pipewire is missing, pinned is 0.3.65" {
		t.Error(s)
	}
	for content, says := range map[string]string{"": "JSON", "{}": "pins nothing", "[1]": "unmarshal"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := ReadLock(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// bench is a node whose file system is a temporary directory and whose tools are a table.
func bench(t *testing.T, env map[string]string, tools map[string]string) *node {
	t.Helper()
	return &node{env: env, uid: os.Geteuid(), root: t.TempDir(), as: func(f func() error) error { return f() },
		output: func(_ context.Context, name string, args ...string) (string, error) {
			out, found := tools[strings.Join(append([]string{name}, args...), " ")]
			if !found {
				return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
			}
			if out == "fails" {
				return "", errors.New("exit status 1")
			}
			return out, nil
		},
		dial: func(string, string) (net.Conn, error) { return nil, errors.New("connection refused") },
	}
}

func (n *node) write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(path)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.path(path), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c Check, v Verdict, says string) {
	t.Helper()
	if c.Verdict != v || !strings.Contains(c.Detail, says) || (v != OK) != (c.Remedy != "") {
		t.Errorf("got %+v, want %s saying %q", c, v, says)
	}
}

// TestChecks proves each check's verdicts on made-up nodes.
func TestChecks(t *testing.T) {
	ctx := t.Context()
	r := &Result{Versions: map[string]string{}}
	n := bench(t, map[string]string{}, nil)

	n.uid = 0
	expect(t, n.user(ctx, r), Warn, "root")
	n.uid = 1000
	expect(t, n.user(ctx, r), OK, "1000")
	n.uid = os.Geteuid()

	expect(t, n.runtimeDir(ctx, r), Fail, "not set")
	n.env["XDG_RUNTIME_DIR"] = "/run/user/1"
	expect(t, n.runtimeDir(ctx, r), Fail, "no such file")
	n.write(t, "/run/user/1/x", "")
	expect(t, n.runtimeDir(ctx, r), OK, "0700")
	if err := os.Chmod(n.path("/run/user/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, n.runtimeDir(ctx, r), Fail, "0755")
	if err := os.Chmod(n.path("/run/user/1"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.uid++
	expect(t, n.runtimeDir(ctx, r), Fail, "belongs to uid")
	n.uid--

	expect(t, n.compositor(ctx, r), Fail, "WAYLAND_DISPLAY is not set")
	n.env["WAYLAND_DISPLAY"] = "wayland-9"
	expect(t, n.compositor(ctx, r), Fail, "connection refused")
	expect(t, n.bus(ctx, r), Fail, "not set")
	n.env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent"
	expect(t, n.bus(ctx, r), Fail, "connect to the session bus")
	expect(t, n.portal(ctx, r), Warn, "no session bus")
	expect(t, n.pipewire(ctx, r), Warn, "no daemon")

	expect(t, n.drm(ctx, r), Warn, "no DRM render node")
	n.write(t, "/dev/dri/renderD128", "")
	expect(t, n.drm(ctx, r), OK, "renderD128")
	expect(t, n.nvidia(ctx, r), OK, "no NVIDIA driver")
	n.write(t, "/proc/driver/nvidia/version", "NVRM version: 550.1\nGCC")
	expect(t, n.nvidia(ctx, r), Warn, "nvidiactl")
	n.write(t, "/dev/nvidiactl", "")
	n.write(t, "/dev/nvidia0", "")
	expect(t, n.nvidia(ctx, r), OK, "550.1")
	if r.Versions["nvidia"] != "NVRM version: 550.1" {
		t.Error(r.Versions)
	}

	expect(t, n.udpBuffers(ctx, r), OK, "at least")
	n.write(t, "/proc/sys/net/core/rmem_max", "212992\n")
	n.write(t, "/proc/sys/net/core/wmem_max", "99999999\n")
	expect(t, n.udpBuffers(ctx, r), Warn, "rmem_max = 212992")
	n.write(t, "/proc/sys/net/core/rmem_max", "much\n")
	expect(t, n.udpBuffers(ctx, r), Warn, "much")
}

// TestTools proves what is made of the output of GStreamer's, PipeWire's and Debian's tools, and of their absence.
func TestTools(t *testing.T) {
	ctx := t.Context()
	r := &Result{Versions: map[string]string{}}
	none := bench(t, map[string]string{}, nil)
	expect(t, none.gstreamer(ctx, r), Warn, "gst-inspect-1.0")
	expect(t, none.elements(ctx, r), Warn, "not installed")
	none.packages(ctx, r)

	tools := map[string]string{"gst-inspect-1.0 --version": "gst-inspect-1.0 version 1.22.0\nGStreamer 1.22.0\nhttps://...\n"}
	for _, e := range elementSet {
		tools["gst-inspect-1.0 --exists --atleast-version=0.0 "+e.element] = ""
	}
	tools["gst-inspect-1.0 --exists --atleast-version=0.0 nvh264enc"] = "fails"
	tools["pw-cli info 0"] = "\tid: 0\n\tversion: \"0.3.65\"\n"
	query := strings.Join(append([]string{"dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"}, pinned...), " ")
	tools[query] = "installed sway 1.7-6\nnot-installed kwin-wayland \nbroken\n"
	n := bench(t, map[string]string{"XDG_RUNTIME_DIR": "/run"}, tools)
	expect(t, n.gstreamer(ctx, r), OK, "1.22.0")
	expect(t, n.elements(ctx, r), Warn, "missing nvh264enc (encode-nvenc)")
	ours, theirs := net.Pipe()
	defer theirs.Close()
	n.dial = func(string, string) (net.Conn, error) { return ours, nil }
	expect(t, n.pipewire(ctx, r), OK, "version 0.3.65")
	n.packages(ctx, r)
	want := map[string]string{"gstreamer": "1.22.0", "pipewire": "0.3.65", "package/sway": "1.7-6"}
	if !reflect.DeepEqual(r.Versions, want) {
		t.Errorf("versions %v, want %v", r.Versions, want)
	}
}

// TestNeedsH264 proves that an encoder which cannot make what sessions send is not chosen, whatever else it can do.
func TestNeedsH264(t *testing.T) {
	for codecs, want := range map[string]Verdict{"h264": OK, "hevc,h264": OK, "av1": Fail, "": Fail} {
		p := Plugin{Role: pluginhost.RoleEncode, Verdict: Fail}
		p.conclude(&pluginpb.ProbeReport{Items: []*pluginpb.ProbeItem{{Method: "m", Usable: true, Frames: 10, Codecs: strings.Split(codecs, ",")}}}, true)
		if p.Verdict != want || (want == Fail) != strings.Contains(p.Reason, "sessions are H.264") {
			t.Errorf("%q: %+v", codecs, p)
		}
	}
}
