//go:build latency

package bench

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ticksPerSecond of /proc/*/stat: USER_HZ is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// usage is CPU time in ticks by group of processes, and of the whole machine.
type usage struct {
	groups     map[string]float64
	busy, all  float64
	at         time.Time
	processors int
}

// groupOf tells whose CPU time a process uses; empty: nobody's of the picture path.
func groupOf(comm string) string {
	switch {
	case strings.HasPrefix(comm, "chromium"), strings.HasPrefix(comm, "chrome"):
		return "browser"
	case strings.HasPrefix(comm, "wavry-capture"):
		return "capture plugin"
	case strings.HasPrefix(comm, "wavry-encode"):
		return "encoder plugin"
	case comm == "wavry":
		return "wavry"
	case comm == "sway", comm == "foot", comm == "perl":
		return "desktop"
	}
	return ""
}

// usageNow reads the CPU time of the machine and of all processes that this one started and that live. One that ended since is missing from
// the difference.
func usageNow(t *testing.T) usage {
	t.Helper()
	u := usage{groups: map[string]float64{}, at: time.Now(), processors: runtime.NumCPU()}
	for _, p := range family(t) {
		if group := groupOf(p.comm); group != "" {
			u.groups[group] += p.ticks
		}
	}
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	for i, f := range strings.Fields(first)[1:9] {
		u.all += number(f)
		if i != 3 && i != 4 { // idle, iowait
			u.busy += number(f)
		}
	}
	return u
}

// process is what /proc tells of one.
type process struct {
	pid, parent string
	comm        string
	ticks       float64
}

// family lists the living processes that descend from this one.
func family(t *testing.T) []process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]process{}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // the process ended meanwhile
		}
		open, shut := strings.IndexByte(string(raw), '('), strings.LastIndexByte(string(raw), ')')
		f := strings.Fields(string(raw[shut+1:]))
		p := process{pid: filepath.Base(filepath.Dir(path)), parent: f[1], comm: string(raw[open+1 : shut]), ticks: number(f[11]) + number(f[12])}
		all[p.pid] = p
	}
	var out []process
	self := strconv.Itoa(os.Getpid())
	for _, p := range all {
		for up, ok := p, true; ok; up, ok = all[up.parent] {
			if up.pid == self {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

func number(s string) float64 {
	n, _ := strconv.ParseFloat(s, 64) // the kernel wrote it
	return n
}

func (u usage) since(before usage) usage {
	d := usage{groups: map[string]float64{}, busy: u.busy - before.busy, all: u.all - before.all, processors: u.processors}
	seconds := u.at.Sub(before.at).Seconds()
	rest := d.busy
	for name, ticks := range u.groups {
		rest -= ticks - before.groups[name]
		d.groups[name] = (ticks - before.groups[name]) / ticksPerSecond / seconds
	}
	d.groups["all else"] = max(0, rest) / ticksPerSecond / seconds // with processes that ended meanwhile, and the kernel
	return d
}

// String lists the groups in percent of one core.
func (u usage) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(u.groups)) {
		parts = append(parts, fmt.Sprintf("%s %.0f %%", name, 100*u.groups[name]))
	}
	return fmt.Sprintf("%s; machine %.0f %% busy", strings.Join(parts, ", "), 100*u.busy/max(u.all, 1))
}

func loadAverage(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(raw))[:3], " ")
}

func machine(t *testing.T) string {
	t.Helper()
	cpu := "unknown processor"
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, GStreamer %s, %s", cpu, runtime.NumCPU(), first(t, "uname", "-r"),
		strings.TrimPrefix(first(t, "gst-launch-1.0", "--gst-version"), "GStreamer Core Library version "), first(t, "chromium", "--version"))
}

// first line of a command's output.
func first(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
