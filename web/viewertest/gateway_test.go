//go:build integration

package viewertest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/web"
)

// gateway is a gateway whose every answer the test decides. It keeps to signalapi.
type gateway struct {
	t        testing.TB
	host     *host
	server   *httptest.Server
	accounts bool
	// noPassword makes the person the first admin, who has none yet.
	noPassword bool
	// onRequest may answer a signaling request itself; nil, false leaves it to the usual answers.
	onRequest func(r request) (any, *signalapi.Refusal, bool)
	// answers are canned replies of other endpoints by "METHOD path".
	answers map[string]any

	mu       sync.Mutex // guards the following
	requests []request
	sockets  []*websocket.Conn
	calls    []string
	down     bool
}

type request struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

const linkToken = "one-time-token"

func newGateway(t testing.TB, h *host) *gateway {
	t.Helper()
	g := &gateway{t: t, host: h, answers: map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+signalapi.PathSignIn, g.signIn)
	mux.HandleFunc(signalapi.PathSignal, g.signal)
	mux.HandleFunc("/v1/", g.other)
	mux.Handle("/", web.Handler())
	g.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		g.cutSignaling()
		g.server.Close()
	})
	return g
}

func (g *gateway) link() string { return g.server.URL + "/" + signalapi.LinkFragment + linkToken }

func (g *gateway) me() signalapi.Me {
	return signalapi.Me{Name: "anna", Role: "admin", Admin: g.accounts, Accounts: g.accounts, Password: !g.noPassword}
}

func (g *gateway) signIn(w http.ResponseWriter, r *http.Request) {
	var s signalapi.SignIn
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil || r.Header.Get(signalapi.CSRFHeader) == "" {
		g.refuse(w, http.StatusBadRequest, signalapi.ReasonBadRequest, "bad sign-in")
		return
	}
	switch {
	case s.Link == linkToken:
	case s.Link != "":
		g.refuse(w, http.StatusUnauthorized, signalapi.ReasonLinkUsed, "This link has been used. Ask for a new one.")
		return
	case s.Name != "anna" || s.Password != "correct horse":
		g.refuse(w, http.StatusUnauthorized, signalapi.ReasonBadCredentials, "name or password is wrong")
		return
	case s.TOTP == "":
		g.refuse(w, http.StatusUnauthorized, signalapi.ReasonTOTPRequired, "a code is needed")
		return
	case s.TOTP != "123456":
		g.refuse(w, http.StatusUnauthorized, signalapi.ReasonBadCredentials, "the code is wrong")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "wavry_login", Value: "yes", Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	g.json(w, g.me())
}

func (g *gateway) other(w http.ResponseWriter, r *http.Request) {
	call := r.Method + " " + strings.TrimPrefix(r.URL.Path, "")
	g.mu.Lock()
	g.calls = append(g.calls, call)
	answer, ok := g.answers[call]
	g.mu.Unlock()
	if r.URL.Path == signalapi.PathInfo {
		g.json(w, signalapi.Info{Version: "test", Accounts: g.accounts, OIDC: "Continue with Example"})
		return
	}
	if c, err := r.Cookie("wavry_login"); err != nil || c.Value != "yes" {
		g.refuse(w, http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "sign in first")
		return
	}
	switch {
	case call == "POST "+signalapi.PathSignOut:
		http.SetCookie(w, &http.Cookie{Name: "wavry_login", Path: "/", MaxAge: -1})
		g.json(w, struct{}{})
	case call == "GET "+signalapi.PathMe:
		g.json(w, g.me())
	case ok:
		g.json(w, answer)
	case call == "GET "+signalapi.PathDesktops:
		g.json(w, []signalapi.Desktop{{Pool: "default", Title: "Test desktop", Compositor: "test", Encoder: "x264", Free: 1, Slots: 1}})
	case r.Method == http.MethodGet:
		g.json(w, []struct{}{})
	default:
		g.json(w, struct{}{})
	}
}

func (g *gateway) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the browser went away
}

func (g *gateway) refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(signalapi.Refusal{Reason: reason, Message: message}) // the browser went away
}

func (g *gateway) signal(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	down := g.down
	g.mu.Unlock()
	if _, err := r.Cookie("wavry_login"); err != nil || down {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.sockets = append(g.sockets, c)
	g.mu.Unlock()
	for {
		var req request
		if err := wsjson.Read(r.Context(), c, &req); err != nil {
			return
		}
		g.mu.Lock()
		g.requests = append(g.requests, req)
		g.mu.Unlock()
		reply := signalapi.Reply{Type: signalapi.TypeReply, ID: req.ID}
		data, refusal := g.answer(req)
		reply.Data = data
		if refusal != nil {
			reply.Type, reply.Data = signalapi.TypeRefused, refusal
		}
		if err := wsjson.Write(r.Context(), c, reply); err != nil {
			return
		}
	}
}

func (g *gateway) answer(r request) (any, *signalapi.Refusal) {
	var wish struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(r.Data, &wish) == nil && wish.Key != "" {
		g.host.mu.Lock()
		g.host.pageKey = wish.Key
		g.host.mu.Unlock()
	}
	if g.onRequest != nil {
		if v, refusal, done := g.onRequest(r); done {
			return v, refusal
		}
	}
	switch r.Type {
	case signalapi.TypeConnect:
		return g.host.grant("session-1", true, false), nil
	case signalapi.TypeRenew:
		return signalapi.Renewed{Token: "lease-direct-renewed", LeaseExpiry: time.Now().Add(5 * time.Minute)}, nil
	case signalapi.TypeResume:
		return signalapi.Resumed{Alive: []string{"session-1"}}, nil
	case signalapi.TypeMove:
		return nil, &signalapi.Refusal{Reason: signalapi.ReasonHostUnavailable, Message: "there is no other path"}
	}
	return struct{}{}, nil
}

// event sends an event to every open page.
func (g *gateway) event(e signalapi.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.sockets {
		_ = wsjson.Write(g.t.Context(), c, signalapi.Reply{Type: signalapi.TypeEvent, Data: e}) // old sockets are closed
	}
}

// cutSignaling closes every signaling socket, as a restart of the gateway does.
func (g *gateway) cutSignaling() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.sockets {
		_ = c.CloseNow() // closed twice is closed
	}
	g.sockets = nil
}

// asked returns the signaling requests of one type so far.
func (g *gateway) asked(kind string) []request {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []request
	for _, r := range g.requests {
		if r.Type == kind {
			out = append(out, r)
		}
	}
	return out
}
