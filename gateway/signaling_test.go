package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

const request1, request2 = "request-0000000000000001", "request-0000000000000002"

// A person sees the desktops they may use, asks for one and gets everything needed to reach it.
func TestConnect(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, user := s.person(admin, "ada", store.RoleViewer)
	ok[signalapi.Rule](admin, "POST", signalapi.PathAdminRules, signalapi.Rule{Pool: "secret", Role: "viewer", Effect: "deny"})
	ok[signalapi.Pool](admin, "POST", signalapi.PathAdminPools, signalapi.Pool{Pool: "gnome", Title: "GNOME desktop"})
	list := ok[[]signalapi.Desktop](ada, "GET", signalapi.PathDesktops, nil)
	if len(list) != 1 || list[0] != (signalapi.Desktop{Pool: "gnome", Title: "GNOME desktop", Compositor: "gnome", Encoder: "software", Free: 8, Slots: 8}) {
		t.Fatalf("desktops %+v", list)
	}
	if all := ok[[]signalapi.Desktop](admin, "GET", signalapi.PathDesktops, nil); len(all) != 2 || all[1].Reason != signalapi.ReasonHostUnavailable {
		t.Fatalf("desktops of the admin %+v", all)
	}
	ws := ada.signal()
	grant := ws.connect(request1)
	if grant.Session != "s-1" || grant.Role != "control" || grant.Host.ID != "host-1" || len(grant.Host.Identity) != 32 || len(grant.Certificate.Hashes) != 1 ||
		len(grant.Certificate.Signature) != 64 || grant.GraceSeconds != 30 || grant.LeaseExpiry.IsZero() {
		t.Fatalf("grant %+v", grant)
	}
	want := []signalapi.Candidate{
		{Kind: "direct", Priority: 2, URL: "https://[2001:db8::1]:4433/session/v4.public.lease-1"},
		{Kind: "relay", Priority: 1, URL: "https://192.0.2.9:3478/session/v4.public.lease-1", Relay: "relay-1"},
	}
	if fmt.Sprint(grant.Candidates) != fmt.Sprint(want) {
		t.Fatalf("candidates %+v", grant.Candidates)
	}
	asked := s.fleet.requests[0]
	if asked.GetLogin() != user.ID || asked.GetViewerId() != grant.Viewer || asked.GetSize().GetWidth() != 1280 || strings.Contains(asked.GetRequestId(), request1) {
		t.Fatalf("the master was asked %v", asked)
	}
	ws.refused(signalapi.ReasonForbidden, signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Pool: "secret"})
	ws.refused("pool_unknown", signalapi.TypeConnect, "request-0000000000000003", signalapi.Connect{Key: pageKey, Pool: "other"})
	ws.refused(signalapi.ReasonBadRequest, signalapi.TypeConnect, "1", signalapi.Connect{Key: pageKey, Pool: "gnome"})
	ws.refused(signalapi.ReasonBadRequest, signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Pool: "gnome", Width: -1})
	ws.refused(signalapi.ReasonBadRequest, signalapi.TypeConnect, request2, "gnome")
	ws.refused(signalapi.ReasonBadRequest, "dance", "1", nil)
}

// A retry of a request, on the same or another connection, allocates once; limits of one person and of the fleet are told.
func TestConnectOnce(t *testing.T) {
	s := startSite(t, func(c *Config) { c.MaxSessions = 2 })
	s.fleet.slots = 3
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	bob, _ := s.person(admin, "bob", store.RoleViewer)
	first := ada.signal().connect(request1)
	ws := ada.signal()
	again := ws.connect(request1)
	if again.Session != first.Session || again.Viewer != first.Viewer || s.fleet.allocated() != 1 {
		t.Fatalf("a retry allocated: %+v, %d sessions", again, s.fleet.allocated())
	}
	if other := bob.signal().connect(request1); other.Session == first.Session {
		t.Fatal("another person's request of the same name got this desktop")
	}
	ws.connect(request2)
	ws.refused(signalapi.ReasonForbidden, signalapi.TypeConnect, "request-0000000000000003", signalapi.Connect{Key: pageKey, Pool: "gnome"})
	ws.connect(request2) // at the limit a retry still works
	bob.signal().refused("no_free_host", signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Pool: "gnome"})
}

// Renew, move and end work on one's own sessions only.
func TestOwnSessions(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	eve, _ := s.person(admin, "eve", store.RoleViewer)
	ws := ada.signal()
	grant := ws.connect(request1)
	ref := signalapi.SessionRef{Session: grant.Session, Viewer: grant.Viewer}
	renewed := into[signalapi.Renewed](t, ws.ask(signalapi.TypeRenew, "1", ref).Data)
	if renewed.Token != "lease-1-1" || renewed.LeaseExpiry.IsZero() {
		t.Fatalf("renewed %+v", renewed)
	}
	moved := into[signalapi.Grant](t, ws.ask(signalapi.TypeMove, request2, ref).Data)
	if moved.Session != grant.Session || moved.Viewer != grant.Viewer || len(moved.Candidates) != 1 {
		t.Fatalf("moved %+v", moved)
	}
	if a := ws.ask(signalapi.TypeReport, "2", signalapi.Report{Session: grant.Session, Outcome: signalapi.OutcomeConnected, SetupMS: 700}); a.Type != signalapi.TypeReply {
		t.Fatalf("report %s", a.Data)
	}
	ws.refused(signalapi.ReasonBadRequest, signalapi.TypeReport, "3", signalapi.Report{Session: grant.Session, Outcome: "bliss"})
	thief := eve.signal()
	for _, kind := range []string{signalapi.TypeRenew, signalapi.TypeMove, signalapi.TypeEnd} {
		thief.refused(signalapi.ReasonNoSession, kind, request1, ref)
	}
	thief.refused(signalapi.ReasonNoSession, signalapi.TypeReport, "1", signalapi.Report{Session: grant.Session, Outcome: signalapi.OutcomeLost})
	thief.refused(signalapi.ReasonNoSession, signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Join: grant.Session})
	gone := into[signalapi.Resumed](t, thief.ask(signalapi.TypeResume, "9", signalapi.Resume{Sessions: []string{grant.Session}}).Data)
	if len(gone.Alive) != 0 || len(gone.Ended) != 1 || gone.Ended[0].Reason != signalapi.ReasonNoSession {
		t.Fatalf("a stranger resumes: %+v", gone)
	}
	watch := into[signalapi.Grant](t, admin.signal().ask(signalapi.TypeConnect, request1, signalapi.Connect{Key: pageKey, Join: grant.Session}).Data)
	if watch.Role != "watch" || watch.Session != grant.Session {
		t.Fatalf("watching %+v", watch)
	}
	if log := ok[[]signalapi.AuditEntry](admin, "GET", signalapi.PathAdminAudit, nil); log[0].Act != "session.watch" || log[0].Subject != grant.Session {
		t.Fatalf("an operator's look is not audited: %+v", log[0])
	}
	if a := ws.ask(signalapi.TypeEnd, "4", ref); a.Type != signalapi.TypeReply {
		t.Fatalf("end: %s", a.Data)
	}
	ws.refused(signalapi.ReasonNoSession, signalapi.TypeRenew, "5", ref)
}

// What happens to sessions at the master reaches the browsers concerned, and only those.
func TestEvents(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	ws := ada.signal()
	grant := ws.connect(request1)
	second := ws.connect(request2)
	eventually(t, "the gateway watches", func() bool { s.fleet.mu.Lock(); defer s.fleet.mu.Unlock(); return len(s.fleet.watchers) > 0 })

	s.fleet.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_ENDED, SessionId: "s-of-somebody-else", Reason: masterapi.Reason_REASON_USER_ENDED})
	s.fleet.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_MOVED, SessionId: grant.Session, Reason: masterapi.Reason_REASON_RELAY_LOST,
		Grant: &masterapi.Grant{SessionId: grant.Session, ViewerId: grant.Viewer, ViewerToken: "new", Candidates: []*masterapi.Candidate{
			{Kind: masterapi.CandidateKind_CANDIDATE_KIND_RELAY, Address: "192.0.2.10:1", RelayId: "relay-2"}}}})
	if e := ws.event(); e.Kind != signalapi.EventMove || e.Grant == nil || e.Grant.Candidates[0].URL != "https://192.0.2.10:1/session/new" || e.Reason != "relay_lost" {
		t.Fatalf("event %+v", e)
	}
	s.fleet.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_RENEWED, SessionId: grant.Session, ViewerId: "another", ViewerToken: "x"})
	s.fleet.tell(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_RENEWED, SessionId: grant.Session, ViewerId: grant.Viewer, ViewerToken: "newer"})
	if e := ws.event(); e.Kind != signalapi.EventRenewed || e.Renewed == nil || e.Renewed.Token != "newer" {
		t.Fatalf("event %+v", e)
	}
	s.fleet.endWith(grant.Session, masterapi.Reason_REASON_HOST_LOST, "")
	if e := ws.event(); e.Kind != signalapi.EventOffer || e.Pool != "gnome" || e.Reason != "host_lost" || e.Message == "" {
		t.Fatalf("event %+v", e)
	}
	ok[none](admin, "POST", signalapi.PathAdminSessions+"/"+second.Session+"/end", signalapi.Cause{Reason: "maintenance"})
	if e := ws.event(); e.Kind != signalapi.EventEnded || e.Message != "maintenance" || e.Reason != "operator_ended" {
		t.Fatalf("event %+v", e)
	}
	eventually(t, "the store knows", func() bool {
		left, err := s.open.Load().store.RunningAfter(t.Context(), "", 10)
		return err == nil && len(left) == 0
	})
}

// A gateway is stopped and another started: the login still holds, the WebSocket resumes, what ended meanwhile is told, a retry
// still finds its desktop.
func TestGatewayRestart(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, _ := s.person(admin, "ada", store.RoleViewer)
	ws := ada.signal()
	first, second := ws.connect(request1), ws.connect(request2)
	s.stop()
	if _, err := ws.read(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Fatalf("the socket ended with %v", err)
	}
	s.fleet.endQuietly(second.Session, masterapi.Reason_REASON_HOST_RESTARTED)

	next := runSite(t, s.fleet, s.cfg)
	moved := next.browser()
	moved.client.Jar.SetCookies(mustURL(t, next.URL()), ada.client.Jar.Cookies(mustURL(t, s.URL())))
	ok[signalapi.Me](moved, "GET", signalapi.PathMe, nil)
	ws = moved.signal()
	resumed := into[signalapi.Resumed](t, ws.ask(signalapi.TypeResume, "1", signalapi.Resume{Sessions: []string{first.Session, second.Session}}).Data)
	if fmt.Sprint(resumed.Alive) != fmt.Sprint([]string{first.Session}) || len(resumed.Ended) != 1 || resumed.Ended[0].Kind != signalapi.EventOffer ||
		resumed.Ended[0].Reason != "host_restarted" || resumed.Ended[0].Pool != "gnome" {
		t.Fatalf("resumed %+v", resumed)
	}
	onlyResumed := moved.signal()
	onlyResumed.ask(signalapi.TypeResume, "1", signalapi.Resume{Sessions: []string{first.Session}})
	if again := ws.connect(request1); again.Session != first.Session || s.fleet.allocated() != 2 {
		t.Fatalf("the retry got %+v of %d", again, s.fleet.allocated())
	}
	eventually(t, "the new gateway watches", func() bool { s.fleet.mu.Lock(); defer s.fleet.mu.Unlock(); return len(s.fleet.watchers) > 0 })
	s.fleet.endWith(first.Session, masterapi.Reason_REASON_LEASE_EXPIRED, "")
	for _, socket := range []*signal{ws, onlyResumed} {
		if e := socket.event(); e.Session != first.Session || e.Kind != signalapi.EventEnded {
			t.Fatalf("event after resuming %+v", e)
		}
	}
}

// A session that ended while no gateway watched is found by comparing with the master.
func TestReconcile(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	first, second := admin.signal().connect(request1), admin.signal().connect(request2)
	s.fleet.endQuietly(first.Session, masterapi.Reason_REASON_HOST_LOST)
	s.resync()
	eventually(t, "the end is found", func() bool {
		left, err := s.open.Load().store.RunningAfter(t.Context(), "", 10)
		return err == nil && len(left) == 1 && left[0].ID == second.Session
	})
	s.stop()
	s.fleet.endQuietly(second.Session, masterapi.Reason_REASON_HOST_LOST)
	next := runSite(t, s.fleet, s.cfg)
	eventually(t, "the next gateway finds the end by itself", func() bool {
		left, err := next.open.Load().store.RunningAfter(t.Context(), "", 10)
		return err == nil && len(left) == 0
	})
}

// While the master is away people can sign in and resume; a wish for a desktop is refused with a reason; when it is back it works.
func TestMasterAway(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ws := admin.signal()
	grant := ws.connect(request1)
	address := s.fleet.address
	s.fleet.stop()
	resumed := into[signalapi.Resumed](t, ws.ask(signalapi.TypeResume, "1", signalapi.Resume{Sessions: []string{grant.Session}}).Data)
	if len(resumed.Alive) != 1 {
		t.Fatalf("without the master the session counts as ended: %+v", resumed)
	}
	ws.refused(signalapi.ReasonMasterAway, signalapi.TypeConnect, request2, signalapi.Connect{Key: pageKey, Pool: "gnome"})
	admin.refused(http.StatusServiceUnavailable, signalapi.ReasonMasterAway, "GET", signalapi.PathAdminRelays, nil)
	ok[signalapi.Me](admin, "GET", signalapi.PathMe, nil)
	if status, _ := admin.try("GET", "/readyz", nil); status != http.StatusOK {
		t.Fatalf("not ready without the master: %d", status)
	}
	s.fleet.serve(t, address)
	ws.connect(request2)
}

// Garbage, floods and strangers' bytes on the WebSocket are refused one by one; the socket lives on or is closed, the gateway stays.
func TestSocketGarbage(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ws := admin.signal()
	for _, text := range []string{"", "null", "[]", "{", `{"type":7}`, `"x"`, `{"type":"connect","id":"` + strings.Repeat("x", 200) + `"}`, "\xff\xfe"} {
		ws.send(text)
		if a, err := ws.read(); err != nil || a.Type != signalapi.TypeRefused {
			t.Fatalf("%q: %+v, %v", text, a, err)
		}
	}
	if err := ws.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"renew","id":"1"}`)); err != nil {
		t.Fatal(err)
	}
	if a, err := ws.read(); err != nil || a.Type != signalapi.TypeRefused {
		t.Fatalf("a binary message: %+v, %v", a, err)
	}
	ws.connect(request1)
	if err := ws.conn.Write(t.Context(), websocket.MessageText, make([]byte, maxMessage+1)); err == nil {
		if _, err := ws.read(); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Fatalf("an oversized message ended with %v", err)
		}
	}
	admin.signal().connect(request1)
}

// A login that ends takes its sockets along: signed out, disabled or banned.
func TestSocketEndsWithLogin(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	for name, end := range map[string]func(b *browser, u signalapi.User){
		"out": func(b *browser, _ signalapi.User) { ok[none](b, "POST", signalapi.PathSignOut, nil) },
		"disabled": func(_ *browser, u signalapi.User) {
			yes := true
			ok[none](admin, "POST", signalapi.PathAdminUser+u.ID, signalapi.UserChange{Disabled: &yes})
		},
		"banned": func(_ *browser, u signalapi.User) {
			ok[none](admin, "POST", signalapi.PathAdminBans, signalapi.NewBan{User: u.Name, Reason: "noise"})
		},
		"kicked": func(_ *browser, u signalapi.User) {
			ok[none](admin, "POST", signalapi.PathAdminUser+u.ID+"/signout", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, u := s.person(admin, name, store.RoleViewer)
			ws := b.signal()
			ws.connect(request1)
			end(b, u)
			for {
				if _, err := ws.read(); err != nil {
					if websocket.CloseStatus(err) != closeSignedOut {
						t.Fatalf("ended with %v", err)
					}
					return
				}
			}
		})
	}
}

// A browser that does not read is let go, and the others are served.
func TestSlowSocket(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	slow := admin.signal()
	grant := slow.connect(request1)
	quick := admin.signal()
	quick.ask(signalapi.TypeResume, "1", signalapi.Resume{Sessions: []string{grant.Session}})
	message := strings.Repeat("x", 60_000)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	done := make(chan struct{})
	go func() { // ends when quick has read all
		defer close(done)
		for ctx.Err() == nil {
			if a, err := quick.read(); err != nil || strings.Contains(string(a.Data), "the end") {
				return
			}
		}
	}()
	before := len(s.sockets.all)
	for range 200 {
		s.sockets.send(signalapi.Event{Kind: signalapi.EventWarning, Session: grant.Session, Message: message})
	}
	eventually(t, "the slow socket is gone", func() bool { s.sockets.mu.Lock(); defer s.sockets.mu.Unlock(); return len(s.sockets.all) < before })
	s.sockets.send(signalapi.Event{Kind: signalapi.EventWarning, Session: grant.Session, Message: "the end"})
	_ = quick.conn.CloseNow() // whether it kept up or not, it is done
	<-done
}
