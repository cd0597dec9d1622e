//go:build integration

package pipeline

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// TestRealPlugins proves recovery with the test pattern and the software encoder: a killed plugin's picture is back within two
// seconds, beginning with a keyframe.
func TestRealPlugins(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"capture-test", "encode-software"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "github.com/wavry/fleet/plugins/"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	r := start(t, one("capture-test", fakeplugin.Behaviour{}), one("encode-software", fakeplugin.Behaviour{}), func(c *Config) {
		c.Width, c.Height = 1280, 720
		launch := c.Launch
		c.Launch = func(ctx context.Context, candidate Candidate) (Process, error) {
			candidate.Path = filepath.Join(dir, candidate.Name)
			return launch(ctx, candidate)
		}
	})
	begin := time.Now()
	r.await("live", 20*time.Second, lives(1))
	t.Log("first picture after", time.Since(begin))
	for i, victim := range []string{"encode-software", "capture-test"} {
		at := r.kill9(victim)
		r.await("next picture", 10*time.Second, lives(i+2))
		took := time.Since(at)
		t.Logf("%s killed, picture back after %v", victim, took)
		if took > 2*time.Second {
			t.Errorf("%s: %v, want at most 2s", victim, took)
		}
	}
}
