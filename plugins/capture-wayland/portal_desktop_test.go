//go:build integration

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/desktop"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// insideVar is set in the copy of the test that runs as the desktop's user, with its environment: portals look at their callers.
const insideVar = "WAVRY_TEST_INSIDE"

// recorder is a terminal's shell that writes every byte it gets, keys and mouse reports (SGR 1006), into $HOME/input. A clock in its
// corner keeps the picture changing.
const recorder = `stty raw -echo; printf '\033[?1000h\033[?1006h'; (while :; do date +%N; sleep 0.03; done) & touch $HOME/ready; cat > $HOME/input`

// inDesktop runs body inside a desktop of that kind, in a copy of this test.
func inDesktop(t *testing.T, kind desktop.Kind, app []string, body func(t *testing.T, d inside)) {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		body(t, newInside(t))
		return
	}
	cfg := desktop.Config{Kind: kind, Apps: [][]string{app}}
	if testing.Verbose() {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	d, err := desktop.New(cfg)
	if err != nil {
		t.Skipf("no desktop: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("desktop: %v", err)
		}
	}()
	select {
	case <-d.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatalf("desktop ended before it was ready: %v", err)
	}
	runInside(ctx, t, d)
}

func runInside(ctx context.Context, t *testing.T, d *desktop.Desktop) {
	t.Helper()
	cmd := exec.CommandContext(ctx, visibleProgram(t), "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(d.ClientEnviron(), insideVar+"=1")
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		u := d.User()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("inside the desktop:\n%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("the test inside the desktop: %v", err)
	}
}

// visibleProgram copies this test to where the desktop's user can see it: KWin trusts only programs whose path it can resolve.
func visibleProgram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wavry-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		// A child that is forked meanwhile would inherit the open copy, and its exec would fail with ETXTBSY.
		syscall.ForkLock.RLock()
		err = os.WriteFile(filepath.Join(dir, "plugin.test"), program, 0o755)
		syscall.ForkLock.RUnlock()
	}
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "plugin.test")
}

// inside is what a test has inside a desktop.
type inside struct {
	home   string
	plugin *capture.Plugin
}

func newInside(t *testing.T) inside {
	t.Helper()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := sessionFromEnvironment(os.LookupEnv)
	in := inside{home: os.Getenv("HOME"), plugin: capture.New(capture.Config{Methods: methods(s, log), Logger: log})}
	eventually(t, "the application is up", func() error {
		_, err := os.Stat(filepath.Join(in.home, "ready"))
		return err
	})
	return in
}

// start starts the capture and returns how to pull frames from it.
func (in inside) start(t *testing.T, r *pluginpb.StartCaptureRequest) *pluginpb.CaptureStarted {
	t.Helper()
	r.SourcePath = filepath.Join(in.home, "source.sock")
	r.StateDir = filepath.Join(in.home, "state")
	began := time.Now()
	started, err := in.plugin.Start(t.Context(), r)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Logf("started in %v: %v", time.Since(began).Round(time.Millisecond), started)
	t.Cleanup(func() {
		if err := in.plugin.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return started
}

// frames connects as an encoder and takes n pictures through PipeWire.
func (in inside) frames(t *testing.T, n int) *trial {
	t.Helper()
	source, err := framesource.Dial(t.Context(), filepath.Join(in.home, "source.sock"))
	if err != nil {
		t.Fatalf("connect as an encoder: %v", err)
	}
	defer source.Close()
	if source.Kind() != framesource.KindPipeWire {
		t.Fatalf("source kind %d, want PipeWire", source.Kind())
	}
	node := source.PipeWire()
	defer node.Remote.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	got, err := tryNode(ctx, func() (*os.File, error) { return dup(node.Remote) }, node.ID, capture.Size{Width: node.Width, Height: node.Height}, n, nil)
	if err != nil {
		t.Fatalf("take frames: %v", err)
	}
	t.Logf("%d frames, %d distinct, %v, dmabuf %v, %.1f fps, caps %s", got.frames, len(got.hashes), got.size, got.dmabuf,
		float64(got.frames)/time.Since(began).Seconds(), got.caps)
	if got.frames < n || !got.bright {
		t.Fatalf("%d frames of %d, bright %v", got.frames, n, got.bright)
	}
	return got
}

// encoder is connected until the test ends: Mutter takes absolute motion only for a virtual stream that has a reader.
func (in inside) encoder(t *testing.T) {
	t.Helper()
	source, err := framesource.Dial(t.Context(), filepath.Join(in.home, "source.sock"))
	if err != nil {
		t.Fatal(err)
	}
	node := source.PipeWire()
	p, err := gstpipe.Build("encoder", []gstpipe.Element{
		{Factory: "pipewiresrc", Props: []gstpipe.Prop{gstpipe.P("fd", node.Remote.Fd()), gstpipe.P("path", node.ID)}},
		gstpipe.Caps(gstpipe.SizedCaps("video/x-raw", node.Width, node.Height)), gstpipe.Sink(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		_ = node.Remote.Close()
		_ = source.Close()
	})
	p.Pictures(true)
	if err := p.Start(firstFrame, true); err != nil {
		t.Fatal(err)
	}
}

func dup(f *os.File) (*os.File, error) {
	fd, err := syscall.Dup(int(f.Fd()))
	return os.NewFile(uintptr(fd), "remote"), err
}

func (in inside) inject(t *testing.T, events ...*pluginpb.InputEvent) {
	t.Helper()
	done, err := in.plugin.Inject(t.Context(), &pluginpb.InputBatch{Events: events})
	if err != nil || done.Rejected > 0 {
		t.Fatalf("inject: %v, %v", done, err)
	}
}

// wantInput proves that keys, clicks, the wheel and ReleaseAll reach an application.
func (in inside) wantInput(t *testing.T) {
	t.Helper()
	x := in.clickUntil(t, "a click arrived", 0.5, func(column int) bool { return column >= 0 })
	in.inject(t, keys(35, 23)...) // h i
	in.wantBytes(t, "hi")
	in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{Y: notchUnits}}})
	in.wantMouse(t, "\x1b[<65;")
	in.wantPixelScroll(t)
	in.clickUntil(t, "the pointer moved left", 0.25, func(column int) bool { return column*3 <= x*2 })
	in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 42, Down: true}}}) // shift
	in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}})
	in.inject(t, keys(30)...) // a: would be A if shift were still down
	in.wantBytes(t, "a")
}

// clickUntil clicks at a part of the width, and again as a person would, until good is content with the column that the application got. GNOME's
// shell takes a click for itself while a dialog fades out, and drops one while it moves the window to a new monitor.
func (in inside) clickUntil(t *testing.T, what string, part float64, good func(column int) bool) (column int) {
	t.Helper()
	var clicked time.Time
	eventually(t, what, func() error {
		if time.Since(clicked) > 2*time.Second {
			clicked = time.Now()
			in.inject(t, moveTo(part, 0.5), click(true), click(false))
		}
		if column = mouseColumn(in.input(t), "\x1b[<0;"); !good(column) {
			return fmt.Errorf("column %d in %q", column, in.input(t))
		}
		return nil
	})
	return column
}

// wantPixelScroll proves that parts of a notch scroll too.
func (in inside) wantPixelScroll(t *testing.T) {
	t.Helper()
	const up = "\x1b[<64;"
	eventually(t, "the application scrolled by pixels", func() error {
		in.inject(t, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{Y: -50}}})
		if mouseColumn(in.input(t), up) < 0 {
			return fmt.Errorf("it got %q", in.input(t))
		}
		return nil
	})
}

func keys(codes ...uint32) []*pluginpb.InputEvent {
	var list []*pluginpb.InputEvent
	for _, c := range codes {
		for _, down := range []bool{true, false} {
			list = append(list, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: c, Down: down}}})
		}
	}
	return list
}

func moveTo(x, y float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionAbsolute{MotionAbsolute: &pluginpb.MotionAbsolute{X: x, Y: y}}}
}

func click(down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Button{Button: &pluginpb.Button{Code: 0x110, Down: down}}}
}

func (in inside) input(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(in.home, "input"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func (in inside) wantBytes(t *testing.T, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the application got %q", want), func() error {
		if got := in.input(t); !strings.Contains(got, want) {
			return fmt.Errorf("it got %q", got)
		}
		return nil
	})
}

// wantMouse waits for a mouse report.
func (in inside) wantMouse(t *testing.T, prefix string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the application got mouse report %q", prefix), func() error {
		if mouseColumn(in.input(t), prefix) < 0 {
			return fmt.Errorf("it got %q", in.input(t))
		}
		return nil
	})
}

// mouseColumn is that of the last report with this prefix; -1 without one.
func mouseColumn(input, prefix string) int {
	i := strings.LastIndex(input, prefix)
	if i < 0 {
		return -1
	}
	text, _, _ := strings.Cut(input[i+len(prefix):], ";")
	column, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return column
}

// eventually polls until check is content, at most 15 seconds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("wait until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// events watches the plugin and passes on what is no heartbeat; the error ends it.
func (in inside) events(ctx context.Context) (<-chan *pluginpb.CaptureEvent, <-chan error) {
	events, ended := make(chan *pluginpb.CaptureEvent, 16), make(chan error, 1)
	go func() {
		ended <- in.plugin.Watch(ctx, func(e *pluginpb.CaptureEvent) error {
			if e.GetHeartbeat() == nil {
				events <- e
			}
			return nil
		})
	}()
	return events, ended
}

// wantFaults stops PipeWire and the compositor for a while and sees both reported, then kills the compositor and sees the capture end.
func (in inside) wantFaults(t *testing.T, kind pluginpb.SourceKind, compositor string) {
	t.Helper()
	events, ended := in.events(t.Context())
	if kind == pluginpb.SourceKind_SOURCE_PIPEWIRE {
		daemon := wantWedge(t, events, "pipewire", "PipeWire")
		if err := syscall.Kill(daemon, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	pid := wantWedge(t, events, compositor, "")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Logf("end: %v", err)
		if err == nil {
			t.Error("a killed compositor ended the capture without an error")
		}
	case <-time.After(3 * time.Second):
		t.Error("a killed compositor did not end the capture")
	}
}

// wantWedge stops a process, sees it reported within two seconds by that name, and returns its id.
func wantWedge(t *testing.T, events <-chan *pluginpb.CaptureEvent, process, name string) (pid int) {
	t.Helper()
	pid = processNamed(t, process)
	stopped := time.Now()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	fault := wantFault(t, events)
	took := time.Since(stopped)
	t.Logf("wedge reported after %v: %s; %s", took.Round(time.Millisecond), fault.Reason, fault.Remedy)
	if took > 2500*time.Millisecond {
		t.Errorf("a stopped %s was reported after %v, want 2 s", process, took)
	}
	if !strings.HasPrefix(fault.Reason, name) {
		t.Errorf("a stopped %s is reported as %q", process, fault.Reason)
	}
	return pid
}

func wantFault(t *testing.T, events <-chan *pluginpb.CaptureEvent) *pluginpb.CaptureFault {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case e := <-events:
			if f := e.GetFault(); f != nil {
				if f.Reason == "" || f.Remedy == "" {
					t.Errorf("fault without words: %v", f)
				}
				return f
			}
		case <-deadline:
			t.Fatal("no fault was reported")
		}
	}
}

// processNamed finds a process of this user and this desktop by its command name.
func processNamed(t *testing.T, name string) int {
	t.Helper()
	mark := []byte("XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"))
	stats, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		env, err := os.ReadFile(filepath.Join(filepath.Dir(path), "environ"))
		if err == nil && bytes.Contains(env, mark) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process %s in this desktop", name)
	return 0
}

func wantText(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
