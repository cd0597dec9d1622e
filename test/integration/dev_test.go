//go:build integration

package integration

import (
	"testing"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// A host without a fleet serves its own page: the test picture reaches a real browser and follows the pointer.
func TestStandalone(t *testing.T) {
	host := rig.Start(t, nil, "host", "-standalone", "-capture", "capture-test", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(host.SignIn())
	p.Live()
	p.Move(200, 500)
	p.Until("input measured", "wavry.snapshot().inputToPresent")
	p.Shot("live")
}

// The whole system in one process: a person signs in, gets a desktop directly, types, and sees it.
func TestDev(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "sway", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(dev.SignIn())
	p.Live()
	p.Click(640, 400)
	p.Type("echo hello from the browser\r")
	p.Until("input measured", "wavry.snapshot().inputToPresent")
	p.Shot("typed")
	// With more work than cores the direct path can lose its head start; it wins when the page tries again.
	p.UntilGo("a direct path", func() bool {
		if p.Snapshot().Path == "direct" {
			return true
		}
		browser.Eval[bool](p, "(wavry.drop(), true)")
		p.Live()
		return false
	})
}

// The same through the relay, and only through it.
func TestDevForceRelay(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "test", "-force-relay", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(dev.SignIn())
	p.Live()
	p.Move(200, 500)
	p.Until("input measured", "wavry.snapshot().inputToPresent")
	if s := p.Snapshot(); s.Path != "relay" || s.Relay != "dev" {
		t.Errorf("path %q over relay %q, want relay dev", s.Path, s.Relay)
	}
}
