//go:build integration

package viewertest

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/wavry/fleet/gateway/signalapi"
)

// accounts is a gateway with accounts and somebody signed in.
func accounts(t *testing.T, answers map[string]any) (*gateway, *page) {
	t.Helper()
	gw := newGateway(t, newHost(t, 640, 360))
	gw.accounts = true
	for call, v := range answers {
		gw.answers[call] = v
	}
	p := newPage(t, 1280, 800)
	p.Open(gw.link())
	p.Until("signed in", `document.querySelector("header.top")`)
	return gw, p
}

// called waits until the page has made a call.
func (p *page) called(gw *gateway, call string) {
	p.t.Helper()
	p.UntilGo(call, func() bool {
		gw.mu.Lock()
		defer gw.mu.Unlock()
		return slices.Contains(gw.calls, call)
	})
}

// press clicks the button with this text.
func (p *page) press(text string) {
	p.t.Helper()
	q, _ := json.Marshal(text)
	p.Until("a button "+text, `((b) => b && (b.click(), true))([...document.querySelectorAll("button")].filter((b) => b.innerText === `+string(q)+` && b.offsetParent).at(-1))`)
}

// fill types into the named field that is shown.
func (p *page) fill(name, value string) {
	p.t.Helper()
	p.Until("the field "+name, `document.querySelector("[name=`+name+`]")`)
	p.Do(chromedp.SendKeys("[name="+name+"]", value))
}

func (p *page) says(text string) {
	p.t.Helper()
	q, _ := json.Marshal(text)
	p.Until(text, `document.body.innerText.includes(`+string(q)+`)`)
}

// Name and password, then the code, lead to the desktops; wrong ones are told; sign-out leads back.
func TestSignInWithCode(t *testing.T) {
	gw := newGateway(t, newHost(t, 640, 360))
	gw.accounts = true
	p := newPage(t, 1280, 800)
	p.Open(gw.server.URL)
	p.says("Continue with Example")
	p.Shot("signin")
	p.fill("name", "anna")
	p.fill("password", "wrong")
	p.press("Sign in")
	p.says("Name or password is wrong.")
	p.Do(chromedp.SetValue("[name=password]", "correct horse"))
	p.press("Sign in")
	p.says("Code of your authenticator")
	p.Shot("code")
	p.fill("totp", "123456")
	p.press("Continue")
	p.says("Test desktop")
	js[bool](p, `document.querySelector("[aria-label='Sign out']").click(), true`)
	p.says("Continue with Example")
}

// A used link is told, and the address bar does not keep it.
func TestUsedLink(t *testing.T) {
	gw := newGateway(t, newHost(t, 640, 360))
	p := newPage(t, 1280, 800)
	p.Open(gw.server.URL + "/#link=old")
	p.says("This link has been used. Ask for a new one.")
	if hash := js[string](p, "location.hash"); hash != "" {
		t.Errorf("the address still holds %s", hash)
	}
	p.Open(gw.server.URL + "/#oidc_error=the+provider+said+no")
	js[bool](p, "location.reload(), true")
}

// A sign-in that the identity provider refused comes back with its reason.
func TestProviderRefuses(t *testing.T) {
	gw := newGateway(t, newHost(t, 640, 360))
	gw.accounts = true
	p := newPage(t, 1280, 800)
	p.Open(gw.server.URL + "/#oidc_error=the%20provider%20said%20no")
	p.says("The provider said no.")
}

// The desktops say which can be had, and why the others cannot; one click connects.
func TestDesktops(t *testing.T) {
	_, p := accounts(t, map[string]any{"GET " + signalapi.PathDesktops: []signalapi.Desktop{
		{Pool: "design", Title: "Design workstation", Compositor: "gnome", Encoder: "nvenc", Free: 3, Slots: 4},
		{Pool: "office", Title: "Office", Compositor: "kde", Encoder: "vaapi", Free: 12, Slots: 20},
		{Pool: "games", Title: "Games", Compositor: "sway", Encoder: "nvenc", Slots: 6, Reason: "all 6 are taken; try again in a few minutes"},
	}})
	p.says("All 6 are taken; try again in a few minutes.")
	p.Shot("desktops")
	p.Do(chromedp.Click("a.desktop"))
	p.Until("live", `wavry.state === "live"`)
	if title := js[string](p, "document.title"); !strings.HasPrefix(title, "Design workstation") {
		t.Errorf("title %q", title)
	}
	js[bool](p, `document.querySelector("[aria-label=Leave]").click(), true`)
	p.says("Desktops")
}

// The account page changes the password, sets up two-step sign-in with its QR code and shows recovery codes, and signs browsers out.
func TestAccount(t *testing.T) {
	png, _ := base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
	now := time.Now()
	gw, p := accounts(t, map[string]any{
		"POST " + signalapi.PathTOTPBegin:   signalapi.TOTPSetup{Secret: "JBSWY3DPEHPK3PXP", URI: "otpauth://totp/x", QR: png},
		"POST " + signalapi.PathTOTPConfirm: signalapi.RecoveryCodes{Codes: []string{"4fgh-2k8s", "9xma-77qd", "u2nc-41ke", "p0wd-33za"}},
		"GET " + signalapi.PathLogins: []signalapi.Login{
			{ID: "1", CreatedAt: now, SeenAt: now, ExpiresAt: now, Address: "192.0.2.4", Agent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/156", Method: "password", Current: true},
			{ID: "2", CreatedAt: now, SeenAt: now.Add(-26 * time.Hour), ExpiresAt: now, Address: "198.51.100.7", Agent: "Mozilla/5.0 (Macintosh; Intel Mac OS X) Chrome/150", Method: "link"},
		},
	})
	js[bool](p, `location.hash = "#/account", true`)
	p.says("Chrome on macOS")
	p.Shot("account")
	p.fill("old", "correct horse")
	p.fill("new", "battery staple now")
	p.press("Change password")
	p.says("Password changed. Other browsers are signed out.")
	p.Until("an empty form", `document.querySelector("[name=old]")?.value === ""`)
	p.press("Set up")
	p.says("Scan this with your authenticator")
	p.Shot("totp")
	p.fill("code", "123456")
	p.fill("password", "battery staple now")
	p.press("Turn on")
	p.says("9xma-77qd")
	p.Shot("recovery")
	p.press("Done")
	p.press("Sign out")
	p.called(gw, "DELETE "+signalapi.PathLogins+"/2")
}

// adminAnswers is a small fleet.
func adminAnswers() map[string]any {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	return map[string]any{
		"GET " + signalapi.PathAdminUsers: []signalapi.User{
			{ID: "u1", Name: "anna", Role: "admin", TOTP: true, Password: true, CreatedAt: ago(900 * time.Hour), LastSignIn: ago(time.Minute)},
			{ID: "u2", Name: "bert", Role: "viewer", CreatedAt: ago(time.Hour)},
			{ID: "u3", Name: "carla", Role: "operator", OIDC: true, Disabled: true, CreatedAt: ago(90 * time.Hour), LastSignIn: ago(50 * time.Hour)},
		},
		"POST " + signalapi.PathAdminUsers: signalapi.Invite{User: signalapi.User{Name: "dora"}, URL: "https://wavry.example/#link=abc", ExpiresAt: now.Add(48 * time.Hour)},
		"GET " + signalapi.PathAdminSessions: []signalapi.Session{
			{ID: "ses-01j9x8k2m4", User: "bert", Pool: "office", Host: "node-4", Relay: "relay-fra-1", State: "live", Viewers: 2, StartedAt: ago(40 * time.Minute), ExpiresAt: now.Add(4 * time.Minute)},
			{ID: "ses-01j9x9a77p", User: "anna", Pool: "design", Host: "node-1", State: "live", Viewers: 1, StartedAt: ago(3 * time.Minute), ExpiresAt: now.Add(2 * time.Minute)},
		},
		"GET " + signalapi.PathAdminHosts: []signalapi.HostInfo{
			{ID: "node-1", Pool: "design", Region: "eu", State: "active", Health: "passing", Compositor: "gnome", Capture: "wayland", Encoder: "nvenc", Slots: 4, Used: 1, Since: ago(300 * time.Hour)},
			{ID: "node-4", Pool: "office", Region: "eu", State: "draining", Health: "stale_passing", Compositor: "kde", Capture: "wayland", Encoder: "vaapi", Slots: 8, Used: 5, Since: ago(time.Hour), Reason: "kernel update"},
		},
		"GET " + signalapi.PathAdminRelays: []signalapi.RelayInfo{
			{ID: "relay-fra-1", Region: "eu", Address: "203.0.113.9:7000", State: "active", Health: "passing", Capacity: 2000, Circuits: 412, Score: 0.97, Since: ago(70 * time.Hour)},
			{ID: "relay-fra-2", Region: "eu", Address: "203.0.113.10:7000", State: "probation", Health: "passing", Capacity: 2000, Circuits: 12, Score: 0.61, Since: ago(5 * time.Minute)},
			{ID: "relay-nyc-1", Region: "us", Address: "198.51.100.20:7000", State: "quarantined", Health: "critical", Reason: "loss above 3 %", Actor: "master", Capacity: 1000, Score: 0.12, Since: ago(20 * time.Minute)},
		},
		"GET " + signalapi.PathAdminKeys: []signalapi.KeyInfo{
			{ID: "k-2026-11-a", State: "verifying", CreatedAt: ago(200 * time.Hour), SignsFrom: ago(180 * time.Hour), EndsAt: now.Add(5 * time.Minute), Leases: 3},
			{ID: "k-2026-11-b", State: "signing", CreatedAt: ago(40 * time.Hour), SignsFrom: ago(30 * time.Hour), Leases: 219},
			{ID: "k-2026-11-c", State: "next", CreatedAt: ago(time.Hour), SignsFrom: now.Add(20 * time.Hour)},
		},
		"GET " + signalapi.PathAdminInvites: []signalapi.PendingInvite{{ID: "i1", Kind: "invite", User: "bert", CreatedBy: "anna", CreatedAt: ago(time.Hour), ExpiresAt: now.Add(47 * time.Hour)}},
		"GET " + signalapi.PathAdminRules:   []signalapi.Rule{{ID: "r1", Pool: "*", Role: "admin", Effect: "allow"}, {ID: "r2", Pool: "games*", User: "bert", Effect: "deny"}},
		"GET " + signalapi.PathAdminPools:   []signalapi.Pool{{Pool: "design", Title: "Design workstation"}},
		"GET " + signalapi.PathAdminBans:    []signalapi.Ban{{ID: "b1", Address: "203.0.113.0/24", Reason: "scanning", Actor: "anna", CreatedAt: ago(time.Hour)}},
		"GET " + signalapi.PathAdminAudit: []signalapi.AuditEntry{
			{ID: 2, At: ago(time.Minute), Actor: "anna", Address: "192.0.2.4", Act: "relay.quarantine", Subject: "relay-nyc-1", Detail: "loss above 3 %"},
			{ID: 1, At: ago(time.Hour), Actor: "anna", Address: "192.0.2.4", Act: "user.invite", Subject: "bert"},
		},
	}
}

// Each admin list shows what it is given, and each act asks why and reaches its endpoint.
func TestAdmin(t *testing.T) {
	gw, p := accounts(t, adminAnswers())
	tab := func(name, says string) {
		js[bool](p, `location.hash = "#/admin/`+name+`", true`)
		p.says(says)
		p.Shot(name)
	}
	tab("sessions", "relay relay-fra-1")
	p.press("End")
	p.fill("reason", "maintenance")
	p.Shot("end-dialog")
	p.press("End session")
	p.called(gw, "POST "+signalapi.PathAdminSessions+"/ses-01j9x9a77p/end")
	tab("users", "carla")
	p.press("Invite")
	p.fill("name", "dora")
	js[bool](p, `[...document.querySelectorAll("dialog button")].at(-1).click(), true`)
	p.says("https://wavry.example/#link=abc")
	p.Shot("invite-dialog")
	p.press("Done")
	tab("hosts", "kernel update")
	tab("relays", "loss above 3 %")
	p.press("Ban")
	p.fill("reason", "it loses packets")
	p.press("Ban")
	p.called(gw, "POST "+signalapi.PathAdminRelays+"/relay-nyc-1/state")
	tab("keys", "k-2026-11")
	p.press("Rotate")
	p.fill("reason", "schedule")
	p.press("Rotate")
	p.called(gw, "POST "+signalapi.PathAdminKeys+"/rotate")
	tab("invites", "bert")
	tab("access", "Who may use what")
	tab("bans", "scanning")
	p.press("Lift")
	p.called(gw, "DELETE "+signalapi.PathAdminBans+"/b1")
	tab("audit", "relay quarantine")
}

// On a phone the lists become cards and nothing is cut off.
func TestNarrow(t *testing.T) {
	_, p := accounts(t, adminAnswers())
	p.Do(chromedp.EmulateViewport(390, 800))
	js[bool](p, `location.hash = "#/admin/relays", true`)
	p.says("relay-nyc-1")
	p.Shot("relays")
	if js[bool](p, "document.documentElement.scrollWidth > 390") {
		t.Error("the page is wider than the phone")
	}
}

// A login that ended elsewhere leads back to the sign-in page, with a word why.
func TestSignedOutElsewhere(t *testing.T) {
	_, p := accounts(t, nil)
	js[bool](p, `fetch("/v1/signout", {method: "POST"}), true`)
	js[bool](p, `location.hash = "#/account", true`)
	p.says("You were signed out. Sign in again.")
}

// The first admin's link leads to the page where they choose a password.
func TestFirstAdminChoosesPassword(t *testing.T) {
	gw := newGateway(t, newHost(t, 640, 360))
	gw.accounts, gw.noPassword = true, true
	p := newPage(t, 1280, 800)
	p.Open(gw.link())
	p.says("You have none yet.")
	p.fill("new", "battery staple now")
	p.press("Set password")
	p.called(gw, "POST "+signalapi.PathPassword)
}
