//go:build latency

package bench

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Targets, on a machine that does nothing else.
const (
	inputTarget = 50.0   // ms, p95 of input-to-present at 720p
	firstTarget = 1000.0 // ms, median of the first picture
	cpuTarget   = 1.05   // of one process
	addedTarget = 1.0    // ms, p95 over one process
)

// Everything is measured in one go and reported as Markdown to the file that WAVRY_BENCH_REPORT names, or to the
// output.
func TestReport(t *testing.T) {
	r := &report{began: time.Now(), load: loadAverage(t)}
	defer r.publish(t) // what was measured is worth reading even when a later part broke
	for _, l := range lanes {
		t.Run(l.name, func(t *testing.T) { r.lanes = append(r.lanes, measureLane(t, l)) })
	}
	t.Run("first picture", func(t *testing.T) { r.first = measureFirst(t) })
	t.Run("copies", func(t *testing.T) { r.copies = measureCopies(t) })
	t.Run("gst-launch", func(t *testing.T) { r.against = measureAgainst(t, "frames") })
	t.Run("gst-launch-pipewire", func(t *testing.T) { r.againstNode = measureAgainst(t, "pipewire") })
}

func (r *report) publish(t *testing.T) {
	r.loadAfter = loadAverage(t)
	text := r.markdown(t)
	path := os.Getenv("WAVRY_BENCH_REPORT")
	if path == "" {
		fmt.Println(text)
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// wait lets the system run for d while something else is measured.
func wait(d time.Duration) { <-time.NewTimer(d).C }
