package gateway

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// A copy of the gateway's database opens nothing: it holds neither what a browser shows to the gateway nor what a page shows to a host, also while
// sessions run. What it does hold (hashes, ids) is refused where the secrets belong.
func TestDatabaseOpensNothing(t *testing.T) {
	s := startSite(t)
	admin := s.admin()
	ada, person := s.person(admin, "ada", store.RoleViewer)
	ws := ada.signal()
	grant := ws.connect(request1)
	renewed := into[signalapi.Renewed](t, ws.ask(signalapi.TypeRenew, "2", signalapi.SessionRef{Session: grant.Session, Viewer: grant.Viewer}).Data)
	origin := mustURL(t, s.URL())
	cookies := ada.client.Jar.Cookies(origin)
	files, err := filepath.Glob(s.cfg.Store.DSN + "*") // the write-ahead log too
	if err != nil {
		t.Fatal(err)
	}
	var database []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		database = append(database, b...)
	}
	if !bytes.Contains(database, []byte(grant.Session)) {
		t.Fatal("this is not the database of the running session")
	}
	token := grant.Candidates[0].URL[strings.LastIndex(grant.Candidates[0].URL, "/")+1:]
	secrets := map[string]string{"the viewer's token": token, "the renewed token": renewed.Token, "the page's key": pageKey}
	for _, c := range cookies {
		secrets["cookie "+c.Name] = c.Value
	}
	for what, secret := range secrets {
		if secret == "" || bytes.Contains(database, []byte(secret)) {
			t.Errorf("the database holds %s", what)
		}
	}
	// The thief signs in with everything the database has of ada's login.
	logins, err := s.open.Load().store.Logins(t.Context(), person.ID, time.Now())
	if err != nil || len(logins) == 0 || len(cookies) == 0 {
		t.Fatal(logins, cookies, err)
	}
	for _, found := range []string{logins[0].Hash, logins[0].ID} {
		thief := s.browser()
		for _, c := range cookies {
			thief.client.Jar.SetCookies(origin, []*http.Cookie{{Name: c.Name, Value: found, Path: "/"}})
		}
		if status, body := thief.try("GET", signalapi.PathMe, nil); status != http.StatusUnauthorized {
			t.Errorf("the database signs in: %d %s", status, body)
		}
	}
}
