//go:build integration

package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/plugintest"
)

// Both methods keep the contract as a real process over real gRPC.
func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wavry-encode-software")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, method := range []string{"x264", "openh264"} {
		t.Run(method, func(t *testing.T) {
			plugintest.Encode(t, plugintest.Spec{Path: path, Methods: []string{method}, Slow: 2})
		})
	}
}
