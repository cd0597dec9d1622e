//go:build integration

package plugintest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginhost"
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

// strangers runs plugins as a user who owns nothing, where only root can: else as us.
func strangers(t *testing.T) *pluginhost.Users {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody := &pluginhost.Credential{UID: 66000, GID: 66000}
	users := &pluginhost.Users{Capture: nobody, Encode: nobody}
	t.Cleanup(func() { _ = users.Close() })
	return users
}

// TestCaptureTest proves the conformance of the test pattern.
func TestCaptureTest(t *testing.T) {
	Capture(t, Spec{Path: build(t, "capture-test"), Users: strangers(t), Moving: true, Slow: 2})
}

// TestEncodeSoftware proves the conformance of the software encoder.
func TestEncodeSoftware(t *testing.T) {
	Encode(t, Spec{Path: build(t, "encode-software"), Users: strangers(t), Slow: 2})
}
