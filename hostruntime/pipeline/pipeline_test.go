package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// rig runs a pipeline of fake plugins, one behaviour per candidate, in real processes.
type rig struct {
	t    *testing.T
	p    *Pipeline
	sink *recorder
	stop context.CancelFunc
	end  chan error
	dir  string

	mu        sync.Mutex
	processes map[string][]*pluginhost.Process // by candidate
	launches  map[string]int                   // those that failed too
}

type plugin struct {
	name string
	b    fakeplugin.Behaviour
}

func start(t *testing.T, captures, encoders []plugin, change func(*Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, sink: newRecorder(), end: make(chan error, 1), dir: dir, processes: map[string][]*pluginhost.Process{}, launches: map[string]int{}}
	behaviours := map[string]fakeplugin.Behaviour{}
	list := func(role string, plugins []plugin) []Candidate {
		var out []Candidate
		for _, p := range plugins {
			p.b.Role = role
			behaviours[p.name] = p.b
			out = append(out, Candidate{Name: p.name})
		}
		return out
	}
	cfg := Config{Captures: list("capture", captures), Encoders: list("encode", encoders), TempDir: dir, FPS: 60, Logger: testLog(t)}
	cfg.Launch = func(ctx context.Context, c Candidate) (Process, error) { return r.launch(ctx, c, behaviours[c.Name]) }
	if change != nil {
		change(&cfg)
	}
	if r.p, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() { r.end <- r.p.Run(ctx, r.sink) }()
	t.Cleanup(r.finish)
	return r
}

func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (r *rig) launch(ctx context.Context, c Candidate, b fakeplugin.Behaviour) (Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if c.Path != "" {
		self = c.Path
	}
	r.mu.Lock()
	b = b.InRun(r.launches[c.Name])
	r.launches[c.Name]++
	r.mu.Unlock()
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{Path: self, Role: c.Role, Env: append(os.Environ(), b.Env()), TempDir: r.dir})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes[c.Name] = append(r.processes[c.Name], p)
	return p, nil
}

// finish ends the pipeline and proves that nothing is left.
func (r *rig) finish() {
	r.stop()
	select {
	case <-r.end:
	case <-time.After(10 * time.Second):
		r.t.Fatal("Run does not return")
	}
	left, err := os.ReadDir(r.dir)
	if err != nil || len(left) > 0 {
		r.t.Errorf("left behind: %v, %v", left, err)
	}
	for name, list := range r.processes {
		for _, p := range list {
			if p.Err() == nil {
				r.t.Errorf("a process of %s is alive", name)
			}
		}
	}
	r.sink.check(r.t)
	_ = os.RemoveAll(r.dir)
}

func (r *rig) newest(name string) *pluginhost.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.processes[name]
	return list[len(list)-1]
}

// kill9 kills the newest process of a candidate and returns when.
func (r *rig) kill9(name string) time.Time {
	r.t.Helper()
	if err := unix.Kill(r.newest(name).PID(), unix.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	return time.Now()
}

// await waits until the sink has seen something.
func (r *rig) await(what string, limit time.Duration, seen func(*recorder) bool) {
	r.t.Helper()
	deadline := time.After(limit)
	for {
		r.sink.mu.Lock()
		ok, changed := seen(r.sink), r.sink.changed
		r.sink.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case err := <-r.end:
			r.end <- err
			r.t.Fatalf("waiting for %s: pipeline ended: %v", what, err)
		case <-deadline:
			r.t.Fatalf("no %s within %v; states %q", what, limit, r.sink.texts())
		}
	}
}

// recorder is a sink that checks the order of units.
type recorder struct {
	mu       sync.Mutex
	changed  chan struct{}
	units    []media.AccessUnit // without data
	states   []streamwire.StateChange
	started  []session.Started
	sizes    []streamwire.Resized
	problems []string
	fresh    bool // the next unit begins a run
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{}), fresh: true} }

func (r *recorder) Unit(u media.AccessUnit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fresh && !u.Keyframe {
		r.problems = append(r.problems, "a run begins without a keyframe")
	}
	if !r.fresh && u.Sequence != r.units[len(r.units)-1].Sequence+1 {
		r.problems = append(r.problems, "a gap within a run")
	}
	if len(u.Data) == 0 {
		r.problems = append(r.problems, "an empty unit")
	}
	u.Data, r.fresh = nil, false
	r.units = append(r.units, u)
	r.wake()
}

func (r *recorder) Event(e session.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.State != nil {
		r.states = append(r.states, *e.State)
		r.fresh = r.fresh || e.State.State == streamwire.StateRecovering
	}
	if e.Started != nil {
		r.started = append(r.started, *e.Started)
	}
	if e.Resized != nil {
		r.sizes = append(r.sizes, *e.Resized)
	}
	r.wake()
}

func (r *recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.states {
		out = append(out, s.State.String()+" "+s.Text)
	}
	return out
}

func (r *recorder) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.problems {
		t.Error(p)
	}
}

func units(n int) func(*recorder) bool { return func(r *recorder) bool { return len(r.units) >= n } }

// lives is satisfied once the pipeline has become live n times.
func lives(n int) func(*recorder) bool {
	return func(r *recorder) bool {
		count := 0
		for _, s := range r.states {
			if s.State == streamwire.StateLive {
				count++
			}
		}
		return count >= n
	}
}

func ran(capture, encoder string) func(*recorder) bool {
	return func(r *recorder) bool {
		if len(r.started) == 0 {
			return false
		}
		last := r.started[len(r.started)-1]
		return last.Capture == capture+"/fake" && last.Encoder == encoder+"/fake"
	}
}

func one(name string, b fakeplugin.Behaviour) []plugin { return []plugin{{name, b}} }

var good fakeplugin.Behaviour

// TestLive proves the ordinary life: starting, live, a size, units in order, an orderly end.
func TestLive(t *testing.T) {
	r := start(t, one("c", good), one("e", good), nil)
	r.await("picture", 10*time.Second, units(20))
	r.await("live", time.Second, lives(1))
	if s := r.sink.sizes[0]; s.Width != 320 || s.Height != 240 {
		t.Fatal("size", s)
	}
	if s := r.sink.started[0]; !s.Input || !s.Resize || s.Width != 320 {
		t.Fatal("started", s)
	}
	r.stop()
	if err := <-r.end; err != nil {
		t.Fatal(err)
	}
	r.end <- nil
}

// TestCrash proves that a killed plugin is replaced, and that a picture is back within two seconds, beginning with a keyframe.
func TestCrash(t *testing.T) {
	for _, victim := range []string{"c", "e"} {
		t.Run(victim, func(t *testing.T) {
			r := start(t, one("c", good), one("e", good), nil)
			r.await("picture", 10*time.Second, units(5))
			for round := range 2 {
				r.await("live", 5*time.Second, lives(round+1))
				at := r.kill9(victim)
				r.await("next picture", 5*time.Second, lives(round+2))
				if took := time.Since(at); took > 2*time.Second {
					t.Errorf("took %v, want at most 2s", took)
				} else {
					t.Logf("back after %v", took)
				}
			}
			if victim == "e" && len(r.processes["c"]) != 1 {
				t.Error("the capture was restarted with the encoder")
			}
		})
	}
}

// TestFallback proves that the next candidate takes over inside the session, for every way to fail.
func TestFallback(t *testing.T) {
	for _, c := range []struct {
		name string
		b    fakeplugin.Behaviour
		role string
		says string
	}{
		{"capture refuses", fakeplugin.Behaviour{Refuse: true}, "capture", ""},
		{"encoder refuses", fakeplugin.Behaviour{Refuse: true}, "encoder", ""},
		{"capture is no plugin", fakeplugin.Behaviour{Handshake: "exit"}, "capture", ""},
		{"encoder of another version", fakeplugin.Behaviour{Version: 9}, "encoder", ""},
		{"capture dies", fakeplugin.Behaviour{DieAfter: 10}, "capture", "Restarting the screen capture"},
		{"encoder dies", fakeplugin.Behaviour{PanicAfter: 10}, "encoder", "Restarting the video encoder"},
		{"capture stalls", fakeplugin.Behaviour{StallAfter: 10, Runs: 1}, "capture", "Restarting the screen capture"},
		{"encoder stalls", fakeplugin.Behaviour{StallAfter: 10, Runs: 1}, "encoder", "Restarting the video encoder"},
		{"encoder fails", fakeplugin.Behaviour{FailAfter: 10}, "encoder", "Restarting the video encoder"},
		{"capture sends garbage", fakeplugin.Behaviour{Garbage: true}, "capture", ""},
		{"capture sends wrong descriptors", fakeplugin.Behaviour{WrongFD: true}, "capture", ""},
		{"capture sends unsealed memory", fakeplugin.Behaviour{Unsealed: true}, "capture", ""},
		{"capture sends no picture", fakeplugin.Behaviour{NoPicture: true, Runs: 1}, "capture", "Restarting the screen capture"},
		{"encoder sends no keyframe", fakeplugin.Behaviour{NeverKeyframe: true, Runs: 1}, "encoder", "Restarting the video encoder"},
		{"encoder's units are too large", fakeplugin.Behaviour{UnitBytes: 17 << 20}, "encoder", "Restarting the video encoder"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			captures, encoders := one("good-c", good), one("good-e", good)
			if c.role == "capture" {
				captures = []plugin{{"bad", c.b}, {"good-c", good}}
			} else {
				encoders = []plugin{{"bad", c.b}, {"good-e", good}}
			}
			if c.b.Runs > 0 { // slow to detect: bad once, then good, instead of twice and another
				captures, encoders = captures[len(captures)-1:], encoders[len(encoders)-1:]
				*map[string]*fakeplugin.Behaviour{"capture": &captures[0].b, "encoder": &encoders[0].b}[c.role] = c.b
			}
			r := start(t, captures, encoders, nil)
			if c.b.StallAfter > 0 {
				r.await("second life", 20*time.Second, lives(2))
			}
			r.await("fallback", 20*time.Second, ran("good-c", "good-e"))
			if c.says != "" && !strings.Contains(strings.Join(r.sink.texts(), "\n"), c.says) {
				t.Errorf("viewer was told %q, not %q", r.sink.texts(), c.says)
			}
		})
	}
}

// TestBadPictures proves that black and repeated pictures lead to another run of the capture while somebody types.
func TestBadPictures(t *testing.T) {
	for name, b := range map[string]fakeplugin.Behaviour{"black": {Black: true, Runs: 1}, "frozen": {Frozen: true, Runs: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, one("c", b), one("e", good), nil)
			r.await("live", 10*time.Second, lives(1))
			key := &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 30, Down: true}}}}}
			typing := time.NewTicker(100 * time.Millisecond)
			defer typing.Stop()
			deadline := time.After(30 * time.Second)
			for fell := false; !fell; {
				select {
				case <-typing.C:
					_, _ = r.p.Inject(t.Context(), key) // refused while it restarts
				case <-deadline:
					t.Fatalf("still bad; states %q", r.sink.texts())
				}
				r.sink.mu.Lock()
				fell = lives(2)(r.sink)
				r.sink.mu.Unlock()
			}
		})
	}
}

// TestHang proves that a hang is seen within about a second, and the picture back within two and a half.
func TestHang(t *testing.T) {
	r := start(t, one("c", good), one("e", good), nil)
	r.await("live", 10*time.Second, lives(1))
	if err := unix.Kill(r.newest("e").PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	r.await("next picture", 10*time.Second, lives(2))
	if took := time.Since(at); took > 2500*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

// TestNothingWorks proves that a pipeline without a working candidate ends with every reason and a remedy.
func TestNothingWorks(t *testing.T) {
	r := start(t, one("c", good), []plugin{{"e1", fakeplugin.Behaviour{Refuse: true}}, {"e2", fakeplugin.Behaviour{Handshake: "exit"}}}, nil)
	var err error
	select {
	case err = <-r.end:
		r.end <- err
	case <-time.After(20 * time.Second):
		t.Fatal("does not give up")
	}
	var ex *ExhaustedError
	if !errors.As(err, &ex) || ex.Role != "encoder" || len(ex.Candidates) != 2 {
		t.Fatal(err)
	}
	for _, want := range []string{"e1 (refused): the fake was told to refuse", "e2 (refused)", "wavry host doctor"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// TestControl proves that input, sizes, rates and keyframes reach the plugins.
func TestControl(t *testing.T) {
	r := start(t, one("c", fakeplugin.Behaviour{Idle: true}), one("e", good), nil)
	ctx := t.Context()
	r.await("live", 10*time.Second, lives(1))
	before := media.Now()
	done, err := r.p.Inject(ctx, &pluginpb.InputBatch{Events: []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: 30, Down: true}}}}})
	if err != nil {
		t.Fatal(err)
	}
	at := media.Time(done.Time)
	if at < before || at > media.Now() {
		t.Fatal(at)
	}
	r.await("picture with the input", 2*time.Second, func(s *recorder) bool {
		last := s.units[len(s.units)-1]
		return !last.Repeat && last.CaptureTime >= at
	})
	r.p.Adjust(2_000_000, 30)
	if err := r.p.Resize(ctx, session.Area{Width: 640, Height: 400}); err != nil {
		t.Fatal(err)
	}
	r.await("new size", 2*time.Second, func(s *recorder) bool {
		last := s.units[len(s.units)-1]
		return s.sizes[len(s.sizes)-1] == streamwire.Resized{Width: 640, Height: 400} && last.Width == 640
	})
	r.sink.mu.Lock()
	n := len(r.sink.units)
	r.sink.mu.Unlock()
	r.p.RequestKeyframe()
	r.await("keyframe without a new picture", 2*time.Second, func(s *recorder) bool {
		for _, u := range s.units[n:] {
			if u.Keyframe && u.Repeat {
				return true
			}
		}
		return false
	})
	r.kill9("c")
	r.await("recovery", 5*time.Second, lives(2))
	if last := r.sink.sizes[len(r.sink.sizes)-1]; last.Width != 640 {
		t.Error("the new capture forgot the size:", last)
	}
}

// TestInputWhileDown proves that input without a capture is refused, not lost in silence.
func TestInputWhileDown(t *testing.T) {
	p, err := New(Config{Captures: []Candidate{{Name: "c"}}, Encoders: []Candidate{{Name: "e"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Inject(t.Context(), &pluginpb.InputBatch{}); !errors.Is(err, ErrRecovering) {
		t.Fatal(err)
	}
	if err := p.Resize(t.Context(), session.Area{Width: 100, Height: 100, Scale: 2}); err != nil {
		t.Fatal(err)
	}
	if got := p.wishes.get().size(); got.Width != 100 || got.Height != 100 || got.Scale != 2 {
		t.Error("the next start does not know the size:", got)
	}
}

// TestBadConfig proves that an unusable configuration names all its problems.
func TestBadConfig(t *testing.T) {
	_, err := New(Config{Bitrate: -1})
	for _, want := range []string{"no capture plugin", "no encoder plugin", "bitrate -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
