//go:build latency

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// lane is a source of pictures at a size and rate. The browser's page has the same size.
type lane struct {
	name               string
	sway               bool
	width, height, fps int
}

var lanes = []lane{
	{"sway 1280x720@60", true, 1280, 720, 60},
	{"test pattern 1280x720@60", false, 1280, 720, 60},
	{"sway 1920x1080@30", true, 1920, 1080, 30},
	{"test pattern 1920x1080@30", false, 1920, 1080, 30},
}

const (
	// settle is for keyframes, rates and the browser's first compilations to pass.
	settle = 4 * time.Second
	// measured is long enough for 99 of 100 pictures, and for 160 inputs, to mean something.
	measured = 20 * time.Second
	// inputEvery is a person who types fast or moves slowly: each input waits for a picture of its own.
	inputEvery = 125 * time.Millisecond
)

// animation draws a block that moves through a terminal 60 times a second, and counts what is typed.
const animation = `#!/bin/sh
stty raw -echo 2>/dev/null
exec perl -e '
use Time::HiRes qw(time);
$| = 1; print "\e[?25l\e[2J"; my ($n, $typed, $x, $due) = (0, 0, 2, time);
while (1) {
  my $old = $x; $x = 2 + abs(100 - ($n++ % 200)) * 0.6; my $s = "";
  for my $row (4 .. 15) {
    $s .= sprintf("\e[%d;%dH%20s\e[%d;%dH\e[48;2;%d;%d;%dm%20d\e[0m", $row, $old, "", $row, $x, $n % 256, ($n * 3 + $row * 9) % 256, 120, $n + $row);
  }
  print $s, "\e[2;2Htyped $typed picture $n";
  $due += 1 / 60; my $left = $due - time; $left = 0 if $left < 0;
  my $in = ""; vec($in, 0, 1) = 1;
  if (select($in, undef, undef, $left)) { last unless sysread(STDIN, my $keys, 64); $typed += length $keys; select(undef, undef, undef, $due - time) if $due > time; }
}'
`

// start runs the lane and returns its process and its sign-in link.
func (l lane) start(t *testing.T, environ ...string) *rig.Process {
	common := []string{"-max-fps", strconv.Itoa(l.fps), "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir()}
	if !l.sway {
		return rig.Start(t, environ, append([]string{"host", "-standalone", "-capture", "capture-test"}, common...)...)
	}
	size := fmt.Sprintf("%dx%d", l.width, l.height)
	return rig.Start(t, environ, append([]string{"dev", "-desktop", "sway", "-size", size, "-app", "foot -e " + animationScript(t)}, common...)...)
}

// animationScript writes animation where the desktop's user may run it: a test's own directory is its user's alone.
func animationScript(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wavry-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "animation")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(animation), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// laneResult is what one lane gave. Samples are in milliseconds.
type laneResult struct {
	lane
	stages   map[string][]float64
	inputs   []float64
	snapshot browser.Snapshot
	fps      float64
	cpu      usage
	notes    []string // what the page said about falling behind
}

// stages in the order of a picture's way, as window.wavry names them, and what each is.
var stages = []struct{ name, what string }{
	{"handoff", "capture and hand-off: compositor's picture to encoder process"},
	{"encode", "encode"},
	{"send", "send: encoder process to QUIC, over gRPC and the session"},
	{"network", "network and receive: QUIC to the last byte in the page"},
	{"decode", "decode"},
	{"present", "present: decoded to the screen refresh after the draw"},
	{"total", "capture to present"},
}

func measureLane(t *testing.T, l lane) laneResult {
	process := l.start(t)
	p := browser.New(t, l.width, l.height)
	p.Open(process.SignIn())
	p.Live()
	steer(p, l, settle)
	before := p.Snapshot()
	cpu := usageNow(t)
	browser.Eval[bool](p, "(wavry.clear(), true)")
	began := time.Now()
	steer(p, l, measured)
	r := laneResult{lane: l, stages: map[string][]float64{}, snapshot: p.Snapshot(), inputs: samples(p, "inputs")}
	r.cpu = usageNow(t).since(cpu)
	r.fps = float64(r.snapshot.Presented-before.Presented) / time.Since(began).Seconds()
	for _, s := range stages {
		r.stages[s.name] = samples(p, s.name)
	}
	r.notes = browser.Eval[[]string](p, `wavry.log().filter(l => /behind|keeping up/.test(l))`)
	if len(r.inputs) == 0 {
		t.Error("no input was answered by a picture")
	}
	return r
}

// steer injects key presses and pointer motion through the browser's own input path for d.
func steer(p *browser.Page, l lane, d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(inputEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
		if n%4 == 3 {
			p.Type("a")
			continue
		}
		p.Move(float64(l.width/4+(n*37)%(l.width/2)), float64(l.height/4+(n*23)%(l.height/2)))
	}
}

// samples of a series, in milliseconds.
func samples(p *browser.Page, name string) []float64 {
	us := browser.Eval[[]float64](p, fmt.Sprintf("wavry.samples(%q)", name))
	for i := range us {
		us[i] /= 1000
	}
	return us
}

// percentile by nearest rank; 0 without values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(len(s)-1, int(p/100*float64(len(s))))]
}
