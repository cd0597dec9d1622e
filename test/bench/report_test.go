//go:build latency

package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// report is everything that was measured. Parts that did not run or broke are empty, and left out.
type report struct {
	began           time.Time
	load, loadAfter string
	lanes           []laneResult
	first           []float64
	copies          copies
	against         against // pictures from a frame socket
	againstNode     against // pictures from a PipeWire node
	text            strings.Builder
}

func (r *report) line(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

func (r *report) markdown(t *testing.T) string {
	commit := first(t, "git", "describe", "--always", "--dirty")
	r.line("%s, commit %s, `make bench` (%.0f s). %s. Load average %s before, %s after.\n", r.began.Format("2006-01-02 15:04"), commit,
		time.Since(r.began).Seconds(), machine(t), r.load, r.loadAfter)
	r.targets()
	for _, l := range r.lanes {
		r.lane(l)
	}
	if len(r.first) > 0 {
		r.line("### First picture, %s\n\nMilliseconds after the navigation began: %s.\n", lanes[0].name, list(r.first))
	}
	if len(r.copies.processes) > 0 {
		r.transfers()
	}
	for _, a := range []against{r.against, r.againstNode} {
		if a.output != "" {
			r.line("### Against one process with the same chain\n\n```\n%s\n```", strings.TrimSpace(a.output))
		}
	}
	return r.text.String()
}

func (r *report) targets() {
	r.line("| what | target | measured | met |\n|---|---|---|---|")
	for _, l := range r.lanes {
		target := fmt.Sprintf("<= %.0f ms", inputTarget)
		p95 := percentile(l.inputs, 95)
		met := verdict(p95 > 0 && p95 <= inputTarget)
		if l.height != 720 {
			target, met = "none", "-"
		}
		r.line("| input-to-present p95, %s | %s | %.1f ms | %s |", l.name, target, p95, met)
	}
	if len(r.first) > 0 {
		median := percentile(r.first, 50)
		r.line("| first picture, median of %d | <= %.0f ms | %.0f ms | %s |", len(r.first), firstTarget, median, verdict(median <= firstTarget))
	}
	if a := r.against; a.output != "" {
		r.line("| CPU of our processes / one process with the same chain, frame socket | <= %.2f | %.2f (encoder process alone %.2f) | %s |", cpuTarget, a.cpu, a.encoder, verdict(a.cpu <= cpuTarget))
		r.line("| added latency p95, frame socket | <= %+.0f ms | %+.2f ms | %s |", addedTarget, a.added, verdict(a.added <= addedTarget))
	}
	if a := r.againstNode; a.output != "" {
		r.line("| CPU of our processes / gst-launch-1.0 with the same chain, PipeWire node | <= %.2f | %.2f (encoder process alone %.2f) | %s |", cpuTarget, a.cpu, a.encoder, verdict(a.cpu <= cpuTarget))
	}
	if len(r.copies.processes) > 0 {
		r.line("| processes of ours that move raw pictures with system calls | 0 | %d | %s |", r.rawTransfers(), verdict(r.rawTransfers() == 0))
	}
	r.line("")
}

// rawTransfers counts processes of ours with a call as large as half a raw picture, with more mapping than a pool that grows needs, and
// a host runtime that maps any.
func (r *report) rawTransfers() int {
	n := 0
	for i, p := range r.copies.processes {
		if p.largest >= r.copies.frame/2 || p.mapCalls > framesource.MaxBuffers || i == 0 && p.mappings > 0 {
			n++
		}
	}
	return n
}

func verdict(met bool) string {
	if met {
		return "yes"
	}
	return "**no**"
}

func (r *report) lane(l laneResult) {
	r.line("### %s\n\n%.1f pictures a second presented, %d inputs answered. CPU in percent of one core: %s.", l.name, l.fps, len(l.inputs), l.cpu)
	if len(l.notes) > 0 {
		r.line("The page said: %s.", strings.Join(l.notes, "; "))
	}
	r.line("\n| stage, ms | p50 | p95 | p99 |\n|---|---|---|---|")
	for _, s := range stages {
		r.spread(s.what, l.stages[s.name])
	}
	r.spread("**input to present**", l.inputs)
	r.line("")
}

func (r *report) spread(what string, values []float64) {
	r.line("| %s | %.1f | %.1f | %.1f |", what, percentile(values, 50), percentile(values, 95), percentile(values, 99))
}

func (r *report) transfers() {
	c := r.copies
	r.line("### Raw pictures through our processes, %s\n", lanes[0].name)
	r.line("A raw picture is %d bytes. System calls that carry data, by strace over %v at %.0f pictures a second (strace slows them), and shared mappings as large as a picture:\n",
		c.frame, traced, c.fps)
	r.line("| process | calls | bytes/s | largest single transfer | mappings of a picture | mapped meanwhile |\n|---|---|---|---|---|---|")
	for _, p := range c.processes {
		r.line("| %s | %d | %.0f | %d (%s) | %d | %d |", p.name, p.calls, p.bytes, p.largest, p.by, p.mappings, p.mapCalls)
	}
	r.line("\nThe host runtime allocated %.0f bytes on its heap per picture (%d pictures, from the garbage collector's own reports).\n", c.heap, c.pictures)
}

func list(values []float64) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = fmt.Sprintf("%.0f", v)
	}
	return strings.Join(parts, ", ")
}
