// Package plugintest is the conformance suite of capture and encoder plugins. A plugin's test calls Capture or Encode with its
// binary; everything runs over real gRPC through package pluginhost, with real processes and real frame sources.
//
// The suite asks for what package pluginapi promises, no more: a plugin that passes can be run by the host runtime.
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Spec names the plugin under test.
type Spec struct {
	// Path of the binary.
	Path string
	// Env is its environment; nil: what pluginhost.Environ leaves of the test's.
	Env []string
	// Users says as whom it runs; nil: as the test.
	Users *pluginhost.Users
	// Methods and Options of Start; empty: the plugin's own choice.
	Methods []string
	Options map[string]string
	// Display and StateDir of a capture; StateDir empty: a temporary one.
	Display, StateDir string
	// Codec of an encoder; empty: h264.
	Codec string
	// Moving says that the captured screen changes by itself, as a test pattern does; else only the first picture is awaited.
	Moving bool
	// Look sees pictures of a PipeWire node, which only an encoder's libraries can. A capture that hands over nodes needs it.
	Look Look
	// Slow multiplies every time limit of the suite but the contract's heartbeat; 0: 1. For software rendering on a busy machine.
	Slow float64

	role pluginhost.Role // set by Capture and Encode
}

// Look connects to a PipeWire node, whose remote stays the caller's, takes n pictures and returns the size of the last and how old
// the oldest was when it came.
type Look func(ctx context.Context, node framesource.Node, n int) (size *pluginpb.Size, oldest time.Duration, err error)

// Limits of the suite, times Spec.Slow.
const (
	callLimit  = 12 * time.Second // Start and Probe
	eventLimit = 4 * time.Second  // until something must have come
	// beatLimit is the contract's 500 ms and the scheduling of a busy machine.
	beatLimit = 900 * time.Millisecond
)

func (s Spec) limit(d time.Duration) time.Duration {
	if s.Slow > 0 {
		return time.Duration(float64(d) * s.Slow)
	}
	return d
}

// run is one plugin process in a test.
type run struct {
	*testing.T
	spec   Spec
	proc   *pluginhost.Process
	dir    string // for sockets
	source string // path of the frame source
}

// launch starts the plugin and proves at the end of the test that it leaves nothing.
func launch(t *testing.T, spec Spec) *run {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt")
	if err != nil {
		t.Fatal(err)
	}
	if spec.Users != nil { // who may listen there, as in /tmp
		if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	return launchIn(t, spec, dir)
}

func launchIn(t *testing.T, spec Spec, dir string) *run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), spec.limit(callLimit))
	defer cancel()
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{Path: spec.Path, Role: spec.role, Env: spec.Env, TempDir: dir, Users: spec.Users})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{T: t, spec: spec, proc: p, dir: dir, source: filepath.Join(dir, "source")}
	pid := p.PID()
	t.Cleanup(func() {
		p.Kill()
		checkGone(t, pid, dir)
	})
	return r
}

// checkGone proves that no process of the plugin's group and nothing in its private directory is left.
func checkGone(t *testing.T, pid int, dir string) {
	t.Helper()
	if alive := group(pid); len(alive) > 0 {
		t.Errorf("processes left behind: %v", alive)
	}
	left, err := filepath.Glob(filepath.Join(dir, "wavry-p*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	_ = os.RemoveAll(dir)
}

// group lists the live processes whose group is pgid.
func group(pgid int) []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var alive []string
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it just ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z" && f[0] != "X" {
			alive = append(alive, path)
		}
	}
	return alive
}

func (r *run) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.T.Context(), r.spec.limit(callLimit))
}

// descriptors counts the plugin's open files.
func (r *run) descriptors() int {
	r.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.proc.PID()))
	if err != nil {
		r.Fatal(err)
	}
	return len(entries)
}

// settle waits until the plugin has at most limit open files: it closes them in its own time.
func (r *run) settle(limit int, when string) {
	r.Helper()
	deadline := time.After(r.spec.limit(eventLimit))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.descriptors() > limit {
		select {
		case <-tick.C:
		case <-deadline:
			r.Errorf("%d open files %s, want at most %d", r.descriptors(), when, limit)
			return
		}
	}
}

// refused demands an error that a person understands: reason and remedy when it is the node's fault, a sentence when it is ours.
func refused(t testing.TB, what string, err error) {
	t.Helper()
	var u *pluginapi.UnavailableError
	switch {
	case err == nil:
		t.Errorf("%s: accepted", what)
	case errors.As(err, &u) && (u.Reason == "" || u.Remedy == ""):
		t.Errorf("%s: reason %q, remedy %q; both are needed", what, u.Reason, u.Remedy)
	case len(err.Error()) < len("x: y"):
		t.Errorf("%s: error %q says nothing", what, err)
	}
}

// checkProbe demands what the doctor prints: every item named, every unusable one with reason and remedy. wantFrames demands
// that a usable one really produced pictures.
func checkProbe(t testing.TB, report *pluginpb.ProbeReport, wantFrames bool) {
	t.Helper()
	if len(report.Items) == 0 {
		t.Fatal("the report is empty: an unusable method is an item too")
	}
	usable := false
	for _, i := range report.Items {
		usable = usable || i.Usable
		switch {
		case i.Method == "" || i.Reason == "":
			t.Errorf("item without method or reason: %v", i)
		case !i.Usable && i.Remedy == "":
			t.Errorf("%s: unusable (%s) without a remedy", i.Method, i.Reason)
		case i.Usable && i.Remedy != "":
			t.Errorf("%s: usable, but with remedy %q", i.Method, i.Remedy)
		case i.Distinct > i.Frames:
			t.Errorf("%s: %d distinct of %d frames", i.Method, i.Distinct, i.Frames)
		case i.Usable && wantFrames && (i.Frames == 0 || i.LatencyP50Ms <= 0 || i.LatencyP95Ms < i.LatencyP50Ms):
			t.Errorf("%s: usable without proof: %d frames, p50 %g ms, p95 %g ms", i.Method, i.Frames, i.LatencyP50Ms, i.LatencyP95Ms)
		}
	}
	if !usable {
		t.Errorf("nothing is usable: %v", report.Items)
	}
}
