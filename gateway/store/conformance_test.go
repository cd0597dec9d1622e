package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is the present of all tests here.
var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

var events int
var eventsMu sync.Mutex

func act(what string) Act {
	eventsMu.Lock()
	defer eventsMu.Unlock()
	events++
	return Act{Event: fmt.Sprint("event-", events), At: start, Actor: "test", Act: what, Subject: "x"}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
}

func addUser(t *testing.T, s *Store, name string, role Role) User {
	t.Helper()
	u := User{ID: "u-" + name, Name: name, Role: role, Password: "hash-" + name, CreatedAt: start}
	must(t, s.CreateUser(t.Context(), u, act("user.create")))
	return u
}

func addLogin(t *testing.T, s *Store, u User, hash string) Login {
	t.Helper()
	l := Login{Hash: hash, ID: "id-" + hash, UserID: u.ID, Method: MethodPassword, Address: "192.0.2.1", Agent: "a",
		CreatedAt: start, SeenAt: start, ExpiresAt: start.Add(time.Hour)}
	must(t, s.CreateLogin(t.Context(), l, act("signin")))
	return l
}

// conform is what every database must do; open returns a new, migrated and empty store.
func conform(t *testing.T, open func(t *testing.T) *Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *Store)
	}{
		{"users", testUsers}, {"last admin", testLastAdmin}, {"logins", testLogins}, {"login ends", testLoginEnds},
		{"links", testLinks}, {"first admin", testFirstAdmin}, {"first admin race", testFirstAdminRace},
		{"totp", testTOTP}, {"recovery codes", testRecovery}, {"bans", testBans}, {"rules and titles", testRules},
		{"audit", testAudit}, {"sessions", testSessions}, {"rights", testRights}, {"sweep", testSweep}, {"oidc", testOIDC}, {"migrate again", testMigrateAgain},
		{"tries", testTries},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Accounts are found by id and by name in any case, and a name exists once.
func testUsers(t *testing.T, s *Store) {
	ada := addUser(t, s, "Ada", RoleViewer)
	got, err := s.UserByName(t.Context(), " aDa ")
	must(t, err)
	if got != ada {
		t.Fatalf("got %+v, want %+v", got, ada)
	}
	must(t, s.CreateUser(t.Context(), ada, act("again"))) // the same row: a repeated commit
	other := ada
	other.ID, other.Name = "u-2", "ADA"
	want(t, s.CreateUser(t.Context(), other, act("user.create")), ErrNameTaken)
	_, err = s.UserByID(t.Context(), "nobody")
	want(t, err, ErrNotFound)
	must(t, s.SetRole(t.Context(), ada.ID, RoleOperator, act("user.role")))
	must(t, s.SetPassword(t.Context(), ada.ID, "new", "", act("user.password")))
	must(t, s.UpgradePassword(t.Context(), ada.ID, "not this", "wrong"))
	must(t, s.UpgradePassword(t.Context(), ada.ID, "new", "newer"))
	list, err := s.Users(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].Role != RoleOperator || list[0].Password != "newer" {
		t.Fatalf("list %+v", list)
	}
	want(t, s.SetRole(t.Context(), "nobody", RoleAdmin, act("x")), ErrNotFound)
}

// The last enabled admin can be neither disabled nor demoted.
func testLastAdmin(t *testing.T, s *Store) {
	a, b := addUser(t, s, "a", RoleAdmin), addUser(t, s, "b", RoleAdmin)
	must(t, s.SetDisabled(t.Context(), b.ID, true, act("user.disable")))
	want(t, s.SetRole(t.Context(), a.ID, RoleViewer, act("user.role")), ErrLastAdmin)
	want(t, s.SetDisabled(t.Context(), a.ID, true, act("user.disable")), ErrLastAdmin)
	must(t, s.SetDisabled(t.Context(), b.ID, false, act("user.enable")))
	must(t, s.SetRole(t.Context(), a.ID, RoleViewer, act("user.role")))
	if n, err := s.Admins(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d admins, %v", n, err)
	}
}

// A login is good until it expires or idles, and only while its account is enabled.
func testLogins(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	l := addLogin(t, s, u, "h1")
	in, err := s.FindLogin(t.Context(), "h1", start, start.Add(-time.Hour))
	must(t, err)
	if in.Login != l || in.User.Name != "u" || in.Banned != "" || !in.User.LastSignIn.Equal(start) {
		t.Fatalf("found %+v", in)
	}
	_, err = s.FindLogin(t.Context(), "h1", start.Add(time.Hour), start.Add(-time.Hour))
	want(t, err, ErrNotFound) // expired
	_, err = s.FindLogin(t.Context(), "h1", start, start)
	want(t, err, ErrNotFound) // idle
	must(t, s.TouchLogin(t.Context(), "h1", start.Add(time.Minute)))
	_, err = s.FindLogin(t.Context(), "h1", start, start)
	must(t, err)
	_, err = s.FindLogin(t.Context(), "h2", start, start.Add(-time.Hour))
	want(t, err, ErrNotFound)
	must(t, s.SetDisabled(t.Context(), u.ID, true, act("user.disable")))
	_, err = s.FindLogin(t.Context(), "h1", start, start.Add(-time.Hour))
	want(t, err, ErrNotFound)
}

// Signing out, signing out everywhere and a new password end the right logins.
func testLoginEnds(t *testing.T, s *Store) {
	u, v := addUser(t, s, "u", RoleViewer), addUser(t, s, "v", RoleViewer)
	for _, h := range []string{"a", "b", "c"} {
		addLogin(t, s, u, h)
	}
	addLogin(t, s, v, "other")
	must(t, s.EndLogin(t.Context(), "a"))
	must(t, s.EndLogin(t.Context(), "a"))
	want(t, s.EndLoginByID(t.Context(), v.ID, "id-b", act("x")), ErrNotFound) // not v's
	must(t, s.SetPassword(t.Context(), u.ID, "p", "b", act("user.password")))
	left, err := s.Logins(t.Context(), u.ID, start)
	must(t, err)
	if len(left) != 1 || left[0].Hash != "b" {
		t.Fatalf("left %+v", left)
	}
	must(t, s.EndLoginByID(t.Context(), u.ID, "id-b", act("login.end")))
	must(t, s.EndLogins(t.Context(), v.ID, act("login.end")))
	if left, err := s.Logins(t.Context(), v.ID, start); err != nil || len(left) != 0 {
		t.Fatalf("left %+v, %v", left, err)
	}
}

func use(hash, try, login string) LinkUse {
	return LinkUse{Hash: hash, Try: try, Act: act("signin.link"), Admin: User{ID: "u-" + try, Name: "root-" + try, CreatedAt: start},
		Login: Login{Hash: login, ID: "id-" + login, Method: MethodLink, CreatedAt: start, SeenAt: start, ExpiresAt: start.Add(time.Hour)}}
}

// A link works once; the same attempt may be repeated, another one is refused; a newer invite ends the older.
func testLinks(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	link := func(hash, kind string) {
		must(t, s.CreateLink(t.Context(), Link{Hash: hash, ID: "id-" + hash, Kind: kind, UserID: u.ID, CreatedBy: "test",
			CreatedAt: start, ExpiresAt: start.Add(time.Hour)}, act("invite")))
	}
	link("k1", LinkInvite)
	link("k2", LinkInvite)
	_, err := s.UseLink(t.Context(), use("k1", "t1", "l1"), start)
	want(t, err, ErrLinkUsed)
	late := use("k2", "t1", "l1")
	_, err = s.UseLink(t.Context(), late, start.Add(time.Hour))
	want(t, err, ErrLinkUsed) // expired
	addLogin(t, s, u, "older")
	if kind, got, err := s.LinkAccount(t.Context(), "k2", start); err != nil || got.ID != u.ID || kind != LinkInvite {
		t.Fatalf("link of %+v, %v", got, err)
	}
	good := use("k2", "t2", "l2")
	good.Password = "chosen"
	for range 2 {
		got, err := s.UseLink(t.Context(), good, start)
		must(t, err)
		if got.ID != u.ID || got.Password != "chosen" {
			t.Fatalf("link signed in %+v", got)
		}
	}
	_, err = s.UseLink(t.Context(), use("k2", "t3", "l3"), start)
	want(t, err, ErrLinkUsed)
	_, err = s.FindLogin(t.Context(), "l2", start, start.Add(-time.Hour))
	must(t, err)
	_, err = s.FindLogin(t.Context(), "older", start, start.Add(-time.Hour))
	want(t, err, ErrNotFound)
	for _, hash := range []string{"k1", "k2", "k9"} {
		_, _, err = s.LinkAccount(t.Context(), hash, start)
		want(t, err, ErrLinkUsed)
	}

	link("k4", LinkSignIn)
	signIn := use("k4", "t4", "l4")
	signIn.Password = "must not be set"
	if got, err := s.UseLink(t.Context(), signIn, start); err != nil || got.Password != "chosen" {
		t.Fatalf("sign-in link: %+v, %v", got, err)
	}
	link("k5", LinkInvite)
	pending, err := s.PendingLinks(t.Context(), start)
	must(t, err)
	if len(pending) != 1 || pending[0].ID != "id-k5" || pending[0].User != "u" {
		t.Fatalf("pending %+v", pending)
	}
	must(t, s.RevokeLink(t.Context(), "id-k5", act("invite.revoke")))
	want(t, s.RevokeLink(t.Context(), "id-k5", act("invite.revoke")), ErrNotFound)
	link("k6", LinkInvite)
	must(t, s.SetDisabled(t.Context(), u.ID, true, act("user.disable")))
	_, err = s.UseLink(t.Context(), use("k6", "t6", "l6"), start)
	want(t, err, ErrLinkUsed)
}

func firstAdminLink(t *testing.T, s *Store, hash string) {
	t.Helper()
	must(t, s.CreateLink(t.Context(), Link{Hash: hash, ID: "id-" + hash, Kind: LinkFirstAdmin, CreatedBy: "start",
		CreatedAt: start, ExpiresAt: start.Add(time.Hour)}, act("first_admin.link")))
}

// The first link used makes the first admin; every other first-admin link is worthless from then on.
func testFirstAdmin(t *testing.T, s *Store) {
	firstAdminLink(t, s, "k1")
	firstAdminLink(t, s, "k2")
	got, err := s.UseLink(t.Context(), use("k2", "t", "l"), start)
	must(t, err)
	if got.Role != RoleAdmin || got.Name != "root-t" {
		t.Fatalf("first admin %+v", got)
	}
	_, err = s.UseLink(t.Context(), use("k1", "t2", "l2"), start)
	want(t, err, ErrLinkUsed)
	if n, err := s.Admins(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d admins, %v", n, err)
	}
}

// Two gateways with a link each, used at the same moment: one admin.
func testFirstAdminRace(t *testing.T, s *Store) {
	const racers = 4
	var wg sync.WaitGroup
	errs := make([]error, racers)
	for i := range racers {
		firstAdminLink(t, s, fmt.Sprint("k", i))
	}
	for i := range racers {
		u := use(fmt.Sprint("k", i), fmt.Sprint("t", i), fmt.Sprint("l", i))
		wg.Go(func() { _, errs[i] = s.UseLink(t.Context(), u, start) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			want(t, err, ErrLinkUsed)
		}
	}
	if n, err := s.Admins(t.Context()); err != nil || n != 1 || won != 1 {
		t.Fatalf("%d winners, %d admins, %v", won, n, err)
	}
}

// A time step is accepted once and never again, nor an earlier one.
func testTOTP(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	must(t, s.BeginTOTP(t.Context(), u.ID, "secret"))
	want(t, s.ConfirmTOTP(t.Context(), u.ID, "other", 100, nil, act("totp.on")), ErrNotFound)
	must(t, s.ConfirmTOTP(t.Context(), u.ID, "secret", 100, []string{"c1", "c2"}, act("totp.on")))
	got, err := s.UserByID(t.Context(), u.ID)
	must(t, err)
	if got.TOTPSecret != "secret" || got.TOTPPending != "" {
		t.Fatalf("after confirmation %+v", got)
	}
	want(t, s.UseTOTPStep(t.Context(), u.ID, 100, "a"), ErrCodeUsed)
	must(t, s.UseTOTPStep(t.Context(), u.ID, 101, "b"))
	must(t, s.UseTOTPStep(t.Context(), u.ID, 101, "b")) // the same attempt again
	want(t, s.UseTOTPStep(t.Context(), u.ID, 101, "c"), ErrCodeUsed)
	want(t, s.UseTOTPStep(t.Context(), u.ID, 99, "d"), ErrCodeUsed)
	must(t, s.RemoveTOTP(t.Context(), u.ID, act("totp.off")))
	if n, err := s.RecoveryCodesLeft(t.Context(), u.ID); err != nil || n != 0 {
		t.Fatalf("%d codes left, %v", n, err)
	}
}

// A recovery code works once and only for its account.
func testRecovery(t *testing.T, s *Store) {
	u, v := addUser(t, s, "u", RoleViewer), addUser(t, s, "v", RoleViewer)
	must(t, s.ReplaceRecoveryCodes(t.Context(), u.ID, []string{"c1", "c2"}, act("recovery")))
	want(t, s.UseRecoveryCode(t.Context(), v.ID, "c1", "t", start), ErrCodeUsed)
	must(t, s.UseRecoveryCode(t.Context(), u.ID, "c1", "t", start))
	want(t, s.UseRecoveryCode(t.Context(), u.ID, "c1", "t2", start), ErrCodeUsed)
	if n, err := s.RecoveryCodesLeft(t.Context(), u.ID); err != nil || n != 1 {
		t.Fatalf("%d codes left, %v", n, err)
	}
	must(t, s.ReplaceRecoveryCodes(t.Context(), u.ID, []string{"c3"}, act("recovery")))
	want(t, s.UseRecoveryCode(t.Context(), u.ID, "c2", "t3", start), ErrCodeUsed)
}

// A ban ends the account's logins, shows with a new one until it expires, and can be lifted.
func testBans(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	addLogin(t, s, u, "h1")
	must(t, s.AddBan(t.Context(), Ban{ID: "b1", UserID: u.ID, Reason: "noise", Actor: "test", CreatedAt: start, ExpiresAt: start.Add(time.Minute)}, act("ban.add")))
	_, err := s.FindLogin(t.Context(), "h1", start, start.Add(-time.Hour))
	want(t, err, ErrNotFound)
	addLogin(t, s, u, "h2")
	in, err := s.FindLogin(t.Context(), "h2", start, start.Add(-time.Hour))
	must(t, err)
	if in.Banned != "noise" {
		t.Fatalf("banned %q", in.Banned)
	}
	in, err = s.FindLogin(t.Context(), "h2", start.Add(time.Minute), start.Add(-time.Hour))
	must(t, err)
	if in.Banned != "" {
		t.Fatalf("still banned after the ban: %q", in.Banned)
	}
	must(t, s.AddBan(t.Context(), Ban{ID: "b2", Address: "192.0.2.0/24", Reason: "scan", Actor: "test", CreatedAt: start.Add(time.Second)}, act("ban.add")))
	bans, err := s.Bans(t.Context(), start)
	must(t, err)
	if len(bans) != 2 || bans[0].Address != "192.0.2.0/24" || bans[1].User != "u" {
		t.Fatalf("bans %+v", bans)
	}
	must(t, s.LiftBan(t.Context(), "b2", act("ban.lift")))
	want(t, s.LiftBan(t.Context(), "b2", act("ban.lift")), ErrNotFound)
}

// Rules and titles are kept, listed and removed.
func testRules(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	must(t, s.AddRule(t.Context(), Rule{ID: "r1", Pool: "*", Effect: Allow}, act("rule.add")))
	must(t, s.AddRule(t.Context(), Rule{ID: "r2", Pool: "gnome", UserID: u.ID, Effect: Deny}, act("rule.add")))
	rules, err := s.Rules(t.Context())
	must(t, err)
	if len(rules) != 2 || rules[1] != (Rule{ID: "r2", Pool: "gnome", UserID: u.ID, User: "u", Effect: Deny}) {
		t.Fatalf("rules %+v", rules)
	}
	must(t, s.RemoveRule(t.Context(), "r1", act("rule.remove")))
	want(t, s.RemoveRule(t.Context(), "r1", act("rule.remove")), ErrNotFound)
	must(t, s.SetTitle(t.Context(), "gnome", "GNOME", act("pool.title")))
	must(t, s.SetTitle(t.Context(), "gnome", "GNOME desktop", act("pool.title")))
	titles, err := s.Titles(t.Context())
	must(t, err)
	if len(titles) != 1 || titles["gnome"] != "GNOME desktop" {
		t.Fatalf("titles %v", titles)
	}
	must(t, s.SetTitle(t.Context(), "gnome", "", act("pool.title")))
	if titles, err = s.Titles(t.Context()); err != nil || len(titles) != 0 {
		t.Fatalf("titles %v, %v", titles, err)
	}
}

// The audit log pages from the newest, and the same event counts once.
func testAudit(t *testing.T, s *Store) {
	same := act("same")
	for range 2 {
		must(t, s.Record(t.Context(), same))
	}
	for range 4 {
		must(t, s.Record(t.Context(), act("other")))
	}
	page, err := s.Audit(t.Context(), 0, 3)
	must(t, err)
	rest, err := s.Audit(t.Context(), page[len(page)-1].ID, 100)
	must(t, err)
	if len(page) != 3 || len(rest) != 2 || rest[1].Act.Act != "same" || !rest[1].At.Equal(start) {
		t.Fatalf("pages %+v and %+v", page, rest)
	}
}

// Sessions belong to an account, end once with the first reason, and a repeated admission adds nothing.
func testSessions(t *testing.T, s *Store) {
	u, v := addUser(t, s, "u", RoleViewer), addUser(t, s, "v", RoleViewer)
	x := Session{ID: "s1", Viewer: "v1", UserID: u.ID, Pool: "gnome", Role: "control", CreatedAt: start}
	for range 2 {
		must(t, s.AddSession(t.Context(), x))
	}
	must(t, s.AddSession(t.Context(), Session{ID: "s1", Viewer: "v2", UserID: v.ID, Pool: "gnome", Role: "watch", CreatedAt: start}))
	got, err := s.SessionPart(t.Context(), "s1", u.ID, "")
	must(t, err)
	if got != x {
		t.Fatalf("session %+v", got)
	}
	if owner, err := s.SessionControl(t.Context(), "s1"); err != nil || owner.UserID != u.ID {
		t.Fatalf("owner %+v, %v", owner, err)
	}
	_, err = s.SessionPart(t.Context(), "s2", u.ID, "")
	want(t, err, ErrNotFound)
	_, err = s.SessionPart(t.Context(), "s1", u.ID, "v2") // another person's viewer
	want(t, err, ErrNotFound)
	if got, err = s.SessionPart(t.Context(), "s1", u.ID, "v1"); err != nil || got != x {
		t.Fatalf("part %+v, %v", got, err)
	}
	must(t, s.AddSession(t.Context(), Session{ID: "s2", Viewer: "v1", UserID: v.ID, Pool: "gnome", Role: "control", CreatedAt: start}))
	for after, want := range map[string]string{"": "s1 s1", "s1": "s2", "s2": ""} {
		page, err := s.RunningAfter(t.Context(), after, 1)
		var ids []string
		for _, p := range page {
			ids = append(ids, p.ID)
		}
		if err != nil || strings.Join(ids, " ") != want {
			t.Fatalf("page after %q: %v, %v", after, ids, err)
		}
	}
	for _, first := range []bool{true, false} {
		ended, err := s.EndSession(t.Context(), "s1", fmt.Sprint("reason-", first), "m", start.Add(time.Second))
		must(t, err)
		if ended != first {
			t.Fatalf("ended %v, want %v", ended, first)
		}
	}
	if got, err = s.SessionPart(t.Context(), "s1", v.ID, ""); err != nil || got.Reason != "reason-true" || got.EndedAt.IsZero() {
		t.Fatalf("ended session %+v, %v", got, err)
	}
	if mine, err := s.RunningSessions(t.Context(), u.ID); err != nil || len(mine) != 0 {
		t.Fatalf("running %+v, %v", mine, err)
	}
}

// A part is listed with what its right hangs on, ends alone, and goes over to another login and pool.
func testRights(t *testing.T, s *Store) {
	u, v := addUser(t, s, "u", RoleViewer), addUser(t, s, "v", RoleOperator)
	addLogin(t, s, u, "h1")
	addLogin(t, s, v, "h2")
	must(t, s.AddSession(t.Context(), Session{ID: "s1", Viewer: "v1", UserID: u.ID, Login: "id-h1", Pool: "gnome", Role: "control", CreatedAt: start}))
	must(t, s.AddSession(t.Context(), Session{ID: "s1", Viewer: "v2", UserID: v.ID, Login: "id-h2", Pool: "gnome", Role: "watch", CreatedAt: start}))
	must(t, s.AddSession(t.Context(), Session{ID: "s2", Viewer: "v3", UserID: u.ID, Login: "id-h2", Pool: "gnome", Role: "control", CreatedAt: start})) // another's login
	parts := func(now time.Time) map[string]Part {
		t.Helper()
		list, err := s.Parts(t.Context(), now, "", 10)
		must(t, err)
		m := map[string]Part{}
		for _, p := range list {
			m[p.Viewer] = p
		}
		return m
	}
	m := parts(start)
	if len(m) != 3 || !m["v1"].SignedIn || m["v1"].Owner != u.ID || !m["v2"].SignedIn || m["v2"].Owner != u.ID || m["v2"].User.Role != RoleOperator || m["v3"].SignedIn {
		t.Fatalf("parts %+v", m)
	}
	if page, err := s.Parts(t.Context(), start, "s1", 10); err != nil || len(page) != 1 || page[0].ID != "s2" {
		t.Fatalf("second page %+v, %v", page, err)
	}
	if of, err := s.PartsOf(t.Context(), start, "s1"); err != nil || len(of) != 2 || of[0].ID != "s1" || of[1].ID != "s1" {
		t.Fatalf("parts of one session %+v, %v", of, err)
	}
	if late := parts(start.Add(time.Hour)); late["v1"].SignedIn {
		t.Fatal("a login that is over holds a part")
	}
	if roles, err := s.LoginRoles(t.Context(), start); err != nil || len(roles) != 2 || roles["h2"] != RoleOperator {
		t.Fatalf("logins %v, %v", roles, err)
	}
	before, err := s.LastAct(t.Context())
	must(t, err)
	must(t, s.AddBan(t.Context(), Ban{ID: "b", UserID: v.ID, Reason: "noise", CreatedAt: start}, act("ban.add")))
	if after, err := s.LastAct(t.Context()); err != nil || after <= before {
		t.Fatalf("acts %d after %d, %v", after, before, err)
	}
	addLogin(t, s, v, "h3")
	if roles, err := s.LoginRoles(t.Context(), start); err != nil || len(roles) != 1 {
		t.Fatalf("logins %v, %v", roles, err)
	}
	must(t, s.SetDisabled(t.Context(), u.ID, true, act("user.disable")))
	if m = parts(start); m["v1"].SignedIn || !m["v1"].User.Disabled || m["v2"].Banned != "noise" {
		t.Fatalf("parts %+v", m)
	}
	must(t, s.AdoptPart(t.Context(), "s1", "v2", v.ID, "id-h3"))
	want(t, s.AdoptPart(t.Context(), "s1", "v2", u.ID, "id-h1"), ErrNotFound)
	must(t, s.SetSessionPool(t.Context(), "s1", "kde"))
	if m = parts(start); !m["v2"].SignedIn || m["v2"].Pool != "kde" {
		t.Fatalf("parts %+v", m)
	}
	must(t, s.EndPart(t.Context(), "s1", "v2", "operator_ended", "m", start))
	if m = parts(start); len(m) != 2 || m["v2"].Viewer != "" || m["v1"].Viewer != "v1" {
		t.Fatalf("parts %+v", m)
	}
}

// Sweep removes what has had its time and nothing else.
func testSweep(t *testing.T, s *Store) {
	u := addUser(t, s, "u", RoleViewer)
	addLogin(t, s, u, "h1")
	must(t, s.AddSession(t.Context(), Session{ID: "s1", Viewer: "v1", UserID: u.ID, CreatedAt: start}))
	must(t, s.AddSession(t.Context(), Session{ID: "s2", Viewer: "v1", UserID: u.ID, CreatedAt: start}))
	if _, err := s.EndSession(t.Context(), "s1", "r", "m", start); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context(), start, start.Add(-time.Hour)); err != nil || n != 0 {
		t.Fatalf("swept %d too early, %v", n, err)
	}
	if n, err := s.Sweep(t.Context(), start.Add(KeepEnded), start.Add(-time.Hour)); err != nil || n != 2 {
		t.Fatalf("swept %d, want the login and one session, %v", n, err)
	}
	if left, err := s.RunningSessions(t.Context(), u.ID); err != nil || len(left) != 1 {
		t.Fatalf("left %+v, %v", left, err)
	}
}

// A subject's tokens are spent once, also by many at once, come back one by one, and are forgotten when all are back.
func testTries(t *testing.T, s *Store) {
	const burst = 3
	every := time.Second
	if s.Driver() == Postgres {
		every = time.Hour // by the time that it is
	}
	take := func(subject string, at time.Time) time.Duration {
		t.Helper()
		wait, err := s.Take(t.Context(), subject, burst, every, at)
		must(t, err)
		return wait
	}
	var wg sync.WaitGroup
	var taken atomic.Int64
	for range 4 * burst {
		wg.Go(func() {
			if wait, err := s.Take(t.Context(), "a", burst, every, start); err != nil {
				t.Error(err)
			} else if wait == 0 {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != burst {
		t.Fatalf("%d of %d were taken at once", taken.Load(), burst)
	}
	if s.Driver() == Postgres { // its own clock decides
		triesByOneClock(t, s)
		return
	}
	if wait := take("a", start.Add(every/4)); wait != 3*every/4 {
		t.Fatalf("wait %v", wait)
	}
	if wait := take("b", start); wait != 0 {
		t.Fatalf("another subject waits %v", wait)
	}
	if take("a", start.Add(every)) != 0 || take("a", start.Add(every)) == 0 {
		t.Fatal("not one token came back after a period")
	}
	if take("a", start.Add(-time.Hour)) == 0 {
		t.Fatal("a clock that goes back gives tokens")
	}
	// A clock that was an hour ahead, here or at another gateway, makes nobody wait longer than until the next token.
	for range burst {
		if wait := take("jumped", start.Add(time.Hour)); wait != 0 {
			t.Fatalf("wait %v", wait)
		}
	}
	if wait := take("jumped", start); wait != every {
		t.Fatalf("after a clock that was an hour ahead: wait %v", wait)
	}
	if wait := take("jumped", start.Add(every)); wait != 0 {
		t.Fatalf("a period later: wait %v", wait)
	}
	for _, c := range []struct {
		after   time.Duration
		removed int64
	}{{2 * every, 2}, {5 * every, 1}, {6 * every, 0}} { // a and b, then the other
		if n, err := s.Sweep(t.Context(), start.Add(c.after), start.Add(-time.Hour)); err != nil || n != c.removed {
			t.Fatalf("swept %d after %v, %v", n, c.after, err)
		}
	}
}

// However the clocks of gateways differ, together they give what one would, and none waits longer than a period.
func triesByOneClock(t *testing.T, s *Store) {
	const burst, every = 4, time.Hour
	taken := 0
	for i := range 4 * burst {
		wait, err := s.Take(t.Context(), "skewed", burst, every, start.Add(time.Duration(i%2)*1000*time.Hour))
		must(t, err)
		if wait == 0 {
			taken++
		} else if wait > every {
			t.Errorf("wait %v", wait)
		}
	}
	if taken != burst {
		t.Errorf("%d tries were given, want %d", taken, burst)
	}
	_, err := s.db.ExecContext(t.Context(), `UPDATE limits SET full_at = full_at + 1000000000000 WHERE subject = 'skewed'`)
	must(t, err)
	if wait, err := s.Take(t.Context(), "skewed", burst, every, start); err != nil || wait <= 0 || wait > every {
		t.Errorf("after a clock that was far ahead: wait %v, %v", wait, err)
	}
}

// An identity of a provider belongs to one account; accounts without one do not collide.
func testOIDC(t *testing.T, s *Store) {
	u, v := addUser(t, s, "u", RoleViewer), addUser(t, s, "v", RoleViewer)
	must(t, s.BindOIDC(t.Context(), u.ID, "https://id", "sub", act("oidc.bind")))
	if got, err := s.UserByOIDC(t.Context(), "https://id", "sub"); err != nil || got.ID != u.ID {
		t.Fatalf("found %+v, %v", got, err)
	}
	if err := s.BindOIDC(t.Context(), v.ID, "https://id", "sub", act("oidc.bind")); err == nil {
		t.Fatal("one identity was bound to two accounts")
	}
	_, err := s.UserByOIDC(t.Context(), "", "")
	want(t, err, ErrNotFound)
}

// Starting again migrates nothing, and a database of a newer or a different release is refused.
func testMigrateAgain(t *testing.T, s *Store) {
	must(t, s.migrate(t.Context(), migrations))
	if v, err := s.SchemaVersion(t.Context()); err != nil || v != len(migrations) {
		t.Fatalf("schema %d, %v", v, err)
	}
	want(t, s.migrate(t.Context(), migrations[:len(migrations)-1]), ErrSchemaNewer)
	edited := append([]migration(nil), migrations...)
	edited[0].text += "\n-- edited"
	want(t, s.migrate(t.Context(), edited), ErrSchemaChanged)
}

// migrateFrom starts at every released version with that version's data and brings it to the present; bare returns an empty database.
func migrateFrom(t *testing.T, bare func(t *testing.T) *Store) {
	for from := range len(migrations) + 1 {
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) {
			s := bare(t)
			for i := range from {
				must(t, s.migrate(t.Context(), migrations[:i+1]))
				fill(t, s, fmt.Sprintf("testdata/%04d.sql", i+1))
			}
			must(t, s.migrate(t.Context(), migrations))
			if from > 1 {
				part, err := s.SessionPart(t.Context(), "s-1", "u-1", "")
				must(t, err)
				if part.Login != "l-1" {
					t.Errorf("a session from before hangs on login %q", part.Login)
				}
			}
			if from > 0 {
				in, err := s.FindLogin(t.Context(), "aa", start, time.Time{})
				must(t, err)
				if in.User.Name != "Ada" || in.User.Role != RoleAdmin {
					t.Fatalf("account after migration %+v", in.User)
				}
			}
			addUser(t, s, "new", RoleViewer)
		})
	}
}

func fill(t *testing.T, s *Store, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	for statement := range strings.SplitSeq(string(text), ";\n") {
		if strings.TrimSpace(statement) != "" {
			_, err := s.db.ExecContext(context.Background(), statement)
			must(t, err)
		}
	}
}
