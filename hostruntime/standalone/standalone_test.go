package standalone_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/standalone"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host stands in for the host runtime, which has its own tests: it checks leases and has one slot.
type host struct {
	keys *lease.KeySet

	mu    sync.Mutex
	held  string
	ended chan string

	ending atomic.Bool
}

func (h *host) Prepare(token, _ string) (hostruntime.Prepared, error) {
	claims, err := h.keys.VerifyViewer(token, time.Now())
	if err != nil {
		return hostruntime.Prepared{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held != "" && h.held != claims.Session {
		return hostruntime.Prepared{}, hostruntime.ErrFull
	}
	h.held = claims.Session
	return hostruntime.Prepared{Direct: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4433")}}, nil
}

func (h *host) Renew(token string) error {
	_, err := h.keys.VerifyViewer(token, time.Now())
	return err
}

func (h *host) Ending(string) bool { return h.ending.Load() }

func (h *host) End(session string, _ streamwire.Code, _ string) { h.ended <- session }

func (h *host) FreeSlots() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held != "" {
		return 0
	}
	return 1
}

type rig struct {
	t    *testing.T
	s    *standalone.Server
	host *host
	url  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := lease.NewSigner("k", private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := lease.NewKeySet(lease.Key{ID: "k", Public: public})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{keys: keys, ended: make(chan string, 1)}
	s, err := standalone.New(standalone.Config{
		Bind: netip.MustParseAddrPort("127.0.0.1:0"), Host: h, HostID: "h", HostIdentity: public, Signer: signer, Slots: 1, Grace: 30 * time.Second,
		Desktop: func() signalapi.Desktop { return signalapi.Desktop{Pool: "local", Title: "This desktop"} },
		Web:     http.NotFoundHandler(),
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	return &rig{t: t, s: s, host: h, url: web.URL}
}

// browser signs in with a fresh link.
func (r *rig) browser() *http.Client {
	r.t.Helper()
	c := r.stranger()
	if status, _ := r.post(c, signalapi.PathSignIn, `{"link":"`+r.link()+`"}`); status != http.StatusOK {
		r.t.Fatalf("sign-in: status %d", status)
	}
	return c
}

func (r *rig) stranger() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Transport: &http.Transport{}}
	r.t.Cleanup(c.CloseIdleConnections)
	return c
}

func (r *rig) link() string {
	r.t.Helper()
	// SignInURL needs the bound address, which only Run knows; its token is what counts.
	token, err := r.s.NewLink()
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *rig) post(c *http.Client, path, body string) (int, signalapi.Refusal) {
	r.t.Helper()
	return r.do(c, http.MethodPost, path, body, map[string]string{signalapi.CSRFHeader: "1"})
}

func (r *rig) do(c *http.Client, method, path, body string, header map[string]string) (int, signalapi.Refusal) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var refusal signalapi.Refusal
	_ = json.NewDecoder(resp.Body).Decode(&refusal) // answers that are no refusal leave it empty
	return resp.StatusCode, refusal
}

// socket opens the signaling WebSocket.
func (r *rig) socket(c *http.Client) *websocket.Conn {
	r.t.Helper()
	ws, _, err := websocket.Dial(r.t.Context(), r.url+signalapi.PathSignal, &websocket.DialOptions{HTTPClient: c})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ws.CloseNow() })
	return ws
}

type reply struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

// ask sends a request and decodes the data of its answer.
func ask[T any](r *rig, ws *websocket.Conn, kind string, data any) (T, reply) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	id := rand.Text()
	if err := wsjson.Write(ctx, ws, signalapi.Request{Type: kind, ID: id, Data: data}); err != nil {
		r.t.Fatal(err)
	}
	for {
		var got reply
		if err := wsjson.Read(ctx, ws, &got); err != nil {
			r.t.Fatal(err)
		}
		if got.ID != id {
			continue
		}
		var v T
		if err := json.Unmarshal(got.Data, &v); err != nil {
			r.t.Fatal(err)
		}
		return v, got
	}
}

// A link signs one browser in, once; without it nothing is shown.
func TestOneTimeLink(t *testing.T) {
	r := newRig(t)
	c := r.stranger()
	if status, refusal := r.do(c, http.MethodGet, signalapi.PathDesktops, "", nil); status != http.StatusUnauthorized || refusal.Reason != signalapi.ReasonNotSignedIn {
		t.Errorf("stranger: %d %+v", status, refusal)
	}
	link := r.link()
	if status, _ := r.post(c, signalapi.PathSignIn, `{"link":"`+link+`"}`); status != http.StatusOK {
		t.Fatalf("first use: %d", status)
	}
	if status, refusal := r.post(r.stranger(), signalapi.PathSignIn, `{"link":"`+link+`"}`); status != http.StatusForbidden || refusal.Reason != signalapi.ReasonLinkUsed {
		t.Errorf("second use: %d %+v", status, refusal)
	}
	if status, _ := r.do(c, http.MethodGet, signalapi.PathMe, "", nil); status != http.StatusOK {
		t.Errorf("signed in: %d", status)
	}
	if status, _ := r.post(c, signalapi.PathSignOut, ""); status != http.StatusNoContent {
		t.Errorf("sign-out: %d", status)
	}
	if status, _ := r.do(c, http.MethodGet, signalapi.PathMe, "", nil); status != http.StatusUnauthorized {
		t.Errorf("after sign-out: %d", status)
	}
}

// Other sites, missing headers, garbage and floods get an answer that says why.
func TestBadRequests(t *testing.T) {
	r := newRig(t)
	c := r.browser()
	csrf := map[string]string{signalapi.CSRFHeader: "1"}
	for _, tt := range []struct {
		name, path, body string
		header           map[string]string
		want             int
	}{
		{"other origin", signalapi.PathSignOut, "", map[string]string{signalapi.CSRFHeader: "1", "Origin": "https://evil.example"}, http.StatusForbidden},
		{"no csrf header", signalapi.PathSignOut, "", nil, http.StatusForbidden},
		{"garbage", signalapi.PathSignIn, "garbage", csrf, http.StatusBadRequest},
		{"oversized", signalapi.PathSignIn, `{"link":"` + strings.Repeat("x", 1<<16) + `"}`, csrf, http.StatusRequestEntityTooLarge},
	} {
		if status, refusal := r.do(c, http.MethodPost, tt.path, tt.body, tt.header); status != tt.want || refusal.Message == "" {
			t.Errorf("%s: %d %+v, want %d", tt.name, status, refusal, tt.want)
		}
	}
}

// A page that reloads gets its session again; another login is refused while the slot is taken; an end frees it.
func TestConnect(t *testing.T) {
	r := newRig(t)
	c := r.browser()
	ws := r.socket(c)
	grant, got := ask[signalapi.Grant](r, ws, signalapi.TypeConnect, signalapi.Connect{Key: pageKey, Pool: "local"})
	if got.Type != signalapi.TypeReply || len(grant.Candidates) != 1 || !strings.HasPrefix(grant.Candidates[0].URL, "https://127.0.0.1:4433/session/v4.public.") {
		t.Fatalf("grant %+v", grant)
	}
	again, _ := ask[signalapi.Grant](r, r.socket(c), signalapi.TypeConnect, signalapi.Connect{Key: pageKey, Pool: "local"})
	if again.Session != grant.Session || again.Viewer != grant.Viewer {
		t.Errorf("reload got session %s, had %s", again.Session, grant.Session)
	}
	other := r.socket(r.browser())
	if refusal, got := ask[signalapi.Refusal](r, other, signalapi.TypeConnect, signalapi.Connect{Key: pageKey, Pool: "local"}); got.Type != signalapi.TypeRefused || refusal.Reason != signalapi.ReasonNoHost {
		t.Errorf("second login: %s %+v", got.Type, refusal)
	}
	if refusal, _ := ask[signalapi.Refusal](r, other, signalapi.TypeEnd, signalapi.SessionRef{Session: grant.Session}); refusal.Reason != signalapi.ReasonNoSession {
		t.Errorf("end of somebody else's session: %+v", refusal)
	}
	if renewed, _ := ask[signalapi.Renewed](r, ws, signalapi.TypeRenew, signalapi.SessionRef{Session: grant.Session}); renewed.Token == "" {
		t.Error("renewed without a token")
	}
	ask[struct{}](r, ws, signalapi.TypeEnd, signalapi.SessionRef{Session: grant.Session})
	if ended := <-r.host.ended; ended != grant.Session {
		t.Errorf("ended %s", ended)
	}
}

// A page that asks again while its last session says goodbye gets a new one, as soon as that is gone.
func TestConnectAfterTheEnd(t *testing.T) {
	r := newRig(t)
	ws := r.socket(r.browser())
	first, _ := ask[signalapi.Grant](r, ws, signalapi.TypeConnect, signalapi.Connect{Key: pageKey})
	r.host.ending.Store(true)
	gone := time.AfterFunc(100*time.Millisecond, func() {
		r.host.mu.Lock()
		r.host.held = ""
		r.host.mu.Unlock()
		r.s.SessionEnded(first.Session, &session.EndedError{Code: streamwire.CodeEnded})
	})
	defer gone.Stop()
	second, got := ask[signalapi.Grant](r, ws, signalapi.TypeConnect, signalapi.Connect{Key: pageKey})
	if got.Type != signalapi.TypeReply || second.Session == first.Session {
		t.Errorf("%s, session %s after %s", got.Type, second.Session, first.Session)
	}
}

// A page that was cut off learns which of its sessions are alive.
func TestResume(t *testing.T) {
	r := newRig(t)
	c := r.browser()
	grant, _ := ask[signalapi.Grant](r, r.socket(c), signalapi.TypeConnect, signalapi.Connect{Key: pageKey})
	resumed, _ := ask[signalapi.Resumed](r, r.socket(c), signalapi.TypeResume, signalapi.Resume{Sessions: []string{grant.Session, "gone"}})
	if len(resumed.Alive) != 1 || resumed.Alive[0] != grant.Session || len(resumed.Ended) != 1 || resumed.Ended[0].Session != "gone" {
		t.Errorf("resumed %+v", resumed)
	}
}

// Unknown and malformed messages are refused, and the end of a session reaches the page.
func TestSignalFaultsAndEvents(t *testing.T) {
	r := newRig(t)
	ws := r.socket(r.browser())
	if refusal, _ := ask[signalapi.Refusal](r, ws, "nonsense", nil); refusal.Reason != signalapi.ReasonBadRequest {
		t.Errorf("unknown type: %+v", refusal)
	}
	grant, _ := ask[signalapi.Grant](r, ws, signalapi.TypeConnect, signalapi.Connect{Key: pageKey})
	r.s.SessionEnded(grant.Session, &session.EndedError{Code: streamwire.CodeHost, Text: "the encoder failed"})
	var got struct {
		Type string
		Data signalapi.Event
	}
	if err := wsjson.Read(t.Context(), ws, &got); err != nil || got.Data.Kind != signalapi.EventEnded || got.Data.Message != "the encoder failed" {
		t.Errorf("event %+v, %v", got, err)
	}
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInvalidFramePayloadData {
		t.Errorf("after garbage: %v", err)
	}
}

// A page is served without TLS on loopback only.
func TestPlainHTTPOnlyOnLoopback(t *testing.T) {
	_, err := standalone.New(standalone.Config{
		Bind: netip.MustParseAddrPort("0.0.0.0:0"), Host: &host{}, Signer: new(lease.Signer), Web: http.NotFoundHandler(),
		Desktop: func() signalapi.Desktop { return signalapi.Desktop{} },
	})
	if err == nil || !strings.Contains(err.Error(), "-tls-cert-file") {
		t.Errorf("error %v", err)
	}
}

// pageKey is the thumbprint of a key that a page would hold.
const pageKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
