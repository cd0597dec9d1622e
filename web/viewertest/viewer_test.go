//go:build integration

package viewertest

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// live opens the link and waits for the picture.
func live(t *testing.T, change ...func(*host, *gateway)) (*host, *gateway, *page) {
	t.Helper()
	h := newHost(t, 640, 360)
	g := newGateway(t, h)
	for _, f := range change {
		f(h, g)
	}
	p := newPage(t, 1280, 720)
	p.Open(g.link())
	p.Until("live", `window.wavry && wavry.state === "live"`)
	return h, g, p
}

// A one-time link leads to a live picture; a key and a click reach the host and their effect is seen and measured.
func TestLinkToPictureToInput(t *testing.T) {
	h, _, p := live(t)
	p.colour("the first film", blue)
	p.Shot("live")
	p.Do(chromedp.KeyEvent(" "))
	p.colour("a key's effect", red)
	p.Do(chromedp.MouseClickXY(640, 360))
	p.colour("a click's effect", blue)
	keys := got[*streamwire.Key](h)
	if len(keys) != 2 || keys[0].Code != 57 || !keys[0].Down || keys[1].Down {
		t.Errorf("keys: %+v", keys)
	}
	buttons := got[*streamwire.Button](h)
	if len(buttons) != 2 || buttons[0].Code != 0x110 || !buttons[0].Placed || buttons[0].X < 32000 || buttons[0].X > 33500 {
		t.Errorf("buttons: %+v", buttons)
	}
	p.Until("input-to-present", "wavry.snapshot().inputToPresent?.count >= 4")
	s := p.Snapshot()
	if s.Lost != 0 || s.Path != "direct" || s.Role != "control" || s.SetupMS <= 0 || s.SetupMS > 1000 {
		t.Errorf("snapshot: %+v", s)
	}
	if hello := h.hellos[0]; hello.Width != 1280 || hello.Height != 720 || len(hello.Codecs) == 0 {
		t.Errorf("hello: %+v", hello)
	}
	h.idsWithoutGaps()
}

// idsWithoutGaps checks that ids of inputs grow by one, whatever the way they travel.
func (h *host) idsWithoutGaps() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[uint32]bool{}
	for _, m := range h.messages {
		if in, ok := m.(streamwire.Input); ok {
			seen[in.InputID()] = true
		}
	}
	for _, m := range h.moves {
		seen[m.ID] = true
	}
	for id := range uint32(len(seen)) {
		if !seen[id+1] {
			h.t.Errorf("there is no input with id %d", id+1)
		}
	}
}

// Units that overtake each other on the way are decoded in order, without asking for anything.
func TestUnitsOutOfOrder(t *testing.T) {
	_, _, p := live(t, func(h *host, _ *gateway) { h.swap = func(s uint32) bool { return s%5 == 3 } })
	p.Until("a hundred pictures", "wavry.snapshot().presented > 100")
	if s := p.Snapshot(); s.Lost != 0 || s.KeyframeRequests != 0 || s.Late != 0 {
		t.Errorf("%+v", s)
	}
}

// A unit that never comes is counted, a keyframe is asked for, and the picture goes on with it.
func TestLostUnit(t *testing.T) {
	h, _, p := live(t, func(h *host, _ *gateway) { h.lossy = func(s uint32) bool { return s == 30 } })
	p.Until("lost", "wavry.snapshot().lost > 0")
	before := p.Snapshot().Presented
	p.UntilGo("the picture goes on", func() bool { return p.Snapshot().Presented > before+30 })
	s := p.Snapshot()
	if n := h.last().requests.Load(); n < 1 || n > 3 || s.State != "live" {
		t.Errorf("%d keyframe requests, %+v", n, s)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feedback[len(h.feedback)-1].Lost == 0 {
		t.Error("the host was not told of the loss")
	}
}

// Feedback leaves at least every 50 ms, says when each unit came, was decoded and presented, and how long inputs took.
func TestFeedback(t *testing.T) {
	h, _, p := live(t)
	p.Do(chromedp.KeyEvent("a"))
	p.Until("a hundred pictures", "wavry.snapshot().presented > 100")
	h.mu.Lock()
	defer h.mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(h.feedAt); i++ {
		gaps = append(gaps, h.feedAt[i].Sub(h.feedAt[i-1]))
	}
	late := 0
	for _, d := range gaps {
		if d > 60*time.Millisecond {
			late++
		}
	}
	if late > len(gaps)/10 {
		t.Errorf("%d of %d gaps between feedbacks are longer than 60 ms", late, len(gaps))
	}
	received, presented, inputs := map[uint32]bool{}, map[uint32]bool{}, 0
	for _, f := range h.feedback {
		inputs += len(f.Inputs)
		for _, u := range f.Units {
			received[u.Sequence] = true
			if u.Present != streamwire.NotYet && u.Decode <= u.Present {
				presented[u.Sequence] = true
			}
		}
	}
	if len(received) < 100 || len(presented) < len(received)*7/10 || inputs != 3 { // the locks, down, up
		t.Errorf("%d units received, %d presented, %d inputs reported", len(received), len(presented), inputs)
	}
}

// A connection that is cut is found again by itself, the same session goes on, and the person is told meanwhile.
func TestReconnects(t *testing.T) {
	h, gw, p := live(t)
	js[bool](p, `window.seen = [], window.timer = setInterval(() => seen.push(wavry.state), 1), true`)
	js[bool](p, "wavry.drop(), true")
	p.Until("back", `seen.includes("reconnecting") && wavry.state === "live" && wavry.snapshot().reconnects === 1`)
	p.Do(chromedp.KeyEvent(" "))
	p.colour("input over the new connection", red)
	if n := len(h.viewers()); n != 2 {
		t.Errorf("%d connections", n)
	}
	if n := len(gw.asked(signalapi.TypeConnect)); n != 1 {
		t.Errorf("%d desktops were asked for", n)
	}
}

// A path that dies without a word is noticed; another one is asked for and the picture is back within three seconds.
func TestSilentPathIsReplaced(t *testing.T) {
	h, gw, p := live(t, func(h *host, gw *gateway) {
		gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
			if r.Type == signalapi.TypeMove {
				return h.grant("session-1", false, true), nil, true
			}
			return nil, nil, false
		}
	})
	start := time.Now()
	h.direct.frozen.Store(true)
	p.Until("over the relay", `wavry.state === "live" && wavry.snapshot().path === "relay"`)
	took := time.Since(start)
	if took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	t.Logf("back after %v", took.Round(time.Millisecond))
	if s := p.Snapshot(); s.Relay != "relay-7" || s.Reconnects != 1 {
		t.Errorf("%+v", s)
	}
	if len(gw.asked(signalapi.TypeMove)) == 0 {
		t.Error("no other path was asked for")
	}
}

// A path that was silent for a moment comes back without a new connection being needed.
func TestShortSilenceIsSurvived(t *testing.T) {
	h, _, p := live(t)
	h.direct.frozen.Store(true)
	p.Until("noticed", `wavry.state === "reconnecting"`)
	p.Shot("reconnecting")
	h.direct.frozen.Store(false)
	p.Until("back", `wavry.state === "live"`)
	if s := p.Snapshot(); s.State != "live" {
		t.Errorf("%+v", s)
	}
}

// A hand-over by the host or by the gateway opens the new path first, switches with its first picture and says goodbye to the old.
func TestHandOver(t *testing.T) {
	ways := map[string]func(*host, *gateway){
		"host": func(h *host, _ *gateway) { h.last().send(&streamwire.Move{URL: h.url(h.relay, "lease-relay-2")}) },
		"gateway": func(h *host, gw *gateway) {
			grant := h.grant("session-1", false, true)
			gw.event(signalapi.Event{Kind: signalapi.EventMove, Session: "session-1", Grant: &grant})
		},
	}
	for name, move := range ways {
		t.Run(name, func(t *testing.T) {
			h, gw, p := live(t)
			p.Until("thirty pictures", "wavry.snapshot().presented > 30")
			js[bool](p, `wavry.clear(), window.seen = [], window.timer = setInterval(() => seen.push(wavry.state), 1), true`)
			move(h, gw)
			p.Until("moved", `wavry.snapshot().moves === 1 && wavry.snapshot().path === "relay"`)
			p.Until("pictures over the new path", "wavry.snapshot().gaps?.count > 60")
			p.UntilGo("a bye on the old path", func() bool {
				for _, b := range got[*streamwire.Bye](h) {
					if b.Code == streamwire.CodeMoved {
						return true
					}
				}
				return false
			})
			if js[bool](p, `seen.some((s) => s !== "live")`) {
				t.Error("the person was told of a hand-over that lost nothing")
			}
			p.Do(chromedp.KeyEvent(" "))
			p.colour("input over the new path", red)
			t.Logf("longest gap between pictures %v us", js[[]float64](p, `[Math.max(...wavry.samples("gaps"))]`))
		})
	}
}

// A hand-over to a path that cannot be reached changes nothing.
func TestHandOverToNowhere(t *testing.T) {
	h, _, p := live(t)
	h.last().send(&streamwire.Move{URL: h.url(h.relay, "stolen")})
	p.Until("refused", `wavry.log().some((l) => l.includes("hand-over failed"))`)
	if s := p.Snapshot(); s.State != "live" || s.Path != "direct" || s.Moves != 0 {
		t.Errorf("%+v", s)
	}
}

// Each way a host says goodbye is told in words that say what to do.
func TestByes(t *testing.T) {
	for code, want := range map[streamwire.Code]string{
		streamwire.CodeReplaced: "Take it back",
		streamwire.CodeOperator: "An operator ended this session",
		streamwire.CodeVersion:  "Reload",
		streamwire.CodeHost:     "The host lost its picture",
	} {
		t.Run(want, func(t *testing.T) {
			h, _, p := live(t)
			h.last().send(&streamwire.Bye{Code: code, Text: "because of a test"})
			p.Until(want, `document.querySelector(".ending")?.innerText.includes("`+want+`")`)
			state := "ended"
			if code == streamwire.CodeReplaced {
				state = "moved"
			}
			p.Until(state, `wavry.state === "`+state+`"`)
			p.Shot("bye")
		})
	}
}

// "Take it back" asks for the same session again, not for a new one.
func TestTakeBack(t *testing.T) {
	h, gw, p := live(t, func(h *host, gw *gateway) {
		gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
			if r.Type == signalapi.TypeMove {
				return h.grant("session-1", true, false), nil, true
			}
			return nil, nil, false
		}
	})
	h.last().send(&streamwire.Bye{Code: streamwire.CodeReplaced})
	p.Until("told", `document.querySelector(".ending button.primary")`)
	p.Do(chromedp.Click(".ending button.primary"))
	p.Until("live again", `wavry.state === "live"`)
	if n := len(gw.asked(signalapi.TypeConnect)); n != 1 {
		t.Errorf("%d desktops were asked for", n)
	}
}

// Bytes that this version does not know end the session with a sentence, and the host is told why.
func TestGarbageFromTheHost(t *testing.T) {
	h, _, p := live(t)
	h.last().raw([]byte{0xee, 0, 0, 1, 7})
	p.Until("ended", `wavry.state === "ended" && document.body.innerText.includes("do not understand")`)
	p.UntilGo("a bye", func() bool {
		byes := got[*streamwire.Bye](h)
		return len(byes) > 0 && byes[0].Code == streamwire.CodeProtocol
	})
}

// A host of another version is refused with the advice to reload.
func TestOtherVersion(t *testing.T) {
	h := newHost(t, 640, 360)
	h.version = 99
	gw := newGateway(t, h)
	p := newPage(t, 1280, 720)
	p.Open(gw.link())
	p.Until("advice", `document.body.innerText.includes("out of date")`)
}

// A grant that the host did not sign is not used: no connection is tried.
func TestForgedGrant(t *testing.T) {
	h := newHost(t, 640, 360)
	gw := newGateway(t, h)
	gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
		grant := h.grant("session-1", true, false)
		grant.Session = "session-2"
		return grant, nil, r.Type == signalapi.TypeConnect
	}
	p := newPage(t, 1280, 720)
	p.Open(gw.link())
	p.Until("told", `document.body.innerText.includes("could not prove who it is")`)
	if n := len(h.viewers()); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// When no candidate can be reached the person is told what may be wrong, and the gateway as well.
func TestUnreachable(t *testing.T) {
	h := newHost(t, 640, 360)
	gw := newGateway(t, h)
	gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
		grant := h.grant("session-1", true, true)
		for i := range grant.Candidates {
			grant.Candidates[i].URL = strings.Replace(grant.Candidates[i].URL, "lease", "stolen", 1)
		}
		return grant, nil, r.Type == signalapi.TypeConnect || r.Type == signalapi.TypeMove
	}
	p := newPage(t, 1280, 720)
	p.Open(gw.link())
	p.Until("told", `document.body.innerText.includes("cannot be reached")`)
	p.Shot("unreachable")
	p.UntilGo("reported", func() bool {
		r := gw.asked(signalapi.TypeReport)
		return len(r) > 0 && strings.Contains(string(r[0].Data), signalapi.OutcomeFailed)
	})
}

// A refusal with a time to wait is tried again by itself; one without is told.
func TestAdmissionRefused(t *testing.T) {
	h := newHost(t, 640, 360)
	gw := newGateway(t, h)
	tries := 0
	gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
		if r.Type != signalapi.TypeConnect {
			return nil, nil, false
		}
		tries++
		switch tries {
		case 1:
			return nil, &signalapi.Refusal{Reason: signalapi.ReasonMasterAway, Message: "the control plane is electing a leader", RetrySeconds: 1}, true
		case 2:
			return nil, &signalapi.Refusal{Reason: signalapi.ReasonNoHost, Message: "every desktop is taken"}, true
		}
		return nil, nil, false
	}
	p := newPage(t, 1280, 720)
	p.Open(gw.link())
	p.Until("waits", `document.body.innerText.includes("electing a leader")`)
	p.Until("told", `document.body.innerText.includes("Every desktop is taken.")`)
	p.Shot("refused")
	p.Do(chromedp.Click(".ending button.primary"))
	p.Until("live", `wavry.state === "live"`)
}

// The stream goes on while the gateway is away; signaling comes back and resumes the session.
func TestGatewayRestart(t *testing.T) {
	_, gw, p := live(t)
	before := p.Snapshot().Presented
	gw.cutSignaling()
	p.UntilGo("resumed", func() bool { return len(gw.asked(signalapi.TypeResume)) > 0 })
	if s := p.Snapshot(); s.State != "live" || s.Reconnects != 0 || s.Presented <= before {
		t.Errorf("%+v", s)
	}
	if data := string(gw.asked(signalapi.TypeResume)[0].Data); !strings.Contains(data, "session-1") {
		t.Errorf("resume: %s", data)
	}
}

// The lease is renewed at half of its life, and a lost connection comes back with the new token.
func TestRenews(t *testing.T) {
	_, gw, p := live(t, func(h *host, gw *gateway) {
		gw.onRequest = func(r request) (any, *signalapi.Refusal, bool) {
			grant := h.grant("session-1", true, false)
			grant.LeaseExpiry = time.Now().Add(3 * time.Second)
			return grant, nil, r.Type == signalapi.TypeConnect
		}
	})
	p.UntilGo("renewed", func() bool { return len(gw.asked(signalapi.TypeRenew)) == 1 })
	js[bool](p, "wavry.drop(), true")
	p.Until("back", `wavry.state === "live" && wavry.snapshot().reconnects === 1`)
	if url := js[string](p, "wavry.snapshot().url"); !strings.HasSuffix(url, "lease-direct-renewed") {
		t.Errorf("came back with %s", url)
	}
}

// An operator's end and a lost host are told as the gateway tells them.
func TestGatewayEvents(t *testing.T) {
	_, gw, p := live(t)
	gw.event(signalapi.Event{Kind: signalapi.EventWarning, Session: "session-1", Message: "this host restarts at noon"})
	p.Until("warned", `document.querySelector(".notice").innerText === "This host restarts at noon."`)
	gw.event(signalapi.Event{Kind: signalapi.EventEnded, Session: "session-9", Message: "not ours"})
	gw.event(signalapi.Event{Kind: signalapi.EventOffer, Session: "session-1", Message: "the host was lost", Pool: "default"})
	p.Until("offered", `document.querySelector(".ending")?.innerText.includes("The host was lost")`)
}

// Leaving says goodbye to the host and ends the session at the gateway; so does closing the page.
func TestLeaves(t *testing.T) {
	ways := map[string]func(*page){
		"button": func(p *page) { js[bool](p, `document.querySelector("[aria-label=Leave]").click(), true`) },
		"page":   func(p *page) { p.Open("about:blank") },
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			h, gw, p := live(t)
			leave(p)
			p.UntilGo("goodbye", func() bool {
				byes := got[*streamwire.Bye](h)
				return len(byes) > 0 && byes[0].Code == streamwire.CodeEnded && len(gw.asked(signalapi.TypeEnd)) == 1
			})
		})
	}
}

// Pointer motion follows the pointer, the wheel turns in notches, a lost focus lifts everything.
func TestPointerWheelFocus(t *testing.T) {
	h, _, p := live(t)
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 320, 180), chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 960, 540))
	p.UntilGo("motion", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.moves) == 0 {
			return false
		}
		last := h.moves[len(h.moves)-1]
		return last.X > 48800 && last.X < 49500 && last.Y > 48800 && last.Y < 49500
	})
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseWheel, 960, 540, func(e *input.DispatchMouseEventParams) {
		e.DeltaX, e.DeltaY = 0.001, 120 // a zero would be left out, and Chromium insists on both
	}))
	p.UntilGo("scroll", func() bool { return len(got[*streamwire.Scroll](h)) > 0 })
	if s := got[*streamwire.Scroll](h)[0]; s.Y != 120 || s.X != 0 {
		t.Errorf("scroll: %+v", s)
	}
	js[bool](p, `document.querySelector(".stage").dispatchEvent(new KeyboardEvent("keydown", {code: "ShiftLeft", key: "Shift"})), true`)
	js[bool](p, `window.dispatchEvent(new Event("blur")), true`)
	p.UntilGo("release", func() bool { return len(got[*streamwire.ReleaseAll](h)) == 1 })
}

// The desktop is asked to follow the window once its size has settled.
func TestResize(t *testing.T) {
	h, _, p := live(t)
	p.Do(chromedp.EmulateViewport(1001, 601))
	p.UntilGo("resize", func() bool {
		r := got[*streamwire.Resize](h)
		return len(r) > 0 && r[len(r)-1].Width == 1000 && r[len(r)-1].Height == 600
	})
}

// A cursor apart from the picture becomes the browser's own; a hidden one disappears.
func TestCursor(t *testing.T) {
	h, _, p := live(t)
	rgba := make([]byte, 16*16*4)
	for i := range rgba {
		rgba[i] = 0xff
	}
	h.last().send(&streamwire.Cursor{Visible: true, HotspotX: 3, HotspotY: 4, Width: 16, Height: 16, RGBA: rgba})
	p.Until("the cursor", `/^url\("data:image\/png.*6 8, default$/.test(document.querySelector(".stage").style.cursor)`)
	h.last().send(&streamwire.Cursor{})
	p.Until("no cursor", `document.querySelector(".stage").style.cursor === "none"`)
	h.last().send(&streamwire.Cursor{Visible: true, X: 5, Y: 5, HotspotX: 3, HotspotY: 4})
	p.Until("the same cursor", `document.querySelector(".stage").style.cursor.startsWith("url")`)
}

// Those who watch send no input, and see the pointer where it is.
func TestWatching(t *testing.T) {
	h, _, p := live(t, func(h *host, _ *gateway) { h.role = streamwire.RoleWatch })
	p.Do(chromedp.KeyEvent("a"), chromedp.MouseClickXY(300, 300))
	h.last().send(&streamwire.Cursor{Visible: true, X: 32768, Y: 32768, Width: 8, Height: 8, RGBA: make([]byte, 8*8*4)})
	p.Until("the pointer over the picture", `!document.querySelector(".cursor").hidden && document.querySelector(".cursor").style.transform.includes("640")`)
	if n := len(got[*streamwire.Key](h)) + len(got[*streamwire.Button](h)); n != 0 {
		t.Errorf("%d inputs were sent", n)
	}
	h.last().send(&streamwire.People{Others: []streamwire.Person{{Role: streamwire.RoleControl, Name: "Ada"}}})
	p.Until("whose desktop it is", `document.querySelector(".toolbar .status").textContent === "Watching Ada" && document.querySelector(".watchers").hidden`)
}

// Whoever is watched sees by whom, for as long as it lasts; a name is text, whatever is in it.
func TestWatched(t *testing.T) {
	h, _, p := live(t)
	p.Until("nobody watches", `document.querySelector(".watchers").hidden`)
	h.last().send(&streamwire.People{Others: []streamwire.Person{{Name: "Oz"}, {Name: "<img src=x>"}, {}}})
	p.Until("told", `(() => { const w = document.querySelector(".watchers");
		return !w.hidden && w.getAttribute("role") === "status" && w.innerText.trim() === "Watched by Oz, <img src=x> and somebody" && w.offsetWidth > 0 })()`)
	p.Shot("watched")
	h.last().send(&streamwire.People{})
	p.Until("over", `document.querySelector(".watchers").hidden`)
	h.last().send(&streamwire.People{Others: []streamwire.Person{{Name: "Oz"}}})
	p.Until("told again", `!document.querySelector(".watchers").hidden`)
	h.last().send(&streamwire.Bye{Code: streamwire.CodeOperator, Text: "maintenance"})
	p.Until("nobody is watched after the end", `document.querySelector(".watchers").hidden`)
}

// A plugin that is being restarted is told while it lasts.
func TestHostRecovers(t *testing.T) {
	h, _, p := live(t)
	h.last().send(&streamwire.StateChange{State: streamwire.StateRecovering, Text: "the encoder is being restarted"})
	p.Until("told", `document.querySelector(".notice").innerText === "The encoder is being restarted."`)
	h.last().send(&streamwire.StateChange{State: streamwire.StateLive})
	p.Until("over", `document.querySelector(".notice").hidden`)
}

// Statistics show what is measured.
func TestStatistics(t *testing.T) {
	_, _, p := live(t)
	p.Do(chromedp.KeyEvent("a"))
	p.Until("measured", "wavry.snapshot().host && wavry.snapshot().inputToPresent && wavry.snapshot().presented > 60")
	js[bool](p, `document.querySelector("button[aria-label^=Statistics]").click(), true`)
	p.Until("shown", `["software (x264)", "direct", "fps", "Input to picture"].every((w) => document.querySelector(".stats").innerText.includes(w))`)
	p.Shot("stats")
}

// A browser without WebTransport is told what it lacks.
func TestLackingBrowser(t *testing.T) {
	gw := newGateway(t, newHost(t, 640, 360))
	p := newPage(t, 1280, 720)
	p.Open(gw.server.URL + "/logo.svg")
	p.onNewDocument("delete window.WebTransport")
	p.Open(gw.link())
	p.Until("told", `document.body.innerText.includes("WebTransport, which carries the picture")`)
	p.Shot("lacking")
}

// Events for another viewer of the session are not ours; a fresher token of the gateway is used for the next connection.
func TestEventsForOneViewer(t *testing.T) {
	_, gw, p := live(t)
	gw.event(signalapi.Event{Kind: signalapi.EventEnded, Session: "session-1", Viewer: "viewer-2", Message: "not for us"})
	gw.event(signalapi.Event{Kind: signalapi.EventRenewed, Session: "session-1", Viewer: "viewer-1", Renewed: &signalapi.Renewed{Token: "lease-direct-3", LeaseExpiry: time.Now().Add(time.Hour)}})
	p.Until("renewed", `wavry.log().some((l) => l.includes("lease renewed"))`)
	js[bool](p, "wavry.drop(), true")
	p.Until("back", `wavry.state === "live" && wavry.snapshot().url.endsWith("lease-direct-3")`)
}

// A page in the background asks for fewer pictures, and for all of them when it is seen again.
func TestBackground(t *testing.T) {
	h, _, p := live(t)
	hide := func(hidden string) {
		js[bool](p, `Object.defineProperty(document, "hidden", {value: `+hidden+`, configurable: true}), document.dispatchEvent(new Event("visibilitychange")), true`)
	}
	hide("true")
	p.UntilGo("fewer", func() bool { l := got[*streamwire.Limits](h); return len(l) == 1 && l[0].MaxFPS == 5 })
	hide("false")
	p.UntilGo("all", func() bool { l := got[*streamwire.Limits](h); return len(l) == 2 && l[1].MaxFPS == 0 })
}

// With the pointer captured, motion is told as the sum of all motion, so that a lost datagram loses none.
func TestPointerLock(t *testing.T) {
	h, _, p := live(t)
	p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 640, 300))
	p.Do(chromedp.Click("[data-tool=pointer]"))
	p.Until("captured", "document.pointerLockElement")
	for i := range 5 {
		p.Do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 640+float64(10*(i+1)), 300))
	}
	p.UntilGo("relative motion", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.turns) > 0 && h.turns[len(h.turns)-1].DX >= 40*256
	})
}

// A finger goes down and up where it touched, with a number of its own.
func TestTouch(t *testing.T) {
	h, _, p := live(t)
	p.Do(chromedp.TapXY(960, 180))
	p.UntilGo("down and up", func() bool { return len(got[*streamwire.Touch](h)) >= 2 })
	touches := got[*streamwire.Touch](h)
	first, last := touches[0], touches[len(touches)-1]
	if first.Phase != streamwire.TouchDown || last.Phase != streamwire.TouchUp || first.Finger != 0 || first.X < 48800 || first.X > 49500 || first.Y < 16100 || first.Y > 16700 {
		t.Errorf("%+v %+v", first, last)
	}
	if n := len(got[*streamwire.Button](h)); n != 0 {
		t.Errorf("a tap pressed %d buttons as well", n)
	}
}

// Text of an on-screen keyboard arrives as text, once.
func TestOnScreenKeyboard(t *testing.T) {
	h, _, p := live(t)
	js[bool](p, `((e) => { e.value = "A?"; e.dispatchEvent(new InputEvent("input")); return true })(document.querySelector(".typing"))`)
	p.UntilGo("the text", func() bool { return len(got[*streamwire.Text](h)) > 0 })
	if texts := got[*streamwire.Text](h); len(texts) != 1 || texts[0].Text != "A?" {
		t.Errorf("%+v", texts)
	}
	if n := len(got[*streamwire.Key](h)); n != 0 {
		t.Errorf("%d strokes as well", n)
	}
}

// In full screen the browser hands over the keys that it keeps otherwise, and takes them back after.
func TestKeyboardLock(t *testing.T) {
	_, _, p := live(t)
	js[bool](p, `navigator.keyboard.lock = () => { window.keys = "locked"; return Promise.resolve() }, navigator.keyboard.unlock = () => { window.keys = "free" }, true`)
	p.Do(chromedp.Click("[aria-label='Full screen']"))
	p.Until("locked", `document.fullscreenElement && window.keys === "locked"`)
	p.Until("told how to leave", `document.body.innerText.includes("Hold Esc")`)
	p.Do(chromedp.Click("[aria-label='Full screen']"))
	p.Until("free", `!document.fullscreenElement && window.keys === "free"`)
}
