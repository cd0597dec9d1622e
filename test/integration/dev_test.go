//go:build integration

package integration

import (
	"testing"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// The test picture reaches a real browser through real plugin processes, and follows the pointer.
func TestTestPicture(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "test", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(dev.SignIn())
	p.Shot("signed-in")
	p.Live()
	p.Shot("live")
	t.Logf("%+v", p.Snapshot())
}
