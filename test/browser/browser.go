// Package browser drives a real Chromium for tests and benchmarks of the web app.
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// limit is how long one expectation may take to come true.
const limit = 20 * time.Second

// Page is one tab of a Chromium with a profile of its own. Its methods fail the test.
type Page struct {
	t   testing.TB
	ctx context.Context
}

// Launch starts a Chromium with an empty profile in dir. stop ends it.
func Launch(dir string) (chromium context.Context, stop func(), err error) {
	path, err := find()
	if err != nil {
		return nil, nil, err
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("mute-audio", true), chromedp.WindowSize(1280, 807))
	ctx, cancel := chromedp.NewContext(alloc)
	stop = func() {
		cancel()
		stopAlloc()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return ctx, stop, nil
}

func find() (string, error) {
	for _, name := range []string{"chromium", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium: install the package chromium")
}

// New starts a Chromium of its own for one page of width x height. It ends with the test, which fails if the page threw anything.
func New(t testing.TB, width, height int) *Page {
	t.Helper()
	chromium, stop, err := Launch(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return NewIn(t, chromium, width, height)
}

// NewIn is New in a Chromium that several pages share; each has cookies and storage of its own.
func NewIn(t testing.TB, chromium context.Context, width, height int) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &Page{t: t, ctx: ctx}
	p.Do(chromedp.EmulateViewport(int64(width), int64(height)))
	err := chromedp.Listen(ctx, func(e any) {
		if thrown, ok := e.(*runtime.EventExceptionThrown); ok {
			t.Errorf("the page threw: %+v", thrown.ExceptionDetails)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Do runs actions in the page.
func (p *Page) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}

// Open navigates to url.
func (p *Page) Open(url string) {
	p.t.Helper()
	p.Do(chromedp.Navigate(url))
}

// OpenInvite opens an invited person's link and chooses a password on its page.
func (p *Page) OpenInvite(link string) {
	p.t.Helper()
	p.Open(link)
	p.Until("the link asks for a password", `document.querySelector("[autocomplete=new-password]")`)
	p.Do(chromedp.SetValue("[autocomplete=new-password]", "battery staple horse"))
	Eval[bool](p, `document.querySelector("form").requestSubmit(), true`)
}

// Eval evaluates a JavaScript expression to a T.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Until polls an expression until it is true.
func (p *Page) Until(what, expression string) {
	p.t.Helper()
	p.UntilGo(what, func() bool { return Eval[bool](p, "!!("+expression+")") })
}

// UntilGo polls done until it is true. A failure shows the page's text and log, and keeps a screenshot if WAVRY_SHOTS names a
// directory.
func (p *Page) UntilGo(what string, done func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			p.Shot("failure")
			p.t.Fatalf("never happened: %s\npage: %s\nlog:\n%s", what, Eval[string](p, "document.body.innerText"),
				strings.Join(Eval[[]string](p, "window.wavry ? wavry.log() : []"), "\n"))
		}
	}
}

// Live waits until the session shows pictures.
func (p *Page) Live() {
	p.t.Helper()
	p.Until("the session is live with a picture", "window.wavry && wavry.state === 'live' && wavry.snapshot().presented > 0")
}

// Shot saves a screenshot in the directory named by WAVRY_SHOTS; without it, it does nothing.
func (p *Page) Shot(name string) {
	p.t.Helper()
	dir := os.Getenv("WAVRY_SHOTS")
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatalf("screenshot: %v", err)
	}
	name = strings.ReplaceAll(p.t.Name()+"-"+name, "/", "-") + ".png"
	if err := os.WriteFile(filepath.Join(dir, name), shot, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Pixels reads a rectangle of the decoded picture, in its own pixels: RGBA, row by row.
func (p *Page) Pixels(x, y, width, height int) []uint8 {
	p.t.Helper()
	values := Eval[[]int](p, fmt.Sprintf("wavry.read(%d,%d,%d,%d)", x, y, width, height))
	b := make([]uint8, len(values))
	for i, v := range values {
		b[i] = uint8(v)
	}
	return b
}

// Type presses and releases the keys that make text on a US keyboard, as a person would.
func (p *Page) Type(text string) {
	p.t.Helper()
	p.Do(chromedp.KeyEvent(text))
}

// Click presses and releases the left button at a place of the page.
func (p *Page) Click(x, y float64) {
	p.t.Helper()
	p.Do(chromedp.MouseClickXY(x, y))
}

// Move moves the pointer to a place of the page.
func (p *Page) Move(x, y float64) {
	p.t.Helper()
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
}

// Resize gives the page another size.
func (p *Page) Resize(width, height int64) {
	p.t.Helper()
	p.Do(chromedp.EmulateViewport(width, height))
}

// Snapshot is what window.wavry.snapshot() reports; docs/viewer.md describes it.
type Snapshot struct {
	State, Path, Relay, Role, Session    string
	Width, Height                        int
	FPS, Lost, Late, Reconnects, Moves   int
	Received, Presented, Drawn, Replaced int
	Keyframes, KeyframeRequests          int
	SetupMS, RTT                         float64
	Stages                               map[string]*Spread
	InputToPresent, Gaps                 *Spread
}

// Spread is a series of latencies in milliseconds.
type Spread struct {
	Count         int
	P50, P95, P99 float64
}

// Snapshot reads the page's measurements.
func (p *Page) Snapshot() Snapshot {
	p.t.Helper()
	var s Snapshot
	if err := json.Unmarshal([]byte(Eval[string](p, "JSON.stringify(wavry.snapshot())")), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}
