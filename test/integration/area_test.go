//go:build integration

package integration

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// Whoever opens a desktop sees it in the size of their screen from the first picture on, whatever size the one before them had: a phone, a
// laptop, and a laptop whose screen is twice as fine.
func TestFirstPictureFitsTheScreen(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "sway", "-size", "1280x720", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 390, 844)
	url := dev.SignIn()
	for _, screen := range []struct {
		width, height int64
		ratio         float64
	}{{390, 844, 3}, {1024, 768, 1}, {1280, 720, 2}} {
		p.Do(chromedp.EmulateViewport(screen.width, screen.height, chromedp.EmulateScale(screen.ratio)))
		p.Open(url)
		p.Live()
		s := p.Snapshot()
		if s.Width != int(float64(screen.width)*screen.ratio) || s.Height != int(float64(screen.height)*screen.ratio) {
			t.Errorf("on a screen of %dx%d at %v the first picture has %dx%d", screen.width, screen.height, screen.ratio, s.Width, s.Height)
		}
		url = browser.Eval[string](p, "location.href")
		p.Open("about:blank") // leaves
	}
}
