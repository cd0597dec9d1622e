//go:build integration

package plugintest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// build compiles one of our plugins.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wavry-"+name)
	out, err := exec.Command("go", "build", "-o", path, "github.com/wavry/fleet/plugins/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// TestCaptureTest proves the conformance of the test pattern.
func TestCaptureTest(t *testing.T) {
	Capture(t, Spec{Path: build(t, "capture-test"), Moving: true, Slow: 2})
}

// TestEncodeSoftware proves the conformance of the software encoder.
func TestEncodeSoftware(t *testing.T) {
	Encode(t, Spec{Path: build(t, "encode-software"), Slow: 2})
}
