//go:build integration

package viewertest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// page is one tab of a real Chromium.
type page struct {
	t   testing.TB
	ctx context.Context
}

// limit is how long one expectation may take to come true.
const limit = 15 * time.Second

// browser is the one Chromium of this package; each page gets a profile of its own in it.
var browser context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withBrowser(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withBrowser(run func() int) (int, error) {
	path, err := chromium()
	if err != nil {
		return 0, err
	}
	profile, err := os.MkdirTemp("", "wavry-viewertest-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(profile)
	alloc, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("headless", "new"), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("mute-audio", true), chromedp.WindowSize(1280, 807))
	defer stop()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		return 0, fmt.Errorf("start Chromium: %w", err)
	}
	browser = ctx
	return run(), nil
}

// newPage opens a page with its own profile. It ends with the test, which fails if the page threw anything.
func newPage(t testing.TB, width, height int) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &page{t: t, ctx: ctx}
	p.do(chromedp.EmulateViewport(int64(width), int64(height)))
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

func chromium() (string, error) {
	for _, name := range []string{"chromium", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium in the path: install chromium")
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}

func (p *page) open(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url))
}

// js evaluates an expression to a T.
func js[T any](p *page, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until polls an expression until it is true.
func (p *page) until(what, expression string) {
	p.t.Helper()
	p.untilGo(what, func() bool { return js[bool](p, "!!("+expression+")") })
}

func (p *page) untilGo(what string, done func() bool) {
	p.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			p.shot("failure")
			p.t.Fatalf("never happened: %s\npage: %s\nlog:\n%s", what, js[string](p, "document.body.innerText"),
				strings.Join(js[[]string](p, "window.wavry ? wavry.log() : []"), "\n"))
		}
	}
}

// colour waits until the picture's corner is about this colour (0xAARRGGBB).
func (p *page) colour(what string, want uint32) {
	p.t.Helper()
	p.until(what, fmt.Sprintf(`(([r,g,b]) => Math.abs(r-%d) + Math.abs(g-%d) + Math.abs(b-%d) < 90)(wavry.pixel(4,4))`,
		want>>16&255, want>>8&255, want&255))
}

// snapshot is the part of wavry.snapshot() that tests look at.
type snapshot struct {
	State, Path, Relay, Role             string
	FPS, Lost, Late, Reconnects, Moves   int
	Received, Presented, Drawn, Replaced int
	Keyframes, KeyframeRequests          int
	SetupMS                              float64
	RTT                                  float64
	Stages                               map[string]*spread
	InputToPresent                       *spread
	Gaps                                 *spread
}

type spread struct {
	Count         int
	P50, P95, P99 float64
}

func (p *page) snapshot() snapshot {
	p.t.Helper()
	var s snapshot
	if err := json.Unmarshal([]byte(js[string](p, "JSON.stringify(wavry.snapshot())")), &s); err != nil {
		p.t.Fatal(err)
	}
	return s
}

// shot keeps a picture of the page in the folder WAVRY_SHOTS, for people.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("WAVRY_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Errorf("screenshot: %v", err)
	}
	file := filepath.Join(dir, strings.ReplaceAll(p.t.Name(), "/", "-")+"-"+name+".png")
	if err := os.WriteFile(file, png, 0o644); err != nil {
		p.t.Error(err)
	}
}

// onNewDocument runs a script in every document before its own.
func (p *page) onNewDocument(source string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: source})
		return err
	}))
}
