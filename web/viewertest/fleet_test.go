//go:build integration

package viewertest

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"

	"github.com/wavry/fleet/test/rig"
)

// refused fails the test when the page told of a refusal.
func (p *page) refused() {
	p.t.Helper()
	if text := js[string](p, `document.querySelector(".toast.bad")?.innerText ?? ""`); text != "" {
		p.Shot("refused")
		p.t.Errorf("the page was refused: %s", text)
	}
}

// The account and admin pages work against the real gateway and master: the first admin gets a desktop by link, sets a password
// and a second factor, signs in with both, invites somebody who comes in, and sees every list of the fleet.
func TestFleet(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "test", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	p := newPage(t, 1280, 800)
	p.Open(dev.SignIn())
	p.Until("in", `document.querySelector("header.top") || window.wavry?.state === "live"`)
	origin := js[string](p, "location.origin")
	js[bool](p, `fetch("/v1/me").then((r) => r.json()).then((m) => { window.myName = m.name }), true`)
	p.Until("a name", "window.myName")
	name := js[string](p, "myName")

	js[bool](p, `location.hash = "#/account", true`)
	p.fill("new", "correct horse battery")
	p.press("Set password")
	p.Until("set", `document.querySelector("[name=old]")`)
	p.press("Set up")
	p.Until("the QR code", `document.querySelector(".qr")?.naturalWidth > 50`)
	js[bool](p, `document.querySelector("dialog details").open = true`)
	p.Shot("totp")
	secret := strings.ReplaceAll(js[string](p, `document.querySelector("dialog details .mono").innerText`), " ", "")
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.fill("code", code)
	p.fill("password", "correct horse battery")
	p.press("Turn on")
	p.Until("recovery codes", `document.querySelectorAll(".codes li").length > 4`)
	recovery := js[string](p, `document.querySelector(".codes li").innerText`)
	p.press("Done")
	p.says("New recovery codes")
	p.Shot("account")

	js[bool](p, `document.querySelector("[aria-label='Sign out']").click(), true`)
	p.fill("name", name)
	p.fill("password", "correct horse battery")
	p.press("Sign in")
	p.fill("totp", recovery)
	p.press("Continue")
	p.says("Desktops")
	p.Shot("desktops")

	for _, tab := range []struct{ name, shows string }{
		{"users", name}, {"hosts", "passing"}, {"relays", "passing"}, {"keys", "signing"}, {"bans", "Nobody is banned"}, {"access", "Who may use what"},
		{"invites", "Invites"}, {"audit", "signin"}, {"sessions", "Sessions"},
	} {
		js[bool](p, `location.hash = "#/admin/`+tab.name+`", true`)
		p.says(tab.shows)
		p.refused()
		p.Shot(tab.name)
	}
	js[bool](p, `location.hash = "#/admin/users", true`)
	p.press("Invite")
	p.fill("name", "bert")
	js[bool](p, `[...document.querySelectorAll("dialog button")].at(-1).click(), true`)
	p.Until("the link", `document.querySelector("dialog .mono")?.innerText.includes("#link=")`)
	link := js[string](p, `document.querySelector("dialog .mono").innerText`)
	if !strings.HasPrefix(link, origin) {
		t.Errorf("the link %s does not begin with %s", link, origin)
	}

	p.press("Done")

	guest := newPage(t, 1280, 800)
	guest.OpenInvite(link)
	guest.says("Desktops")
	if js[bool](guest, `document.body.innerText.includes("Admin")`) {
		t.Error("a viewer is offered the admin page")
	}
	guest.Do(chromedp.Navigate("about:blank"))

	js[bool](p, `location.hash = "#/", true`)
	p.Until("a desktop", `document.querySelector("a.desktop")`)
	p.Do(chromedp.Click("a.desktop"))
	p.Until("live", `wavry.state === "live" && wavry.snapshot().presented > 10`)
	p.Shot("live")
	js[bool](p, `document.querySelector("[aria-label=Leave]").click(), true`)
	p.says("Desktops")
}

// invite makes an account, or another link of it, as the admin in whose page this is, and returns the link.
func (p *page) invite(path, body string) string {
	p.t.Helper()
	js[bool](p, `delete window.invite, fetch("/v1/admin/users`+path+`", {method: "POST", headers: {"X-Wavry-Csrf": "1", "Content-Type": "application/json"}, body: `+
		strconv.Quote(body)+`}).then((r) => r.json()).then((i) => { window.invite = i }), true`)
	p.Until("an invite", `window.invite?.url`)
	return js[string](p, `invite.url`)
}

// Somebody whose password is lost gets a link, chooses a new one on its page, is asked there for the second factor, is in, and signs in with the new
// password from then on; the lost one opens nothing.
func TestLostPassword(t *testing.T) {
	dev := rig.Start(t, nil, "dev", "-desktop", "test", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir())
	admin := newPage(t, 1280, 800)
	admin.Open(dev.SignIn())
	admin.Until("in", `document.querySelector("header.top") || window.wavry?.state === "live"`)
	first := admin.invite("", `{"name": "ada", "role": "viewer"}`)
	id := js[string](admin, `invite.user.id`)

	const lost, chosen = "the password that is lost", "the password that is chosen"
	p := newPage(t, 1280, 800)
	p.Open(first)
	p.says("Choose the password")
	p.Shot("choose")
	p.fill("password", "short")
	p.press("Set password and sign in")
	p.says("use at least 10 characters")
	p.Do(chromedp.SetValue("[name=password]", lost))
	p.press("Set password and sign in")
	p.says("Desktops")
	js[bool](p, `location.hash = "#/account", true`)
	p.press("Set up")
	p.Until("the QR code", `document.querySelector(".qr")?.naturalWidth > 50`)
	js[bool](p, `document.querySelector("dialog details").open = true`)
	secret := strings.ReplaceAll(js[string](p, `document.querySelector("dialog details .mono").innerText`), " ", "")
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.fill("code", code)
	p.Do(chromedp.SetValue("dialog [name=password]", lost))
	p.press("Turn on")
	p.Until("recovery codes", `document.querySelectorAll(".codes li").length > 4`)
	recovery := js[[]string](p, `[...document.querySelectorAll(".codes li")].map((l) => l.innerText)`)

	again := newPage(t, 1280, 800) // another browser, with nothing but the link
	again.Open(admin.invite("/"+id+"/invite", ""))
	again.fill("password", chosen)
	again.press("Set password and sign in")
	again.says("Code of your authenticator")
	again.fill("totp", "no such code")
	again.press("Continue")
	again.says("Name, password or code is wrong.")
	again.Do(chromedp.SetValue("[name=totp]", recovery[0]))
	again.press("Continue")
	again.says("Desktops")
	js[bool](again, `location.hash = "#/account", true`)
	again.says("Change password")
	js[bool](again, `document.querySelector("[aria-label='Sign out']").click(), true`)
	again.fill("name", "ada")
	again.fill("password", lost)
	again.press("Sign in")
	again.says("Name, password or code is wrong.")
	again.Do(chromedp.SetValue("[name=password]", chosen))
	again.press("Sign in")
	again.fill("totp", recovery[1])
	again.press("Continue")
	again.says("Desktops")
}
