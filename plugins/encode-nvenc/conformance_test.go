//go:build gpu

package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/plugintest"
)

// The plugin keeps the contract on a machine that has the hardware, as a real process over real gRPC.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wavry-encode-nvenc")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	plugintest.Encode(t, plugintest.Spec{Path: path, Slow: 2})
}
