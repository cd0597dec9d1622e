//go:build integration

package viewertest

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// live opens the link and waits for the picture.
func live(t *testing.T) (*host, *gateway, *page) {
	t.Helper()
	h := newHost(t, 640, 360)
	g := newGateway(t, h)
	p := newPage(t, 1280, 720)
	p.open(g.link())
	p.until("live", `window.wavry && wavry.state === "live"`)
	return h, g, p
}

// A one-time link leads to a live picture; a key and a click reach the host and their effect is seen and measured.
func TestLinkToPictureToInput(t *testing.T) {
	h, _, p := live(t)
	p.colour("the first film", blue)
	p.shot("live")
	p.do(chromedp.KeyEvent(" "))
	p.colour("a key's effect", red)
	p.do(chromedp.MouseClickXY(640, 360))
	p.colour("a click's effect", blue)
	keys := got[*streamwire.Key](h)
	if len(keys) != 2 || keys[0].Code != 57 || !keys[0].Down || keys[1].Down {
		t.Errorf("keys: %+v", keys)
	}
	buttons := got[*streamwire.Button](h)
	if len(buttons) != 2 || buttons[0].Code != 0x110 || !buttons[0].Placed || buttons[0].X < 32000 || buttons[0].X > 33500 {
		t.Errorf("buttons: %+v", buttons)
	}
	p.until("input-to-present", "wavry.snapshot().inputToPresent?.count >= 4")
	s := p.snapshot()
	t.Logf("setup %.0f ms, input to present %+v, stages: network %+v decode %+v present %+v total %+v", s.SetupMS, s.InputToPresent, s.Stages["network"], s.Stages["decode"], s.Stages["present"], s.Stages["total"])
	if s.Lost != 0 || s.Path != "direct" || s.Role != "control" {
		t.Errorf("snapshot: %+v", s)
	}
	_ = kb.Enter
}
