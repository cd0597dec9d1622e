package revocation

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/gateway"
	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/masterlink"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master"
	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/seal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"))
}

const (
	// bite is how soon the end of a right must have its effect.
	bite = 2 * time.Second
	// patience for what is not measured.
	patience = 20 * time.Second

	password = "a long enough password"
)

// fleet is a real master, a real host and two real gateways that have nothing in common but their store.
type fleet struct {
	t         *testing.T
	authority *identity.Authority
	serials   map[string]string // of the certificates that services show, by role/name
	master    *master.Master
	host      *hostruntime.Host
	link      *masterlink.Link
	unlink    context.CancelFunc
	gateways  [2]*gateway.Gateway
	cfg       gateway.Config
	admin     *browser
}

// run runs f until the test ends or the result is called, which waits.
func run(t *testing.T, f func(context.Context) error) context.CancelFunc {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with cancel
		defer close(done)
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, serials: map[string]string{}}
	f.startMaster()
	f.startHost()
	f.cfg = gateway.DefaultConfig()
	f.cfg.BindAddr, f.cfg.OpsAddr, f.cfg.OpenPools = "127.0.0.1:0", "", []string{"desks"}
	f.cfg.Store.DSN, f.cfg.KeyFile = filepath.Join(t.TempDir(), "gw.sqlite"), filepath.Join(t.TempDir(), "key")
	f.cfg.Password, f.cfg.HashSlots, f.cfg.MaxSessions = credential.Params{Memory: 64, Time: 1, Threads: 1}, 4, 0
	f.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	first := make(chan string, 1)
	for i := range f.gateways {
		cfg := f.cfg
		cfg.ID = fmt.Sprint("gw", i)
		cfg.Master = f.certified(identity.RoleGateway, cfg.ID)
		f.cfg.Master = cfg.Master
		cfg.Announce = func(link string) { first <- link }
		g, err := gateway.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		run(t, g.Run)
		<-g.Ready()
		f.gateways[i] = g
		if i == 0 {
			f.admin = f.browser(0)
			_, token, _ := strings.Cut(<-first, signalapi.LinkFragment)
			f.admin.post(signalapi.PathSignIn, signalapi.SignIn{Link: token, Name: "root", Password: password})
		}
	}
	return f
}

func (f *fleet) startMaster() {
	cfg := master.DefaultConfig()
	cfg.ID, cfg.Bind, cfg.OpsAddr, cfg.KEK, cfg.KeyPublishAhead = "m1", "127.0.0.1:0", "", seal.Ephemeral(), 0
	authority, _, err := identity.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	if cfg.Identity, err = authority.Source(identity.Identity{Role: identity.RoleMaster, Name: "m1"}, time.Now(), time.Hour); err != nil {
		f.t.Fatal(err)
	}
	if cfg.HostRules, err = hostrule.Parse([]string{"h1=desks|vault/64"}); err != nil {
		f.t.Fatal(err)
	}
	f.authority = authority
	if f.master, err = master.New(cfg); err != nil {
		f.t.Fatal(err)
	}
	run(f.t, f.master.Run)
	<-f.master.Listening()
	f.eventually("the master is ready", func() bool { return f.master.Ready() == nil })
}

// client is a client of the test's own.
func (f *fleet) client(role identity.Role) *masterclient.Client {
	f.t.Helper()
	return f.certified(role, "test")
}

// certified is a client with a certificate, whose serial number is kept.
func (f *fleet) certified(role identity.Role, name string) *masterclient.Client {
	f.t.Helper()
	id := identity.Identity{Role: role, Name: name}
	source, err := f.authority.Source(id, time.Now(), time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	config := source.Client(identity.RoleMaster)
	shown, err := config.GetClientCertificate(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.serials[id.String()] = shown.Leaf.SerialNumber.Text(16)
	c, err := masterclient.New(masterclient.Config{Addresses: []string{f.master.Address()}, TLS: config})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

func (f *fleet) startHost() {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	verifier, err := masterclient.NewVerifier("")
	if err != nil {
		f.t.Fatal(err)
	}
	if f.link, err = masterlink.New(masterlink.Config{
		Client: f.certified(identity.RoleHost, "h1"), Verifier: verifier, ID: "h1", Pool: "desks", Slots: hostruntime.MaxSlots, Identity: private,
	}); err != nil {
		f.t.Fatal(err)
	}
	f.host, err = hostruntime.New(hostruntime.Config{
		ID: "h1", Identity: private, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Slots: hostruntime.MaxSlots, Verify: f.link.Verify, Observer: f.link,
		NewSource: func(string) (session.Source, error) { return source{}, nil }, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.link.Bind(f.host)
	run(f.t, f.host.Run)
	f.unlink = run(f.t, f.link.Run)
	f.eventually("the host is linked", f.link.Linked)
}

func (f *fleet) eventually(what string, ok func() bool) {
	f.t.Helper()
	limit, tick := time.NewTimer(patience), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			f.t.Fatalf("never: %s", what)
		}
	}
}

// source shows a keyframe fifty times a second.
type source struct{}

func (source) Run(ctx context.Context, sink session.Sink) error {
	sink.Event(session.Event{Started: &session.Started{Capture: "fake", Encoder: "fake", Input: true, Width: 64, Height: 48}})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := media.Now()
			sink.Unit(media.AccessUnit{Codec: media.CodecH264, Keyframe: true, Width: 64, Height: 48, CaptureTime: now, HandoffTime: now, EncodeTime: now, Data: []byte("key")})
		}
	}
}
func (source) Inject(context.Context, *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	return &pluginpb.Injected{Time: int64(media.Now())}, nil
}
func (source) Resize(context.Context, session.Area) error { return nil }
func (source) Adjust(int, float64)                        {}
func (source) RequestKeyframe()                           {}

// browser is one signed-in browser at one of the gateways.
type browser struct {
	t       *testing.T
	url     string
	address string // where the gateway sees it: each browser has its own
	http    *http.Client
}

func (f *fleet) browser(gateway int) *browser {
	f.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	browsers++
	address := fmt.Sprintf("198.51.%d.%d", browsers/250, 1+browsers%250)
	b := &browser{f.t, f.gateways[gateway].URL(), address, &http.Client{Jar: jar, Transport: &http.Transport{}, Timeout: patience}}
	f.t.Cleanup(b.http.CloseIdleConnections)
	return b
}

// browsers so far, for their addresses.
var browsers int

func (b *browser) do(method, path string, body any) []byte {
	b.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	r, err := http.NewRequest(method, b.url+path, bytes.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set(signalapi.CSRFHeader, "1")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Forwarded-For", b.address)
	answer, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %d %s %v", method, path, answer.StatusCode, data, err)
	}
	return data
}

func (b *browser) post(path string, body any) []byte { b.t.Helper(); return b.do("POST", path, body) }

// person is an account with one signed-in browser.
type person struct {
	*browser
	user   signalapi.User
	socket *socket
}

// person makes an account whose browser is signed in at a gateway.
func (f *fleet) person(gateway int, name string, role store.Role) *person {
	f.t.Helper()
	name = fmt.Sprint(name, browsers)
	var invite signalapi.Invite
	into(f.t, f.admin.post(signalapi.PathAdminUsers, signalapi.NewUser{Name: name, Role: string(role)}), &invite)
	b := f.browser(gateway)
	_, token, _ := strings.Cut(invite.URL, signalapi.LinkFragment)
	b.post(signalapi.PathSignIn, signalapi.SignIn{Link: token, Password: password})
	return &person{b, invite.User, b.signal()}
}

// again is another browser of the same person.
func (f *fleet) again(gateway int, p *person) *person {
	f.t.Helper()
	b := f.browser(gateway)
	b.post(signalapi.PathSignIn, signalapi.SignIn{Name: p.user.Name, Password: password})
	return &person{b, p.user, b.signal()}
}

func into(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}

// socket is the page's WebSocket. Its reader ends with it.
type socket struct {
	t       *testing.T
	conn    *websocket.Conn
	replies chan json.RawMessage
	over    chan struct{}
	offered sync.Map // ids of sessions in whose place the gateway offered another desktop
}

func (b *browser) signal() *socket {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	client := *b.http
	client.Timeout = 0
	conn, _, err := websocket.Dial(ctx, b.url+signalapi.PathSignal, &websocket.DialOptions{
		HTTPClient: &client, HTTPHeader: http.Header{"X-Forwarded-For": {b.address}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	s := &socket{t: b.t, conn: conn, replies: make(chan json.RawMessage, 1), over: make(chan struct{})}
	go s.read()
	b.t.Cleanup(func() { _ = conn.CloseNow(); <-s.over })
	return s
}

func (s *socket) read() {
	defer close(s.over)
	for {
		var m struct {
			Type string          `json:"type"`
			Data json.RawMessage `json:"data"`
		}
		if wsjson.Read(context.Background(), s.conn, &m) != nil {
			return
		}
		switch m.Type {
		case signalapi.TypeEvent:
			var e signalapi.Event
			if json.Unmarshal(m.Data, &e) == nil && e.Kind == signalapi.EventOffer {
				s.offered.Store(e.Session, true)
			}
		case signalapi.TypeReply:
			s.replies <- m.Data
		case signalapi.TypeRefused:
			s.replies <- nil
		}
	}
}

// connection is a page that shows pictures, and looks at nothing else it is told: the end of a right does not depend on its goodwill.
type connection struct {
	*transport.ViewerConn
	grant signalapi.Grant
	key   pageKey
	last  atomic.Int64 // when the newest picture came, of media.Now
}

// connect asks for a desktop, or to watch one, and waits for the first picture.
func (f *fleet) connect(p *person, c signalapi.Connect) *connection {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	key := newKey(f.t)
	key.name(&c)
	if err := wsjson.Write(ctx, p.socket.conn, signalapi.Request{Type: signalapi.TypeConnect, ID: rand.Text(), Data: c}); err != nil {
		f.t.Fatal(err)
	}
	v := &connection{key: key}
	select {
	case data := <-p.socket.replies:
		if data == nil {
			f.t.Fatalf("%s was refused", p.user.Name)
		}
		into(f.t, data, &v.grant)
	case <-ctx.Done():
		f.t.Fatal("no grant")
	}
	var err error
	if v.ViewerConn, err = v.dial(ctx); err != nil {
		f.t.Fatal(err)
	}
	showing := make(chan struct{})
	go func() { // ends with the connection
		defer close(showing)
		for {
			if _, _, err := v.AcceptUnit(context.Background()); err != nil {
				return
			}
			v.last.Store(int64(media.Now()))
		}
	}()
	f.t.Cleanup(func() { v.Close(); <-showing })
	f.eventually("the first picture", func() bool { return v.last.Load() > 0 })
	return v
}

// dial opens the grant's path and says what a page says first.
func (v *connection) dial(ctx context.Context) (*transport.ViewerConn, error) {
	conn, err := transport.Dial(ctx, v.grant.Candidates[0].URL, v.grant.Certificate.Hashes)
	if err != nil {
		return nil, err
	}
	hello := &streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}}
	if err := v.key.greet(ctx, conn, hello, v.grant.Host.Identity); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// comesBack tries the same token once more and reports whether a picture came.
func (v *connection) comesBack(ctx context.Context) bool {
	conn, err := v.dial(ctx)
	if err != nil {
		return false
	}
	defer conn.Close()
	_, _, err = conn.AcceptUnit(ctx)
	return err == nil && ctx.Err() == nil
}

// shows reports whether a picture came after t.
func (v *connection) shows(t media.Time) bool { return v.last.Load() > int64(t) }
