package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/web"
)

type watchStream = connect.ServerStream[masterapi.SessionEvent]

// TestMain finds goroutines that outlive Run. Two of certmagic's cannot be ended: its process-wide rate limiter, and the keeper of a
// lock file, which notices within five seconds that the lock is gone.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// testDeadline bounds each wait of a test.
const testDeadline = 20 * time.Second

// site is a running gateway with its fleet.
type site struct {
	*Gateway
	t     *testing.T
	fleet *fleet
	cfg   Config
	first string // the first admin's link
	stop  func()
}

// testConfig is a gateway on loopback with cheap passwords and a store of its own.
func testConfig(t *testing.T, f *fleet) Config {
	cfg := DefaultConfig()
	cfg.BindAddr, cfg.OpsAddr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Store.DSN, cfg.KeyFile = filepath.Join(t.TempDir(), "gw.sqlite"), filepath.Join(t.TempDir(), "key")
	cfg.Password = credential.Params{Memory: 64, Time: 1, Threads: 1}
	cfg.HashSlots = 4
	cfg.Master = f.client(t)
	cfg.Web = web.Handler()
	return cfg
}

func startSite(t *testing.T, change ...func(*Config)) *site {
	t.Helper()
	f := startFleet(t)
	cfg := testConfig(t, f)
	for _, c := range change {
		c(&cfg)
	}
	return runSite(t, f, cfg)
}

// runSite starts a gateway; stop may be called before the test ends, to start another one on the same store.
func runSite(t *testing.T, f *fleet, cfg Config) *site {
	t.Helper()
	s := &site{t: t, fleet: f, cfg: cfg}
	cfg.Announce = func(link string) { s.first = link }
	cfg.Metrics = nil
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }() // ends with stop
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(testDeadline):
			t.Error("the gateway does not stop")
		}
	}
	t.Cleanup(s.stop)
	select {
	case <-g.Ready():
	case err := <-done:
		t.Fatalf("run: %v", err)
	case <-time.After(testDeadline):
		t.Fatal("the gateway does not start")
	}
	return s
}

// browser is a person's browser: cookies, and the headers that the web app sends.
type browser struct {
	t      *testing.T
	site   *site
	client *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &browser{s.t, s, &http.Client{Jar: jar, Transport: transport, Timeout: testDeadline,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// try sends a request and returns status and body.
func (b *browser) try(method, path string, body any, headers ...string) (int, []byte) {
	b.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	default:
		data, err := json.Marshal(v)
		if err != nil {
			b.t.Fatal(err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, b.site.URL()+path, r)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set(signalapi.CSRFHeader, "1")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", b.site.URL())
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, data
}

// ok sends a request that must succeed and decodes the answer.
func ok[T any](b *browser, method, path string, body any) (v T) {
	b.t.Helper()
	status, data := b.try(method, path, body)
	if status != http.StatusOK {
		b.t.Fatalf("%s %s: %d %s", method, path, status, data)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		b.t.Fatalf("%s %s: %v in %s", method, path, err, data)
	}
	return v
}

// refused sends a request that must be refused with this status and reason.
func (b *browser) refused(status int, reason, method, path string, body any, headers ...string) signalapi.Refusal {
	b.t.Helper()
	got, data := b.try(method, path, body, headers...)
	var r signalapi.Refusal
	if err := json.Unmarshal(data, &r); err != nil || got != status || r.Reason != reason || r.Message == "" {
		b.t.Fatalf("%s %s: %d %s, want %d %s", method, path, got, data, status, reason)
	}
	return r
}

type none = map[string]any

func token(link string) string {
	_, t, _ := strings.Cut(link, signalapi.LinkFragment)
	return t
}

const goodPassword = "a long enough password"

// admin signs in the first admin.
func (s *site) admin() *browser {
	s.t.Helper()
	b := s.browser()
	me := ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(s.first), Name: "root", Password: goodPassword})
	if me.Role != "admin" || me.Name != "root" {
		s.t.Fatalf("first admin %+v", me)
	}
	return b
}

// person makes an account by invitation and signs it in.
func (s *site) person(admin *browser, name string, role store.Role) (*browser, signalapi.User) {
	s.t.Helper()
	invite := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: name, Role: string(role)})
	b := s.browser()
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(invite.URL), Password: goodPassword})
	return b, invite.User
}

// signal is the web app's end of the WebSocket.
type signal struct {
	t    *testing.T
	conn *websocket.Conn
	// events that came while waiting for a reply
	events []signalapi.Event
}

func (b *browser) signal() *signal {
	b.t.Helper()
	conn, resp, err := b.dial(b.site.URL())
	if err != nil {
		b.t.Fatalf("dial signaling: %v (%v)", err, resp)
	}
	b.t.Cleanup(func() { _ = conn.CloseNow() })
	return &signal{t: b.t, conn: conn}
}

func (b *browser) dial(origin string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), testDeadline)
	defer cancel()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	client := *b.client
	client.Timeout = 0
	return websocket.Dial(ctx, b.site.URL()+signalapi.PathSignal, &websocket.DialOptions{HTTPClient: &client, HTTPHeader: h})
}

// answer is a signalapi.Reply with its data unread.
type answer struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

func (s *signal) read() (answer, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), testDeadline)
	defer cancel()
	_, data, err := s.conn.Read(ctx)
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(data, &a); err != nil {
		s.t.Fatalf("answer %s: %v", data, err)
	}
	return a, nil
}

func (s *signal) send(text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testDeadline)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// ask sends a request and returns its answer; events that come before it are kept.
func (s *signal) ask(kind, id string, data any) answer {
	s.t.Helper()
	text, err := json.Marshal(signalapi.Request{Type: kind, ID: id, Data: data})
	if err != nil {
		s.t.Fatal(err)
	}
	s.send(string(text))
	for {
		a, err := s.read()
		if err != nil {
			s.t.Fatalf("%s: %v", kind, err)
		}
		if a.Type == signalapi.TypeEvent {
			s.events = append(s.events, into[signalapi.Event](s.t, a.Data))
			continue
		}
		if a.ID != id {
			s.t.Fatalf("%s: answer to %q: %s", kind, a.ID, a.Data)
		}
		return a
	}
}

// event waits for the next event.
func (s *signal) event() signalapi.Event {
	s.t.Helper()
	if len(s.events) > 0 {
		e := s.events[0]
		s.events = s.events[1:]
		return e
	}
	a, err := s.read()
	if err != nil || a.Type != signalapi.TypeEvent {
		s.t.Fatalf("want an event, got %+v, %v", a, err)
	}
	return into[signalapi.Event](s.t, a.Data)
}

func into[T any](t *testing.T, data json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

func (s *signal) refused(reason, kind, id string, data any) {
	s.t.Helper()
	a := s.ask(kind, id, data)
	if r := into[signalapi.Refusal](s.t, a.Data); a.Type != signalapi.TypeRefused || r.Reason != reason || r.Message == "" {
		s.t.Fatalf("%s: %s %s, want refusal %s", kind, a.Type, a.Data, reason)
	}
}

// pageKey is the thumbprint of the key that a page would hold; the gateway only passes it on.
const pageKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

// connect asks for a desktop and must get it.
func (s *signal) connect(id string) signalapi.Grant {
	s.t.Helper()
	a := s.ask(signalapi.TypeConnect, id, signalapi.Connect{Key: pageKey, Pool: "gnome", Width: 1280, Height: 720})
	if a.Type != signalapi.TypeReply {
		s.t.Fatalf("connect: %s", a.Data)
	}
	return into[signalapi.Grant](s.t, a.Data)
}

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(testDeadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}
