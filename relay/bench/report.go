//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report prints Markdown: tables of medians with their spread, and one line per target.
type report struct {
	targets []string
	missed  int
}

func (r *report) head() {
	fmt.Printf("Measured %s on %s, %d CPUs, %s, %s.\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), cpuModel(), runtime.NumCPU(), kernel(), runtime.Version())
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "an unknown CPU"
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unnamed CPU"
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(b))
}

// Columns of a result.
func perCore(r result) float64      { return r.perCore / 1000 }
func cpuPerPacket(r result) float64 { return r.cpu }
func middleMicros(r result) float64 { return float64(r.p50.Nanoseconds()) / 1000 }

func column(list []result, f func(result) float64) []float64 {
	var out []float64
	for _, r := range list {
		out = append(out, f(r))
	}
	slices.Sort(out)
	return out
}

func median(sorted []float64) float64 { return sorted[len(sorted)/2] }

// spread shows median, least and most.
func spread(v []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+"-"+format+")", median(v), v[0], v[len(v)-1])
}

func names(all map[string][]result) []string {
	var list []string
	for _, n := range []string{ours, oursPoll, coturn, cfwd, cfwdPoll, bare} {
		if len(all[n]) > 0 {
			list = append(list, n)
		}
	}
	return list
}

func (r *report) table(title string, all map[string][]result) {
	fmt.Printf("\n### %s\n\n| | kpps arrived | kpps per CPU second | CPU us per packet | lost |\n|---|---|---|---|---|\n", title)
	for _, n := range names(all) {
		l := all[n]
		fmt.Printf("| %s | %s | %s | %s | %s |\n", n, spread(column(l, func(r result) float64 { return r.pps / 1000 }), "%.0f"),
			spread(column(l, perCore), "%.0f"), spread(column(l, cpuPerPacket), "%.2f"),
			spread(column(l, func(r result) float64 { return r.lost * 100 }), "%.0f%%"))
	}
}

func (r *report) latencies(title string, all map[string][]result) {
	fmt.Printf("\n### %s\n\n| | p50 us | p99 us |\n|---|---|---|\n", title)
	for _, n := range names(all) {
		fmt.Printf("| %s | %s | %s |\n", n, spread(column(all[n], middleMicros), "%.1f"),
			spread(column(all[n], func(r result) float64 { return float64(r.p99.Nanoseconds()) / 1000 }), "%.1f"))
	}
}

// ratio compares medians and gives the spread of the ratio round by round.
func (r *report) ratio(what string, all map[string][]result, a, b string, f func(result) float64, rule string, bound float64) {
	var each []float64
	for i := range all[a] {
		each = append(each, f(all[a][i])/f(all[b][i]))
	}
	slices.Sort(each)
	value := median(column(all[a], f)) / median(column(all[b], f))
	r.target(fmt.Sprintf("%s: %.2f (rounds %.2f-%.2f)", what, value, each[0], each[len(each)-1]), value, rule, bound)
}

func (r *report) difference(what string, all map[string][]result, a, b, rule string, bound float64) {
	value := median(column(all[a], middleMicros)) - median(column(all[b], middleMicros))
	r.target(fmt.Sprintf("%s: %.1f", what, value), value, rule, bound)
}

// target notes a line and, when there is a rule, whether it holds.
func (r *report) target(line string, value float64, rule string, bound float64) {
	ok := rule == "" || (rule == "<=" && value <= bound) || (rule == ">=" && value >= bound)
	switch {
	case rule == "":
	case ok:
		line += fmt.Sprintf("; target %s %g: met", rule, bound)
	default:
		line += fmt.Sprintf("; target %s %g: MISSED", rule, bound)
		r.missed++
	}
	fmt.Println("\n" + line)
	r.targets = append(r.targets, line)
}

func (r *report) verdict(strict bool) error {
	fmt.Printf("\n### Targets\n\n")
	for _, line := range r.targets {
		fmt.Println("- " + line)
	}
	if strict && r.missed > 0 {
		return errors.New("targets missed")
	}
	return nil
}
