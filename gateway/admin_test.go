package gateway

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"testing"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Each admin endpoint is closed to those whose role is too low, all of them to strangers.
func TestAdminRoles(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	viewer, _ := s.person(admin, "viewer", store.RoleViewer)
	operator, _ := s.person(admin, "operator", store.RoleOperator)
	forAdmins := [][2]string{{"GET", signalapi.PathAdminUsers}, {"POST", signalapi.PathAdminUsers}, {"GET", signalapi.PathAdminUser + "x"}, {"POST", signalapi.PathAdminUser + "x"},
		{"POST", signalapi.PathAdminUser + "x/invite"}, {"POST", signalapi.PathAdminUser + "x/signout"}, {"DELETE", signalapi.PathAdminUser + "x/totp"},
		{"GET", signalapi.PathAdminInvites}, {"DELETE", signalapi.PathAdminInvites + "/x"}, {"GET", signalapi.PathAdminBans}, {"POST", signalapi.PathAdminBans},
		{"DELETE", signalapi.PathAdminBans + "/x"}, {"GET", signalapi.PathAdminRules}, {"POST", signalapi.PathAdminRules}, {"DELETE", signalapi.PathAdminRules + "/x"},
		{"GET", signalapi.PathAdminPools}, {"POST", signalapi.PathAdminPools}, {"POST", signalapi.PathAdminKeys + "/rotate"}, {"POST", signalapi.PathAdminKeys + "/k/revoke"}}
	forOperators := [][2]string{{"GET", signalapi.PathAdminAudit}, {"GET", signalapi.PathAdminSessions}, {"POST", signalapi.PathAdminSessions + "/x/end"},
		{"GET", signalapi.PathAdminHosts}, {"POST", signalapi.PathAdminHosts + "/x/drain"}, {"POST", signalapi.PathAdminHosts + "/x/activate"},
		{"GET", signalapi.PathAdminRelays}, {"POST", signalapi.PathAdminRelays + "/x/state"}, {"GET", signalapi.PathAdminKeys}}
	for _, e := range append(forAdmins, forOperators...) {
		s.browser().refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, e[0], e[1], nil)
		viewer.refused(http.StatusForbidden, signalapi.ReasonForbidden, e[0], e[1], nil)
	}
	for _, e := range forAdmins {
		operator.refused(http.StatusForbidden, signalapi.ReasonForbidden, e[0], e[1], nil)
	}
	for _, e := range forOperators {
		if status, _ := operator.try(e[0], e[1], nil); status == http.StatusForbidden || status == http.StatusUnauthorized {
			t.Errorf("%v is closed to operators", e)
		}
	}
}

// Accounts are made, invited again, given other roles and disabled; each act is in the audit log with who did it.
func TestAdminUsers(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	first := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "ada", Role: "viewer"})
	admin.refused(http.StatusConflict, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "ADA", Role: "viewer"})
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "bob", Role: "king"})
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "a/b", Role: "viewer"})
	again := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUser+first.User.ID+"/invite", nil)
	b := s.browser()
	b.refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(first.URL)})
	if pending := ok[[]signalapi.PendingInvite](admin, "GET", signalapi.PathAdminInvites, nil); len(pending) != 1 || pending[0].User != "ada" || pending[0].CreatedBy != "root" {
		t.Fatalf("pending %+v", pending)
	}
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(again.URL), Password: goodPassword})
	role, yes, no := "operator", true, false
	if u := ok[signalapi.User](admin, "POST", signalapi.PathAdminUser+first.User.ID, signalapi.UserChange{Role: &role}); u.Role != "operator" || !u.Password {
		t.Fatalf("changed %+v", u)
	}
	ok[signalapi.User](admin, "POST", signalapi.PathAdminUser+first.User.ID, signalapi.UserChange{Disabled: &yes})
	b.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	b.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUser+first.User.ID+"/invite", nil)
	ok[signalapi.User](admin, "POST", signalapi.PathAdminUser+first.User.ID, signalapi.UserChange{Disabled: &no})
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	admin.refused(http.StatusNotFound, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUser+"nobody", signalapi.UserChange{Disabled: &yes})

	users := ok[[]signalapi.User](admin, "GET", signalapi.PathAdminUsers, nil)
	if len(users) != 2 || users[0].Name != "ada" {
		t.Fatalf("users %+v", users)
	}
	viewer := "viewer"
	admin.refused(http.StatusConflict, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminUser+users[1].ID, signalapi.UserChange{Role: &viewer}) // the last admin

	acts := map[string]bool{}
	for _, e := range ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit+"?limit=500", nil) {
		acts[e.Actor+" "+e.Act+" "+e.Subject] = true
	}
	for _, want := range []string{"start link.create", "root signin.link root", "root user.create ada", "ada signin.link ada", "root user.role ada", "root user.disable ada",
		"root user.enable ada", "ada signin.password ada"} {
		found := acts[want]
		for a := range acts {
			found = found || (want == "start link.create" && len(a) > len(want) && a[:len(want)] == want)
		}
		if !found {
			t.Errorf("no %q in the audit log: %v", want, acts)
		}
	}
	page := ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit+"?limit=2", nil)
	if older := ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit+"?limit=1&before="+strconv.FormatInt(page[1].ID, 10), nil); len(page) != 2 || older[0].ID >= page[1].ID {
		t.Fatalf("pages %+v, %+v", page, older)
	}
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "GET", signalapi.PathAdminAudit+"?before=x", nil)
}

// An address ban shuts out everything from there at once, reaches the master, and ends; nobody bans themselves.
func TestAdminBans(t *testing.T) {
	c := newClock()
	s := startSite(t, withClock(c), func(cfg *Config) {
		cfg.TrustedProxies = append(cfg.TrustedProxies, netip.MustParsePrefix("127.0.0.1/32"))
	})
	admin := s.admin()
	from := []string{"X-Forwarded-For", "198.51.100.7"}
	b := s.browser()
	b.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil, from...)
	ban := ok[signalapi.Ban](admin, "POST", signalapi.PathAdminBans, signalapi.NewBan{Address: "198.51.100.9/24", Reason: "scan", Seconds: 60})
	if ban.Address != "198.51.100.0/24" || ban.Actor != "root" {
		t.Fatalf("ban %+v", ban)
	}
	signIn := signalapi.SignIn{Name: "root", Password: goodPassword}
	b.refused(http.StatusForbidden, signalapi.ReasonBanned, "POST", signalapi.PathSignIn, signIn, from...)
	s.fleet.mu.Lock()
	told := s.fleet.bans["198.51.100.0/24"]
	s.fleet.mu.Unlock()
	if told.GetKind() != masterapi.Ban_KIND_ADDRESS || told.GetExpiry() == nil {
		t.Fatalf("the master knows %v", told)
	}
	c.add(61e9)
	if status, body := b.try("POST", signalapi.PathSignIn, signIn, from...); status != http.StatusOK {
		t.Fatalf("after the ban: %d %s", status, body)
	}
	ban = ok[signalapi.Ban](admin, "POST", signalapi.PathAdminBans, signalapi.NewBan{Address: "198.51.100.7", Reason: "scan"})
	if status, _ := b.try("GET", signalapi.PathMe, nil, from...); status != http.StatusForbidden {
		t.Fatalf("a login from a banned address works: %d", status)
	}
	ok[none](admin, "DELETE", signalapi.PathAdminBans+"/"+ban.ID, nil)
	if status, _ := b.try("GET", signalapi.PathMe, nil, from...); status != http.StatusOK {
		t.Fatalf("after lifting: %d", status)
	}
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	ban = ok[signalapi.Ban](admin, "POST", signalapi.PathAdminBans, signalapi.NewBan{User: "Ada", Reason: "noise", Seconds: 60})
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	ada.refused(http.StatusForbidden, signalapi.ReasonBanned, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	ada.refused(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: "a guess at it"})
	ada.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	c.add(61e9)
	ok[signalapi.Me](ada, "POST", signalapi.PathSignIn, signalapi.SignIn{Name: "ada", Password: goodPassword})
	for _, bad := range []signalapi.NewBan{{Reason: "x"}, {User: "root", Address: "198.51.100.7", Reason: "x"}, {User: "root", Reason: "x"}, {Address: "127.0.0.0/8", Reason: "x"},
		{Address: "198.51.100.7"}, {Address: "0.0.0.0/0", Reason: "x"}, {Address: "198.51.100.7", Reason: "x", Seconds: -1}} {
		admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminBans, bad)
	}
	admin.refused(http.StatusNotFound, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminBans, signalapi.NewBan{User: "nobody", Reason: "x"})
	admin.refused(http.StatusNotFound, signalapi.ReasonBadRequest, "DELETE", signalapi.PathAdminBans+"/x", nil)
}

// Sessions, hosts, relays and keys are shown in people's words, and what is done to them is audited with its reason.
func TestAdminFleet(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	grant := admin.signal().connect(request1)
	sessions := ok[[]signalapi.Session](admin, "GET", signalapi.PathAdminSessions, nil)
	if len(sessions) != 1 || sessions[0].ID != grant.Session || sessions[0].User != "root" || sessions[0].State != "admitted" || sessions[0].Viewers != 1 || sessions[0].Relay != "relay-1" {
		t.Fatalf("sessions %+v", sessions)
	}
	if hosts := ok[[]signalapi.HostInfo](admin, "GET", signalapi.PathAdminHosts, nil); len(hosts) != 2 || hosts[0].State != "active" || hosts[1].Health != "critical" {
		t.Fatalf("hosts %+v", hosts)
	}
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminHosts+"/host-1/drain", signalapi.Cause{})
	if h := ok[signalapi.HostInfo](admin, "POST", signalapi.PathAdminHosts+"/host-1/drain", signalapi.Cause{Reason: "new kernel"}); h.State != "draining" || h.Reason != "new kernel (root)" {
		t.Fatalf("drained %+v", h)
	}
	if r := ok[signalapi.RelayInfo](admin, "POST", signalapi.PathAdminRelays+"/relay-1/state", signalapi.RelayChange{State: "quarantined", Reason: "loss"}); r.State != "quarantined" {
		t.Fatalf("relay %+v", r)
	}
	admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminRelays+"/relay-1/state", signalapi.RelayChange{State: "flying", Reason: "x"})
	if relays := ok[[]signalapi.RelayInfo](admin, "GET", signalapi.PathAdminRelays, nil); relays[0].State != "quarantined" || relays[0].Health != "stale_passing" {
		t.Fatalf("relays %+v", relays)
	}
	if keys := ok[[]signalapi.KeyInfo](admin, "POST", signalapi.PathAdminKeys+"/rotate", signalapi.Cause{Reason: "yearly"}); keys[0].State != "signing" {
		t.Fatalf("keys %+v", keys)
	}
	log := ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit+"?limit=3", nil)
	if log[0].Act != "key.rotate" || log[1].Act != "relay.quarantined" || log[1].Detail != "loss" || log[2].Act != "host.draining" {
		t.Fatalf("audit %+v", log)
	}
	pools := ok[[]signalapi.Pool](admin, "GET", signalapi.PathAdminPools, nil)
	if len(pools) != 2 || pools[0].Pool != "gnome" {
		t.Fatalf("pools %+v", pools)
	}
}

// Rules take effect with the next request and are undone.
func TestAdminRules(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	rule := ok[signalapi.Rule](admin, "POST", signalapi.PathAdminRules, signalapi.Rule{Pool: "gn*", User: "ada", Effect: "deny"})
	ws := ada.signal()
	ws.refused(signalapi.ReasonForbidden, signalapi.TypeConnect, request1, signalapi.Connect{Key: pageKey, Pool: "gnome"})
	ok[none](admin, "DELETE", signalapi.PathAdminRules+"/"+rule.ID, nil)
	ws.connect(request1)
	for _, bad := range []signalapi.Rule{{Effect: "allow"}, {Pool: "[", Effect: "allow"}, {Pool: "x", Effect: "maybe"}, {Pool: "x", Role: "king", Effect: "allow"}} {
		admin.refused(http.StatusBadRequest, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminRules, bad)
	}
	admin.refused(http.StatusNotFound, signalapi.ReasonBadRequest, "POST", signalapi.PathAdminRules, signalapi.Rule{Pool: "x", User: "nobody", Effect: "allow"})
	if rules := ok[[]signalapi.Rule](admin, "GET", signalapi.PathAdminRules, nil); len(rules) != 0 {
		t.Fatalf("rules %+v", rules)
	}
}

// Every administrative act leaves exactly one entry in the audit log, with who did it and to what; keys, hosts and relays are in TestAdminFleet.
func TestEveryActIsAudited(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, user := s.person(admin, "ada", store.RoleViewer)
	grant := ada.signal().connect(request1)
	newest := func() signalapi.AuditEntry {
		t.Helper()
		return ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit+"?limit=1", nil)[0]
	}
	do := func(act, subject, method, path string, body any) json.RawMessage {
		t.Helper()
		before := newest().ID
		answer := ok[json.RawMessage](admin, method, path, body)
		if e := newest(); e.ID != before+1 || e.Actor != "root" || e.Act != act || (subject != "" && e.Subject != subject) {
			t.Errorf("%s %s left %+v, want %s of %q", method, path, e, act, subject)
		}
		return answer
	}
	of := signalapi.PathAdminUser + user.ID
	role, yes, no := "operator", true, false
	do("user.role", "ada", "POST", of, signalapi.UserChange{Role: &role})
	do("user.totp_reset", "ada", "DELETE", of+"/totp", nil)
	do("user.sign_out", "ada", "POST", of+"/signout", nil)
	do("user.disable", "ada", "POST", of, signalapi.UserChange{Disabled: &yes})
	do("user.enable", "ada", "POST", of, signalapi.UserChange{Disabled: &no})
	do("link.create", "", "POST", of+"/invite", nil)
	pending := ok[[]signalapi.PendingInvite](admin, "GET", signalapi.PathAdminInvites, nil)
	do("link.revoke", pending[0].ID, "DELETE", signalapi.PathAdminInvites+"/"+pending[0].ID, nil)
	ban := into[signalapi.Ban](t, do("ban.add", "198.51.100.7/32", "POST", signalapi.PathAdminBans, signalapi.NewBan{Address: "198.51.100.7", Reason: "scan"}))
	do("ban.lift", "198.51.100.7/32", "DELETE", signalapi.PathAdminBans+"/"+ban.ID, nil)
	rule := into[signalapi.Rule](t, do("rule.add", "kde", "POST", signalapi.PathAdminRules, signalapi.Rule{Pool: "kde", Effect: "deny"}))
	do("rule.remove", rule.ID, "DELETE", signalapi.PathAdminRules+"/"+rule.ID, nil)
	do("pool.title", "kde", "POST", signalapi.PathAdminPools, signalapi.Pool{Pool: "kde", Title: "Plasma"})
	do("session.end", grant.Session, "POST", signalapi.PathAdminSessions+"/"+grant.Session+"/end", signalapi.Cause{Reason: "maintenance"})
}
