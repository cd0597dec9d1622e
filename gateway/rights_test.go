package gateway

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

// A part keeps its right for as long as everything holds that it was given for, and loses it with any of them.
func TestLost(t *testing.T) {
	own := store.Part{Session: store.Session{UserID: "u", Pool: "gnome", Role: "control"}, User: store.User{ID: "u", Role: store.RoleViewer}, Owner: "u", SignedIn: true}
	operator := own
	operator.Owner, operator.Role, operator.User.Role, operator.Pool = "another", "watch", store.RoleOperator, "secret"
	with := func(p store.Part, change func(*store.Part)) store.Part { change(&p); return p }
	deny := []store.Rule{{Pool: "gnome", UserID: "u", Effect: store.Deny}}
	for _, c := range []struct {
		name  string
		part  store.Part
		rules []store.Rule
		lost  bool
	}{
		{"own", own, nil, false},
		{"own, watched", with(own, func(p *store.Part) { p.Role = "watch" }), nil, false},
		{"an operator's look into any pool", operator, nil, false},
		{"an admin's look", with(operator, func(p *store.Part) { p.User.Role = store.RoleAdmin }), nil, false},
		{"another's rule", own, []store.Rule{{Pool: "gnome", UserID: "v", Effect: store.Deny}}, false},
		{"signed out", with(own, func(p *store.Part) { p.SignedIn = false }), nil, true},
		{"disabled", with(own, func(p *store.Part) { p.User.Disabled = true }), nil, true},
		{"banned", with(own, func(p *store.Part) { p.Banned = "noise" }), nil, true},
		{"no operator any more", with(operator, func(p *store.Part) { p.User.Role = store.RoleViewer }), nil, true},
		{"a session that nobody is known to own", with(own, func(p *store.Part) { p.Owner = "" }), nil, true},
		{"another pool", with(own, func(p *store.Part) { p.Pool = "secret" }), nil, true},
		{"rule", own, deny, true},
	} {
		why := lost([]string{"gnome"}, c.rules, c.part)
		if (why != nil) != c.lost || (why != nil && (why.message == "" || why.reason == 0)) {
			t.Errorf("%s: %+v, want lost %v", c.name, why, c.lost)
		}
	}
}

// It looks when the log has grown and for a while after, when somebody doubts, and now and then; not at every tick.
func TestRightsWatch(t *testing.T) {
	now := time.Unix(1000, 0)
	w := rightsWatch{act: 7, at: now}
	step := func(what string, act int64, doubt, want bool) {
		t.Helper()
		if got := w.due(act, doubt, now); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	step("nothing new", 7, false, false)
	for range rightsAgain {
		step("a new act and what may be committed late", 8, false, true)
	}
	step("long after", 8, false, false)
	step("doubt", 8, true, true)
	step("no doubt", 8, false, false)
	w.retry()
	step("the last look failed", 8, false, true)
	now = now.Add(recheckEvery)
	step("after a while", 8, false, true)
	now = now.Add(-time.Hour)
	step("a clock that was set back", 8, false, true)
}

// viewersOf are the viewers of a session that the fleet has not been told to remove.
func (s *site) viewersOf(id string) (viewers []string) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if x := s.fleet.sessions[id]; x.GetState() != masterapi.SessionState_SESSION_STATE_ENDED {
		for _, l := range x.GetLeases() {
			viewers = append(viewers, l.GetViewerId())
		}
	}
	slices.Sort(viewers)
	return viewers
}

// Disabling a watcher takes the watcher's part and not the owner's session; disabling the owner takes the session. It is the same when
// another process does it, with nothing but the store in common.
func TestDisabledWatcher(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, owner := s.person(admin, "ada", store.RoleViewer)
	oz, _ := s.person(admin, "oz", store.RoleOperator)
	cli, err := OpenTools(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	grant := ada.signal().connect(request1)
	a := oz.signal().ask(signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Join: grant.Session})
	if a.Type != signalapi.TypeReply {
		t.Fatalf("watch: %s", a.Data)
	}
	if err := cli.SetDisabled(t.Context(), "oz", true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "only the owner is left", func() bool {
		v := s.viewersOf(grant.Session)
		return len(v) == 1 && v[0] == grant.Viewer
	})
	yes := true
	ok[signalapi.User](admin, "POST", signalapi.PathAdminUser+owner.ID, signalapi.UserChange{Disabled: &yes})
	eventually(t, "the session has ended", func() bool { return len(s.viewersOf(grant.Session)) == 0 })
}

// A right that is taken while the master still looks for a host is asked for again when there is a session to end: whoever took it found none.
func TestRightLostWhileAdmitted(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	s.fleet.admits = func() {
		s.fleet.admits = nil
		ok[signalapi.Rule](admin, "POST", signalapi.PathAdminRules, signalapi.Rule{Pool: "gnome", User: "ada", Effect: "deny"})
		// Nothing tells that the gateway has looked and found nothing, so this is a wait by the clock.
		looked, cancel := context.WithTimeout(context.Background(), (rightsAgain+2)*rightsEvery)
		defer cancel()
		<-looked.Done()
	}
	a := ada.signal().ask(signalapi.TypeConnect, request1, signalapi.Connect{Key: pageKey, Pool: "gnome"})
	if a.Type == signalapi.TypeReply {
		t.Fatalf("a desktop of a pool that was forbidden meanwhile: %s", a.Data)
	}
	eventually(t, "the session has ended", func() bool { return len(s.viewersOf("s-1")) == 0 })
}

// A session hangs on the login that opened it, or that took it over; signing out another browser leaves it alone.
func TestSessionEndsWithLogin(t *testing.T) {
	s := startSite(t)
	ada, _ := s.person(s.admin(), "ada", store.RoleViewer)
	second := s.browser()
	ok[signalapi.Me](second, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	mine, other := ada.signal().connect(request1), second.signal().connect(request2)
	taken := second.signal().ask(signalapi.TypeMove, "request-0000000000000009", signalapi.SessionRef{Session: mine.Session, Viewer: mine.Viewer})
	if taken.Type != signalapi.TypeReply {
		t.Fatalf("take over: %s", taken.Data)
	}
	third := ada.signal().connect("request-0000000000000003")
	ok[none](ada, "POST", signalapi.PathSignOut, nil)
	eventually(t, "what the signed-out browser had has ended", func() bool { return len(s.viewersOf(third.Session)) == 0 })
	for _, g := range []signalapi.Grant{mine, other} {
		if len(s.viewersOf(g.Session)) == 0 {
			t.Error("a session of the other browser has ended")
		}
	}
	ok[none](second, "POST", signalapi.PathSignOut, nil)
	eventually(t, "all has ended", func() bool { return len(s.viewersOf(mine.Session))+len(s.viewersOf(other.Session)) == 0 })
}

// A new password by link ends every older login, and a link does not stand for the second factor.
func TestLinkAndSecondFactor(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	admin := s.admin()
	ada, user := s.person(admin, "ada", store.RoleViewer)
	setup := ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	code := func() string {
		c.add(time.Minute) // each code once
		text, err := totp.GenerateCode(setup.Secret, c.now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	recovery := ok[signalapi.RecoveryCodes](ada, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword}).Codes
	link := func() string {
		return token(ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUser+user.ID+"/invite", nil).URL)
	}
	const newPassword = "another good password"
	first, b := link(), s.browser()
	b.refused(http.StatusUnauthorized, signalapi.ReasonTOTPRequired, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: first, Password: newPassword})
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: first, Password: newPassword, TOTP: "000000"})
	ok[signalapi.Me](ada, "GET", signalapi.PathMe, nil) // nothing has happened
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: first, Password: newPassword, TOTP: code()})
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	ok[signalapi.Me](b, "GET", signalapi.PathMe, nil)
	// Without a new password, or with one that is none, nothing is spent: neither the code nor the link.
	second, other := link(), s.browser()
	other.refused(http.StatusUnauthorized, signalapi.ReasonPasswordNeeded, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: second, TOTP: recovery[0]})
	other.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: second, TOTP: recovery[0], Password: "short"})
	ok[signalapi.Me](b, "GET", signalapi.PathMe, nil)
	ok[signalapi.Me](other, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: second, TOTP: recovery[0], Password: goodPassword})
	// Whoever has lost the second factor needs an admin, whose act is in the log.
	ok[none](admin, "DELETE", signalapi.PathAdminUser+user.ID+"/totp", nil)
	ok[signalapi.Me](s.browser(), "POST", signalapi.PathSignIn, signalapi.SignIn{Link: link(), Password: goodPassword})
	// The process's own links are no way around it either.
	third, err := s.SignInLink(t.Context(), "root", store.RoleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	setup = ok[signalapi.TOTPSetup](admin, "POST", signalapi.PathTOTPBegin, nil)
	ok[signalapi.RecoveryCodes](admin, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword})
	s.browser().refused(http.StatusUnauthorized, signalapi.ReasonTOTPRequired, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(third)})
}

// What signs a person in changes only when the person is there: by the present password, or by a sign-in that has just been where there is none.
func TestStolenCookieChangesNothing(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c))
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	setup := ok[signalapi.TOTPSetup](ada, "POST", signalapi.PathTOTPBegin, nil)
	code := func() string {
		c.add(time.Minute)
		text, err := totp.GenerateCode(setup.Secret, c.now())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, password := range []string{"", "a guess at it"} {
		ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: password})
	}
	ok[signalapi.RecoveryCodes](ada, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code(), Password: goodPassword})
	for _, path := range []string{signalapi.PathTOTPDisable, signalapi.PathRecoveryCodes} {
		ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", path, signalapi.TOTPCode{Code: code()})
	}
	c.add(time.Minute)
	ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathPassword, signalapi.PasswordChange{New: goodPassword + "2"})
	ok[none](ada, "POST", signalapi.PathTOTPDisable, signalapi.TOTPCode{Code: code(), Password: goodPassword})

	first, err := s.SignInLink(t.Context(), "bob", store.RoleViewer) // the only link that leaves an account without a password
	if err != nil {
		t.Fatal(err)
	}
	bob := s.browser()
	ok[signalapi.Me](bob, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(first)})
	setup = ok[signalapi.TOTPSetup](bob, "POST", signalapi.PathTOTPBegin, nil)
	c.add(freshSignIn)
	bob.refused(http.StatusForbidden, signalapi.ReasonForbidden, "POST", signalapi.PathPassword, signalapi.PasswordChange{New: goodPassword})
	bob.refused(http.StatusForbidden, signalapi.ReasonForbidden, "POST", signalapi.PathTOTPConfirm, signalapi.TOTPCode{Code: code()})
	again, err := s.SignInLink(t.Context(), "bob", store.RoleViewer)
	if err != nil {
		t.Fatal(err)
	}
	ok[signalapi.Me](bob, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(again)})
	ok[none](bob, "POST", signalapi.PathPassword, signalapi.PasswordChange{New: goodPassword})
}
