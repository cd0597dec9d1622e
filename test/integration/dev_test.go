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
	p.Live()
	t.Logf("%+v", p.Snapshot())
}

func TestSway(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "sway", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(dev.SignIn())
	p.Live()
	p.Click(640, 400)
	p.Type("echo hello from the browser\r")
	p.Until("input measured", "wavry.snapshot().inputToPresent")
	p.Shot("typed")
	t.Logf("%+v\n%s", p.Snapshot(), dev.Output())
}
