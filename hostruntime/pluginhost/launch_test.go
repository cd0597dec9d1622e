package pluginhost

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// fake is a spec that starts this test binary as a fake plugin, in a directory of its own.
func fake(t *testing.T, b fakeplugin.Behaviour) Spec {
	t.Helper()
	spec := selfSpec(t, b)
	spec.TempDir = shortDir(t)
	return spec
}

func selfSpec(t testing.TB, b fakeplugin.Behaviour) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Path: self, Role: Role(b.Role), Env: append(os.Environ(), b.Env())}
}

// shortDir is a temporary directory whose name leaves room for a socket; t.TempDir contains the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func launch(t *testing.T, spec Spec) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	p, err := Launch(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// TestPicturesFlow proves the whole path: capture process, frame socket, encoder process, access units over gRPC.
func TestPicturesFlow(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	capture := launch(t, fake(t, fakeplugin.Behaviour{Role: "capture"}))
	encoder := launch(t, fake(t, fakeplugin.Behaviour{Role: "encode"}))
	started, err := capture.Capture().Start(ctx, &pluginpb.StartCaptureRequest{SourcePath: inbox.Handed, Fps: 60})
	if err != nil || started.Kind != pluginpb.SourceKind_SOURCE_FRAMES {
		t.Fatal(started, err)
	}
	if err := Connect(capture, encoder); err != nil {
		t.Fatal(err)
	}
	e := encoder.Encoder()
	if _, err := e.Start(ctx, &pluginpb.StartEncodeRequest{SourcePath: inbox.Handed, Codec: "h264", Fps: 60}); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	var units []*pluginpb.AccessUnit
	err = e.Watch(ctx, func(event *pluginpb.EncodeEvent) error {
		if u := event.GetUnit(); u != nil {
			units = append(units, u)
		}
		if len(units) == 10 {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Fatal(err)
	}
	if u := units[0]; !u.Keyframe || media.Codec(u.Codec) != media.CodecH264 || u.Width != 320 || len(u.Data) < 100 {
		t.Fatal("first unit is no keyframe of the picture:", u)
	}
	if err := e.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := capture.Capture().Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestLaunchErrors proves that every way to start something that is no plugin of ours says what is wrong and what to do.
func TestLaunchErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := func(p string) Spec { return Spec{Path: p, Role: RoleCapture} }
	with := func(b fakeplugin.Behaviour) Spec { b.Role = "capture"; return fake(t, b) }
	timeout := func(s Spec) Spec { s.StartTimeout = 300 * time.Millisecond; return s }
	badSum := with(fakeplugin.Behaviour{})
	badSum.SHA256 = make([]byte, sha256.Size)
	longDir := with(fakeplugin.Behaviour{})
	longDir.TempDir = strings.Repeat("/long", 20)
	for _, c := range []struct {
		name string
		spec Spec
		kind error
		says string
	}{
		{"missing", path(filepath.Join(dir, "none")), ErrMissing, "-plugin-dir"},
		{"no role", Spec{Path: write("nameless", "x", 0o755)}, ErrRole, "wavry-capture-"},
		{"directory", path(dir), ErrNotExecutable, "no regular file"},
		{"not executable", path(write("plain", "x", 0o644)), ErrNotExecutable, "chmod 0755"},
		{"not a program", path(write("text", "x", 0o755)), ErrNotExecutable, "built for this machine"},
		{"missing interpreter", path(write("script", "#!/no/such/interpreter\n", 0o755)), ErrNotExecutable, "built for this machine"},
		{"ends at once", path(write("true", "#!/bin/sh\nexit 0\n", 0o755)), ErrNotPlugin, "without a handshake"},
		{"missing library", path(write("ld", "#!/bin/sh\necho 'x: error while loading shared libraries: libgstreamer-1.0.so.0: cannot open' >&2\nexit 127\n", 0o755)), ErrNotExecutable, "libgstreamer"},
		{"says something else", with(fakeplugin.Behaviour{Handshake: "garbage"}), ErrNotPlugin, "hello, I am not a plugin"},
		{"exits before", with(fakeplugin.Behaviour{Handshake: "exit"}), ErrNotPlugin, "exit status 7"},
		{"says nothing", timeout(with(fakeplugin.Behaviour{Handshake: "hang"})), ErrTimeout, "within 300ms"},
		{"other version", with(fakeplugin.Behaviour{Version: 2}), ErrVersion, "version 2, this host runtime 1"},
		{"checksum", badSum, ErrChecksum, "expected 0000"},
		{"long directory", longDir, ErrTempDir, "TMPDIR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Launch(context.Background(), c.spec)
			if err == nil {
				p.Kill()
				t.Fatal("started")
			}
			var le *LaunchError
			if !errors.Is(err, c.kind) || !errors.As(err, &le) {
				t.Fatalf("error %v is not %v", err, c.kind)
			}
			if !strings.Contains(err.Error(), c.says) || le.Remedy == "" {
				t.Fatalf("error %q does not say %q", err, c.says)
			}
			if c.spec.TempDir != "" && c.kind != ErrTempDir {
				checkEmpty(t, c.spec.TempDir)
			}
		})
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}

// TestChecksum proves that the right checksum starts.
func TestChecksum(t *testing.T) {
	spec := fake(t, fakeplugin.Behaviour{Role: "capture"})
	content, err := os.ReadFile(spec.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	spec.SHA256 = sum[:]
	launch(t, spec)
}

// TestCancelledStart proves that a start that is no longer wanted ends at once and leaves nothing.
func TestCancelledStart(t *testing.T) {
	spec := fake(t, fakeplugin.Behaviour{Role: "capture", Handshake: "hang"})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Launch(ctx, spec); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Fatal("took", took)
	}
	checkEmpty(t, spec.TempDir)
}

// TestRefusal proves that a plugin's reason and remedy cross the process boundary.
func TestRefusal(t *testing.T) {
	p := launch(t, fake(t, fakeplugin.Behaviour{Role: "encode", Refuse: true}))
	_, err := p.Encoder().Start(context.Background(), &pluginpb.StartEncodeRequest{Codec: "h264", Fps: 30})
	var u *pluginapi.UnavailableError
	if !errors.As(err, &u) || u.Reason != "the fake was told to refuse" || u.Remedy == "" {
		t.Fatal(err)
	}
	report, err := p.Encoder().Probe(context.Background(), &pluginpb.ProbeRequest{})
	if err != nil || len(report.Items) != 1 || report.Items[0].Usable {
		t.Fatal(report, err)
	}
}

// TestWrongRole proves that an encoder asked to capture says so.
func TestWrongRole(t *testing.T) {
	p := launch(t, fake(t, fakeplugin.Behaviour{Role: "encode"}))
	_, err := p.Capture().Start(context.Background(), &pluginpb.StartCaptureRequest{})
	if !errors.Is(err, ErrRole) {
		t.Fatal(err)
	}
}

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func ignore(*pluginpb.EncodeEvent) error { return nil }
