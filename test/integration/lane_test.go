//go:build integration

package integration

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// lane is a desktop that must work from compositor to browser.
type lane struct {
	kind     string
	terminal string // runs a script in a window
	follows  bool   // its size follows the viewer's; else the viewer scales the picture
}

var lanes = []lane{
	{"sway", "foot -e", true},
	{"gnome", "foot --maximized -e", true},
	{"kde", "konsole --hide-menubar --nofork -e", false},
}

// window fills a terminal with a colour, another one after the key k, and a third after a click. The default background has the
// same colour, for cells that a later resize adds.
const window = `#!/bin/sh
paint() { printf '\033]11;rgb:%s\033\\\033[48;2;%sm\033[2J\033[H\033[?25l' "$2" "$1"; }
stty raw -echo
printf '\033[?1000h'
paint '200;30;60' 'c8/1e/3c'
while c=$(dd bs=1 count=1 2>/dev/null; echo .); do
  case "${c%.}" in
    k) paint '30;160;60' '1e/a0/3c' ;;
    "$(printf '\033')") paint '40;70;200' '28/46/c8'; dd bs=1 count=5 >/dev/null 2>&1 ;;
    '') exit ;;
  esac
done
`

// The colours of window, as RGB.
var (
	red   = [3]int{200, 30, 60}
	green = [3]int{30, 160, 60}
	blue  = [3]int{40, 70, 200}
)

//go:embed lanes_known.txt
var lanesKnown string

// known returns why a lane is known not to run on the test machines; empty: it must.
func known(kind string) string {
	for line := range strings.Lines(lanesKnown) {
		if name, reason, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && name == kind {
			return reason
		}
	}
	return ""
}

// Every desktop is seen and steered from a browser, and survives the death of its plugins.
func TestLanes(t *testing.T) {
	for _, l := range lanes {
		t.Run(l.kind, func(t *testing.T) {
			if reason := known(l.kind); reason != "" {
				t.Skip(reason)
			}
			testLane(t, l)
		})
	}
}

func testLane(t *testing.T, l lane) {
	script := windowScript(t)
	dev := rig.Start(t, nil, "dev", "-desktop", l.kind, "-size", "1280x720", "-app", l.terminal+" "+script,
		"-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := browser.New(t, 1280, 720)
	p.Open(dev.SignIn())
	p.Live()
	seen(p, "the window", red)
	p.Shot("window")
	p.Click(640, 500)
	seen(p, "the click", blue)
	p.Type("k")
	seen(p, "the key", green)
	p.Shot("key")
	follow(t, l, p, 1440, 810, green)
	p.Shot("resized")

	for _, name := range []string{"wavry-encode-software", "wavry-capture-wayland"} {
		before := p.Snapshot()
		if err := syscall.Kill(rig.Child(t, dev.PID(), name), syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", name, err)
		}
		p.UntilGo("pictures after "+name+" was killed", func() bool { return p.Snapshot().Keyframes > before.Keyframes })
		seen(p, "the window after "+name+" was killed", green) // on GNOME it moves to the new capture's monitor
		clicked(p, "a click after "+name+" was killed", blue)
		p.Type("k")
		seen(p, "a key after "+name+" was killed", green)
	}
	follow(t, l, p, 1280, 720, green)
	if s := p.Snapshot(); s.Reconnects != 0 || s.State != "live" {
		t.Errorf("the browser noticed more than a pause: %+v", s)
	}
}

// follow gives the page another size: the desktop gets it too, with its window, or the picture is scaled to fill the page.
func follow(t *testing.T, l lane, p *browser.Page, width, height int, rgb [3]int) {
	t.Helper()
	p.Resize(int64(width), int64(height))
	if !l.follows {
		p.Until("the picture fills the page", fmt.Sprintf(`Math.abs(document.querySelector("canvas").getBoundingClientRect().width - %d) <= 1`, width))
		if s := p.Snapshot(); s.Width != 1280 || s.Height != 720 {
			t.Errorf("the picture has %dx%d", s.Width, s.Height)
		}
		return
	}
	p.UntilGo(fmt.Sprintf("pictures of %dx%d", width, height), func() bool { s := p.Snapshot(); return s.Width == width && s.Height == height })
	seenAt(p, "the window at the far edge", width-40, height/2, rgb)
}

// windowScript writes window where the desktop's user may run it: a test's own directory is its user's alone.
func windowScript(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wavry-lane-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "window")
	if err := os.WriteFile(path, []byte(window), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// seen waits until the picture has a colour near its middle, where compositors put the pointer.
func seen(p *browser.Page, what string, rgb [3]int) { seenAt(p, what, 500, 300, rgb) }

// seenAt waits until a pixel has a colour.
func seenAt(p *browser.Page, what string, x, y int, rgb [3]int) {
	p.Until(what, hasColour(x, y, rgb))
}

// clicked clicks, and again as a person would, until that is seen: GNOME drops a click while it still arranges the new capture's monitor.
func clicked(p *browser.Page, what string, rgb [3]int) {
	const patience = 50 // polls, a second
	polls := 0
	p.UntilGo(what, func() bool {
		if polls%patience == 0 {
			p.Click(640, 500)
		}
		polls++
		return browser.Eval[bool](p, hasColour(500, 300, rgb))
	})
}

// hasColour is true in the page when a pixel has a colour, within what H.264 and colour conversion change.
func hasColour(x, y int, rgb [3]int) string {
	return fmt.Sprintf(`(([r,g,b]) => Math.abs(r-%d) + Math.abs(g-%d) + Math.abs(b-%d) < 60)(wavry.pixel(%d,%d))`, rgb[0], rgb[1], rgb[2], x, y)
}
