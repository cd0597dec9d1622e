//go:build latency

package bench

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/wavry/fleet/test/rig"
)

// against is the comparison of the two-process path with one process that runs gst-launch's chain.
type against struct {
	output       string
	cpu, encoder float64 // CPU time as a multiple of the one process's: everything of ours, and the encoder process alone
	added        float64 // ms, p95; of the frame socket only
}

// rounds of each kind, alternating.
const rounds = "5"

// measureAgainst compares with pictures from a frame socket or from a PipeWire node.
func measureAgainst(t *testing.T, source string) against {
	c := exec.Command("go", "run", "./plugins/internal/encode/sidebyside", "-source", source, "-plugin", rig.Bin(t, "wavry-encode-software"), "-rounds", rounds, "-seconds", "3")
	c.Dir = filepath.Join("..", "..")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("sidebyside: %v\n%s", err, out)
	}
	a := against{output: string(out)}
	a.cpu = figure(t, a.output, `CPU, all of ours .* ([0-9.]+)x`)
	a.encoder = figure(t, a.output, `CPU, encoder alone .* ([0-9.]+)x`)
	if source == "frames" {
		a.added = figure(t, a.output, `latency p95 .* ([+-][0-9.]+) ms`)
	}
	return a
}

func figure(t *testing.T, text, pattern string) float64 {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
