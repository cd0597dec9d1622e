//go:build integration

package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/gateway/store/pgtest"
	"github.com/wavry/fleet/master/masterapi"
)

// pair starts two gateways on one PostgreSQL and one fleet.
func pair(t *testing.T, pg *pgtest.Server, change ...func(*Config)) (a, b *site) {
	t.Helper()
	f := startFleet(t)
	cfg := testConfig(t, f)
	cfg.Store = store.Config{Driver: store.Postgres, DSN: pg.Create(t, "wavry")}
	if _, err := credential.LoadSealer(cfg.KeyFile, true); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&cfg)
	}
	a = runSite(t, f, cfg)
	cfg.ID = "gateway-b"
	return a, runSite(t, f, cfg)
}

// at is the same browser at another gateway.
func (b *browser) at(s *site) *browser {
	moved := s.browser()
	moved.client.Jar.SetCookies(mustURL(b.t, s.URL()), b.client.Jar.Cookies(mustURL(b.t, b.site.URL())))
	return moved
}

// Two gateways on PostgreSQL are one: logins, links, sessions, bans and events hold on both, also when one goes away.
func TestTwoGateways(t *testing.T) {
	a, b := pair(t, pgtest.Start(t))
	admin := a.admin() // by a's link
	b.browser().refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(b.first), Name: "mallory", Password: goodPassword})
	ada, user := a.person(admin, "ada", store.RoleViewer)
	adaB := ada.at(b)
	grant := ada.signal().connect(request1)
	ws := adaB.signal()
	resumed := into[signalapi.Resumed](t, ws.ask(signalapi.TypeResume, "1", signalapi.Resume{Sessions: []string{grant.Session}}).Data)
	if len(resumed.Alive) != 1 {
		t.Fatalf("resumed at the other gateway %+v", resumed)
	}
	if again := ws.connect(request1); again.Session != grant.Session || again.Viewer != grant.Viewer || a.fleet.allocated() != 1 {
		t.Fatalf("a retry at the other gateway got %+v", again)
	}
	eventually(t, "both watch", func() bool { a.fleet.mu.Lock(); defer a.fleet.mu.Unlock(); return len(a.fleet.watchers) == 2 })
	a.stop() // b goes on
	a.fleet.endWith(grant.Session, masterapi.Reason_REASON_HOST_LOST, "")
	if e := ws.event(); e.Kind != signalapi.EventOffer || e.Session != grant.Session {
		t.Fatalf("event %+v", e)
	}
	ok[none](admin.at(b), "POST", signalapi.PathAdminUser+user.ID+"/signout", nil)
	adaB.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
}

// A guesser who goes to two gateways has no more tries than at one, however their clocks differ.
func TestTwoGatewaysLimit(t *testing.T) {
	c := newClock()
	a, b := pair(t, pgtest.Start(t), withClock(c))
	b.stop()
	cfg := b.cfg
	cfg.Now = func() time.Time { return c.now().Add(time.Hour) } // a clock that is wrong
	b = runSite(t, a.fleet, cfg)
	browsers := []*browser{a.browser(), b.browser()}
	answered := 0
	for i := range 4 * nameBurst {
		status, body := browsers[i%2].try("POST", signalapi.PathSignIn, signalapi.SignIn{Name: "nobody", Password: "guess"})
		switch status {
		case http.StatusUnauthorized:
			answered++
		case http.StatusTooManyRequests:
		default:
			t.Fatalf("guess %d: %d %s", i, status, body)
		}
	}
	if answered != nameBurst {
		t.Fatalf("%d guesses were answered, want %d", answered, nameBurst)
	}
}

// PostgreSQL is restarted while people sign in: every sign-in succeeds or is refused with a reason, none is lost half done, and a
// one-time link that was answered with success signs in exactly one browser.
func TestPostgresRestartMidSignIn(t *testing.T) {
	pg := pgtest.Start(t)
	a, b := pair(t, pg)
	admin := a.admin()
	const people = 8
	links := make([]string, people)
	for i := range links {
		links[i] = token(ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: fmt.Sprint("p", i), Role: "viewer"}).URL)
	}
	var wg sync.WaitGroup
	var done atomic.Int64
	signedIn := make([]*browser, people)
	for i := range people {
		at := []*site{a, b}[i%2]
		wg.Go(func() {
			defer done.Add(1)
			br := at.browser()
			status, body := br.try("POST", signalapi.PathSignIn, signalapi.SignIn{Link: links[i], Password: goodPassword})
			if status != http.StatusOK {
				t.Errorf("sign-in %d: %d %s", i, status, body)
				return
			}
			signedIn[i] = br
		})
	}
	if err := pg.Down(); err != nil {
		t.Fatal(err)
	}
	if status, _ := admin.try("GET", "/readyz", nil); status != http.StatusServiceUnavailable {
		t.Errorf("ready without the store: %d", status)
	}
	if err := pg.Up(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i, br := range signedIn {
		if br == nil {
			continue
		}
		if me := ok[signalapi.Me](br, "GET", signalapi.PathMe, nil); me.Name != fmt.Sprint("p", i) || !me.Password {
			t.Errorf("person %d is %+v", i, me)
		}
		br.refused(http.StatusUnauthorized, signalapi.ReasonLinkUsed, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: links[i], Password: goodPassword})
	}
	if status, _ := admin.try("GET", "/readyz", nil); status != http.StatusOK {
		t.Errorf("not ready again: %d", status)
	}
}
