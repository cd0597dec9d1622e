//go:build latency

package bench

import (
	"strconv"
	"strings"
	"testing"

	"github.com/wavry/fleet/test/browser"
)

// openings of the page: the median of so many is reported.
const openings = 7

// measureFirst opens the page of a running system again and again, and returns when its first picture was drawn, in milliseconds after
// the navigation began: page, signaling, lease, plugins' start, QUIC, first keyframe, decoder. The first opening also signs in, and fills
// the browser's caches; it is not counted.
func measureFirst(t *testing.T) []float64 {
	l := lanes[0]
	process := l.start(t)
	link := process.SignIn()
	page := desktopPage(t, link)
	p := browser.New(t, l.width, l.height)
	p.Open(link)
	p.Live()
	var out []float64
	for range openings {
		p.Open("about:blank")
		wait(settle / 4) // the session that was left ends
		p.Open(page)
		p.Live()
		out = append(out, liveAt(t, p))
	}
	return out
}

// desktopPage is the address that a sign-in link leads to.
func desktopPage(t *testing.T, link string) string {
	page, fragment, _ := strings.Cut(link, "#")
	_, to, found := strings.Cut(fragment, "&to=")
	if !found {
		t.Fatalf("%s leads nowhere", link)
	}
	return page + "#" + to
}

// liveAt is when the page drew its first picture: it notes that it is live right after.
func liveAt(t *testing.T, p *browser.Page) float64 {
	for _, line := range browser.Eval[[]string](p, "wavry.log()") {
		if at, what, _ := strings.Cut(line, " "); strings.HasPrefix(what, "live:") {
			ms, err := strconv.ParseFloat(at, 64)
			if err != nil {
				t.Fatal(err)
			}
			return ms
		}
	}
	t.Fatal("the page did not note when it was live")
	return 0
}
