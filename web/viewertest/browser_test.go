//go:build integration

package viewertest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/wavry/fleet/test/browser"
)

// page is one tab, with what these tests say about pages.
type page struct {
	*browser.Page
	t testing.TB
}

// chromium is the one browser of this package; each page gets a profile of its own in it.
var chromium context.Context

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
	profile, err := os.MkdirTemp("", "wavry-viewertest-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(profile)
	ctx, stop, err := browser.Launch(profile)
	if err != nil {
		return 0, err
	}
	defer stop()
	chromium = ctx
	return run(), nil
}

func newPage(t testing.TB, width, height int) *page {
	t.Helper()
	return &page{Page: browser.NewIn(t, chromium, width, height), t: t}
}

// js evaluates an expression to a T.
func js[T any](p *page, expression string) T {
	p.t.Helper()
	return browser.Eval[T](p.Page, expression)
}

// colour waits until the picture's corner is about this colour (0xAARRGGBB).
func (p *page) colour(what string, want uint32) {
	p.t.Helper()
	p.Until(what, fmt.Sprintf(`(([r,g,b]) => Math.abs(r-%d) + Math.abs(g-%d) + Math.abs(b-%d) < 90)(wavry.pixel(4,4))`,
		want>>16&255, want>>8&255, want&255))
}

// onNewDocument runs a script in every document before its own.
func (p *page) onNewDocument(source string) {
	p.t.Helper()
	p.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: source})
		return err
	}))
}
