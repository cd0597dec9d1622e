//go:build integration

package viewertest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// strokes are the keys that the host got, as "+29 -29".
func (h *host) strokes() string {
	var out []string
	for _, k := range got[*streamwire.Key](h) {
		out = append(out, map[bool]string{true: "+", false: "-"}[k.Down]+fmt.Sprint(k.Code))
	}
	return strings.Join(out, " ")
}

// liveOn is live on another system, by the name of its browsers.
func liveOn(t *testing.T, agent string) (*host, *page) {
	t.Helper()
	h := newHost(t, 640, 360)
	g := newGateway(t, h)
	p := newPage(t, 1280, 720)
	p.Open(g.server.URL + "/logo.svg")
	p.onNewDocument(fmt.Sprintf(`Object.defineProperty(navigator, "userAgent", { get: () => %q })`, agent))
	p.Open(g.link())
	p.Until("live", `window.wavry && wavry.state === "live"`)
	return h, p
}

// event makes the page see a key's event, with the modifiers and locks that init names.
func (p *page) event(kind, code, key, init string) {
	p.t.Helper()
	js[bool](p, fmt.Sprintf(`document.querySelector(".stage").dispatchEvent(new KeyboardEvent(%q, {code: %q, key: %q, bubbles: true, cancelable: true, %s})), true`, kind, code, key, init))
}

// AltGr of Windows reaches the host as AltGr alone, and Control as Control, also when it is held without another key.
func TestWindowsAltGr(t *testing.T) {
	h, p := liveOn(t, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140")
	const both = `
		const stage = document.querySelector(".stage"), say = (t, code, key, m = {}) => stage.dispatchEvent(new KeyboardEvent(t, {code, key, bubbles: true, cancelable: true, ...m}));
		say("keydown", "ControlLeft", "Control", {ctrlKey: true}); say("keydown", "AltRight", "AltGraph", {modifierAltGraph: true});
		say("keydown", "KeyQ", "@", {modifierAltGraph: true}); say("keyup", "KeyQ", "@", {modifierAltGraph: true});
		say("keyup", "ControlLeft", "Control", {modifierAltGraph: true}); say("keyup", "AltRight", "AltGraph"); true`
	js[bool](p, "(() => {"+strings.TrimSuffix(strings.TrimSpace(both), "true")+"return true})()")
	p.UntilGo("AltGr and Q", func() bool { return h.strokes() == "+100 +16 -16 -100" })
	p.event("keydown", "ControlLeft", "Control", "ctrlKey: true")
	p.UntilGo("Control alone", func() bool { return strings.HasSuffix(h.strokes(), "-100 +29") })
}

// Locks follow what the events say, not the presses that systems make of them; a modifier whose lifting was lost goes up with the next
// event that denies it, be it the pointer's.
func TestLocksAndLostModifiers(t *testing.T) {
	h, p := liveOn(t, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140")
	p.event("keydown", "CapsLock", "CapsLock", "modifierCapsLock: true")
	p.event("keydown", "KeyA", "A", "modifierCapsLock: true")
	p.event("keyup", "KeyA", "A", "modifierCapsLock: true")
	p.event("keyup", "CapsLock", "CapsLock", "")
	p.UntilGo("locked and unlocked", func() bool {
		l := got[*streamwire.Locks](h)
		return len(l) == 2 && l[0].Known == streamwire.LockCaps && l[0].On == streamwire.LockCaps && l[1].On == 0 && h.strokes() == "+30 -30"
	})
	p.event("keydown", "ShiftLeft", "Shift", "shiftKey: true")
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 500, 200))
	p.UntilGo("Shift is lifted", func() bool { return strings.HasSuffix(h.strokes(), "+42 -42") })
}

// A key whose lifting is lost does not stay down: it stops repeating, and is lifted.
func TestLostKeyIsLifted(t *testing.T) {
	h, p := liveOn(t, "Mozilla/5.0 (X11; Linux x86_64) Chrome/140")
	p.event("keydown", "KeyW", "w", "")
	p.event("keydown", "KeyW", "w", "repeat: true")
	p.UntilGo("lifted", func() bool { return h.strokes() == "+17 -17" })
}

// compose sets what an input method is composing in the focused field.
func (p *page) compose(text string) {
	p.t.Helper()
	n := int64(len(text))
	p.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.ImeSetComposition, input.ImeSetCompositionParams{Text: text, SelectionStart: n, SelectionEnd: n})
		return err
	}))
}

// insert writes text into the focused field, as a picker does.
func (p *page) insert(text string) {
	p.t.Helper()
	p.Do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
		return err
	}))
}

// What a real input method composes arrives once, when it is composed; a letter that no key has arrives too, and what the desktop could
// not type is told to the person and to screen readers.
func TestComposition(t *testing.T) {
	h, _, p := live(t)
	js[bool](p, `document.querySelector(".typing").focus(), true`)
	for i := range "hello" {
		part := "hello"[:i+1]
		p.compose(part)
	}
	p.insert("hello") // commits the composition
	p.insert("é€😀")
	want := []string{"hello", "é€😀"}
	p.UntilGo("the text", func() bool { return len(got[*streamwire.Text](h)) >= len(want) })
	js[bool](p, `document.querySelector(".stage").focus(), true`)
	p.Do(chromedp.KeyEvent("z"))
	p.UntilGo("a key after it", func() bool { return h.strokes() != "" })
	var texts []string
	for _, m := range got[*streamwire.Text](h) {
		texts = append(texts, m.Text)
	}
	if !reflect.DeepEqual(texts, want) || h.strokes() != "+44 -44" && h.strokes() != "+44" {
		t.Errorf("texts %q, keys %s", texts, h.strokes())
	}
	h.last().send(&streamwire.Untyped{Text: "😀", Reason: "the desktop's keyboard layout has no key for it"})
	p.Until("told", `document.querySelector(".toast[role=alert]")?.innerText === "Could not type 😀. The desktop's keyboard layout has no key for it."`)
}

// A turn of the wheel is the same distance in one event, in halves and in sixths.
func TestWheelGrain(t *testing.T) {
	h, _, p := live(t)
	turned := func() (sum int32) {
		for _, s := range got[*streamwire.Scroll](h) {
			sum += s.Y
		}
		return sum
	}
	want := int32(0)
	for _, c := range []struct {
		parts, mode int
		delta, told float64 // of each part; told is the browser's own measure of the turn
	}{
		{1, 0, 120, 120}, {2, 0, 60, 60}, {6, 0, 20, 20}, // a browser that scrolls as far as the wheel turns
		{2, 0, 50, 60}, {1, 0, 200, 120}, // fewer or more pixels a notch
		{2, 1, 1.5, 60}, {1, 1, 5, 120}, // lines
		{1, 1, 3, 0}, {3, 0, 16, 0}, // a browser that does not measure
	} {
		js[bool](p, fmt.Sprintf(`(() => {
			for (let i = 0; i < %d; i++) {
				const e = new WheelEvent("wheel", {bubbles: true, cancelable: true, deltaMode: %d, deltaY: %g});
				Object.defineProperty(e, "wheelDeltaY", {value: -%g});
				Object.defineProperty(e, "wheelDeltaX", {value: 0});
				document.querySelector(".stage").dispatchEvent(e);
			}
			return true;
		})()`, c.parts, c.mode, c.delta, c.told))
		want += 120
		p.UntilGo(fmt.Sprintf("a notch in %+v", c), func() bool { return turned() == want })
	}
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseWheel, 960, 540, func(e *input.DispatchMouseEventParams) { e.DeltaX, e.DeltaY = 0.001, 100 }))
	p.UntilGo("a notch of Chromium's own", func() bool { return turned() == want+120 })
}

// The host is told how fine the screen is, first and when that changes alone: the window's size in CSS pixels stays as it is.
func TestPixelRatio(t *testing.T) {
	h, _, p := live(t)
	if hello := h.hellos[0]; hello.Width != 1280 || hello.Height != 720 || hello.Scale != streamwire.ScaleUnit {
		t.Errorf("hello %+v", hello)
	}
	for _, ratio := range []float64{2, 1.25, 1} { // twice: the page listens again for each
		p.Do(chromedp.EmulateViewport(1280, 720, chromedp.EmulateScale(ratio)))
		p.UntilGo(fmt.Sprintf("a ratio of %v", ratio), func() bool {
			r := got[*streamwire.Resize](h)
			return len(r) > 0 && *r[len(r)-1] == streamwire.Resize{Width: uint16(1280 * ratio), Height: uint16(720 * ratio), Scale: uint16(ratio * streamwire.ScaleUnit)}
		})
	}
}
