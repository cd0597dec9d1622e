package hostruntime_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/proof"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a real host on loopback with a source the test drives.
type rig struct {
	t      *testing.T
	host   *hostruntime.Host
	source *source
	signer *lease.Signer
	key    *proof.Key // of the viewers' pages
	ended  chan *session.EndedError
}

func newRig(t *testing.T, change func(*hostruntime.Config)) *rig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := lease.NewSigner("test", private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := lease.NewKeySet(lease.Key{ID: "test", Public: public})
	if err != nil {
		t.Fatal(err)
	}
	key, err := proof.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, source: newSource(), signer: signer, key: key, ended: make(chan *session.EndedError, 4)}
	cfg := hostruntime.Config{
		ID: "host-1", Identity: private, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Slots: 1,
		Verify:    keys.VerifyViewer,
		NewSource: func(string) (session.Source, error) { return r.source, nil },
		Observer:  r,
		Registry:  prometheus.NewRegistry(),
	}
	if change != nil {
		change(&cfg)
	}
	if r.host, err = hostruntime.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("host:", err)
		}
	})
	<-r.host.Ready()
	return r
}

func (r *rig) ViewerJoined(lease.ViewerClaims, bool)               {}
func (r *rig) ViewerShown(lease.ViewerClaims, bool, time.Duration) {}
func (r *rig) ViewerLeft(lease.ViewerClaims)                       {}
func (r *rig) SessionEnded(_ string, why *session.EndedError)      { r.ended <- why }

func (r *rig) token(change func(*lease.ViewerClaims)) string {
	r.t.Helper()
	now := time.Now()
	c := lease.ViewerClaims{
		Lease: rand.Text(), Session: "s1", Host: "host-1", Viewer: "v1", Role: lease.RoleControl, Key: lease.Confirmation{Thumbprint: r.key.Thumbprint()},
		NotBefore: now, Expiry: now.Add(lease.Lifetime),
	}
	if change != nil {
		change(&c)
	}
	token, err := r.signer.SignViewer(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// viewer is a connected test viewer.
type viewer struct {
	*transport.ViewerConn
	t        *testing.T
	control  io.ReadWriteCloser
	messages *streamwire.MessageReader
}

func (r *rig) prepare(token string) hostruntime.Prepared {
	r.t.Helper()
	p, err := r.host.Prepare(token, "Ada")
	if err != nil {
		r.t.Fatal("prepare:", err)
	}
	return p
}

func (r *rig) dial(token string, p hostruntime.Prepared) (*transport.ViewerConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return transport.Dial(ctx, "https://"+p.Direct[0].String()+transport.PathSession+token, p.Certificate.Hashes)
}

func (r *rig) connect(token string) *viewer {
	r.t.Helper()
	return r.connectAs(token, r.prepare(token), streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
}

func (r *rig) connectAs(token string, p hostruntime.Prepared, hello streamwire.Hello) *viewer {
	r.t.Helper()
	conn, err := r.dial(token, p)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	control, err := conn.Greet(r.t.Context(), &hello, r.host.Identity(), r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return &viewer{ViewerConn: conn, t: r.t, control: control, messages: streamwire.NewMessageReader(control)}
}

// expect reads control messages until one has the type of the result.
func expect[M streamwire.Message](v *viewer) M {
	v.t.Helper()
	for {
		m, err := v.messages.Next()
		if err != nil {
			v.t.Fatalf("waiting for %T: %v", *new(M), err)
		}
		if m, ok := m.(M); ok {
			return m
		}
	}
}

func (v *viewer) unit() (streamwire.VideoHeader, string) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	h, data, err := v.AcceptUnit(ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	return h, string(data)
}

func (v *viewer) send(m streamwire.Message) {
	v.t.Helper()
	if _, err := v.control.Write(streamwire.AppendMessage(nil, m)); err != nil {
		v.t.Fatal(err)
	}
}

// A viewer with a good lease is welcomed, a keyframe is asked for, and units arrive with their sequence and stages.
func TestStream(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	if w := expect[*streamwire.Welcome](v); w.Session != "s1" || w.Role != streamwire.RoleControl {
		t.Fatalf("welcome %+v", w)
	}
	r.source.wait(t, "a keyframe request", func() bool { return r.source.keyframes > 0 })
	r.source.emit(false, "undecodable")
	r.source.emit(true, "key")
	if h, data := v.unit(); data != "key" || !h.Keyframe || h.Sequence != 0 || h.Width != 64 {
		t.Fatalf("first unit %+v %q", h, data)
	}
	r.source.emit(false, "delta")
	if h, data := v.unit(); data != "delta" || h.Keyframe || h.Sequence != 1 {
		t.Fatalf("second unit %+v %q", h, data)
	}
	if s := expect[*streamwire.StateChange](v); s.State != streamwire.StateLive && s.State != streamwire.StateStarting {
		t.Fatalf("state %+v", s)
	}
}

// The grant's certificate statement is signed by the host's identity.
func TestPrepareSignsCertificate(t *testing.T) {
	r := newRig(t, nil)
	p := r.prepare(r.token(nil))
	statement := signalapi.CertificateStatement("s1", p.Certificate.Expiry, p.Certificate.Hashes)
	if !ed25519.Verify(r.host.Identity(), statement, p.Certificate.Signature) {
		t.Error("signature does not verify")
	}
	if message := masterapi.CertificateMessage(p.Certificate.Hashes, "s1", p.Certificate.Expiry); !bytes.Equal(message, statement) {
		t.Errorf("the master checks %x, the browser %x", message, statement)
	}
}

// Input reaches the source in order, and the next picture carries the id of the last input.
func TestInputIsMarked(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	input, err := v.OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	b = streamwire.AppendMessage(b, &streamwire.Key{ID: 7, Code: 30, Down: true})
	b = streamwire.AppendMessage(b, &streamwire.Button{ID: 8, Code: 0x110, Down: true, Placed: true, X: 65535})
	if _, err := input.Write(b); err != nil {
		t.Fatal(err)
	}
	r.source.wait(t, "key, motion and button", func() bool { return len(r.source.input) == 3 })
	if k := r.source.input[0].GetKey(); k == nil || k.Code != 30 {
		t.Errorf("first event %v", r.source.input[0])
	}
	if m := r.source.input[1].GetMotionAbsolute(); m == nil || m.X != 1 {
		t.Errorf("second event %v", r.source.input[1])
	}
	for last := uint32(0); last != 8; { // the mark is set after Inject returned, a moment after it was seen
		r.source.emit(true, "key")
		h, _ := v.unit()
		last = h.LastInput
	}
}

// Datagrams move the pointer; stale and malformed ones do nothing.
func TestMotionDatagrams(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	for _, d := range [][]byte{
		streamwire.AppendMotionRelative(nil, streamwire.MotionRelative{ID: 2, DX: 512, DY: -256}),
		streamwire.AppendMotionRelative(nil, streamwire.MotionRelative{ID: 1, DX: 99999}), // stale
		{0x33, 1, 2}, {}, {0xff},
		streamwire.AppendMotionRelative(nil, streamwire.MotionRelative{ID: 4, DX: 768, DY: -256}), // 3 was lost, nothing of it is
	} {
		if err := v.SendDatagram(d); err != nil {
			t.Fatal(err)
		}
	}
	r.source.wait(t, "all motion", func() bool {
		var dx, dy float64
		for _, e := range r.source.input {
			dx, dy = dx+e.GetMotionRelative().GetDx(), dy+e.GetMotionRelative().GetDy()
		}
		return dx == 3 && dy == -1
	})
}

// A ping is answered with the viewer's time and the host's.
func TestPing(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	if err := v.SendDatagram(streamwire.AppendPing(nil, streamwire.Ping{ID: 3, ViewerTime: 42})); err != nil {
		t.Fatal(err)
	}
	b, err := v.ReceiveDatagram(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var d streamwire.Datagram
	if err := streamwire.ParseDatagram(&d, b); err != nil || d.Pong.ID != 3 || d.Pong.ViewerTime != 42 || d.Pong.HostTime == 0 {
		t.Fatalf("pong %+v, %v", d.Pong, err)
	}
}

// Leases that are not genuine get no connection; genuine ones that are useless get a reason.
func TestBadLeases(t *testing.T) {
	r := newRig(t, nil)
	p := r.prepare(r.token(nil))
	_, strangerKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := lease.NewSigner("test", strangerKey)
	if err != nil {
		t.Fatal(err)
	}
	genuine := r.signer
	good := r.token(nil)
	r.signer = stranger
	forged := r.token(nil)
	r.signer = genuine
	for name, token := range map[string]string{
		"garbage": "garbage", "truncated": good[:len(good)-8], "forged": forged,
		"other host": r.token(func(c *lease.ViewerClaims) { c.Host = "host-2" }),
	} {
		if c, err := r.dial(token, p); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("%s: connected or another error: %v", name, err)
			if c != nil {
				c.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		token string
		want  streamwire.Code
	}{
		"expired": {r.token(func(c *lease.ViewerClaims) {
			c.NotBefore, c.Expiry = c.NotBefore.Add(-time.Hour), c.Expiry.Add(-time.Hour)
		}), streamwire.CodeLease},
		"unknown session": {r.token(func(c *lease.ViewerClaims) { c.Session = "s2" }), streamwire.CodeEnded},
	} {
		v := r.connectAs(c.token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
		if bye := expect[*streamwire.Bye](v); bye.Code != c.want || bye.Text == "" {
			t.Errorf("%s: bye %v %q, want %v", name, bye.Code, bye.Text, c.want)
		}
	}
}

// Another certificate than the granted one is refused by the viewer.
func TestWrongCertificateHash(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	p := r.prepare(token)
	p.Certificate.Hashes = [][]byte{make([]byte, 32)}
	if c, err := r.dial(token, p); err == nil {
		c.Close()
		t.Fatal("connected to a host with another certificate")
	}
}

// Viewers of another version, or without a decoder, are told so.
func TestBadHello(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	p := r.prepare(token)
	for name, c := range map[string]struct {
		hello streamwire.Hello
		want  streamwire.Code
	}{
		"version": {streamwire.Hello{Version: 99, Codecs: []media.Codec{media.CodecH264}}, streamwire.CodeVersion},
		"codec":   {streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecAV1}}, streamwire.CodeProtocol},
	} {
		v := r.connectAs(token, p, c.hello)
		if bye := expect[*streamwire.Bye](v); bye.Code != c.want {
			t.Errorf("%s: bye %v, want %v", name, bye.Code, c.want)
		}
	}
}

// Garbage on the control stream ends that viewer with a reason, and only that viewer.
func TestGarbageOnControl(t *testing.T) {
	r := newRig(t, nil)
	good := r.connect(r.token(nil))
	bad := r.connect(r.token(func(c *lease.ViewerClaims) { c.Viewer, c.Role = "v2", lease.RoleWatch }))
	expect[*streamwire.Welcome](bad)
	if _, err := bad.control.Write([]byte{0x40, 0, 0, 1, 0}); err != nil {
		t.Fatal(err)
	}
	if bye := expect[*streamwire.Bye](bad); bye.Code != streamwire.CodeProtocol {
		t.Errorf("bye %+v", bye)
	}
	expect[*streamwire.Welcome](good)
	r.source.emit(true, "key")
	if _, data := good.unit(); data != "key" {
		t.Errorf("good viewer got %q", data)
	}
}

// One viewer controls; others may watch, and their input is refused.
func TestSecondControllerAndWatchers(t *testing.T) {
	r := newRig(t, nil)
	first := r.connect(r.token(nil))
	expect[*streamwire.Welcome](first)
	second := r.connect(r.token(func(c *lease.ViewerClaims) { c.Viewer = "v2" }))
	if bye := expect[*streamwire.Bye](second); bye.Code != streamwire.CodeControlled {
		t.Errorf("second controller: %+v", bye)
	}
	watcher := r.connect(r.token(func(c *lease.ViewerClaims) { c.Viewer, c.Role = "v3", lease.RoleWatch }))
	if w := expect[*streamwire.Welcome](watcher); w.Role != streamwire.RoleWatch || w.Input {
		t.Errorf("watcher's welcome %+v", w)
	}
	r.source.emit(true, "key")
	for _, v := range []*viewer{first, watcher} {
		if _, data := v.unit(); data != "key" {
			t.Errorf("got %q", data)
		}
	}
	input, err := watcher.OpenInput(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := input.Write(streamwire.AppendMessage(nil, &streamwire.Key{ID: 1, Code: 30, Down: true})); err != nil {
		t.Fatal(err)
	}
	if bye := expect[*streamwire.Bye](watcher); bye.Code != streamwire.CodeProtocol {
		t.Errorf("watcher that types: %+v", bye)
	}
}

// A connection that was lost is resumed with the same lease: same session, keyframe first.
func TestResume(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	first := r.connect(token)
	expect[*streamwire.Welcome](first)
	first.Close()
	second := r.connect(token)
	if w := expect[*streamwire.Welcome](second); w.Session != "s1" {
		t.Fatalf("welcome %+v", w)
	}
	r.source.emit(false, "delta")
	r.source.emit(true, "key")
	if h, data := second.unit(); data != "key" || h.Sequence != 0 {
		t.Errorf("first unit after resume %+v %q", h, data)
	}
	select {
	case why := <-r.ended:
		t.Fatal("session ended:", why)
	default:
	}
}

// A newer connection of the same viewer takes over without a gap, and the older one is told.
func TestTakeOver(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	first := r.connect(token)
	expect[*streamwire.Welcome](first)
	second := r.connect(token)
	expect[*streamwire.Welcome](second)
	r.source.emit(true, "key")
	if _, data := second.unit(); data != "key" {
		t.Errorf("new connection got %q", data)
	}
	if bye := expect[*streamwire.Bye](first); bye.Code != streamwire.CodeReplaced {
		t.Errorf("old connection: %+v", bye)
	}
	r.source.emit(false, "delta")
	if _, data := second.unit(); data != "delta" {
		t.Errorf("new connection got %q", data)
	}
}

// Nobody coming back within the grace time ends the session and frees the slot.
func TestGrace(t *testing.T) {
	r := newRig(t, func(c *hostruntime.Config) { c.Grace = 200 * time.Millisecond })
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	if n := r.host.FreeSlots(); n != 0 {
		t.Errorf("%d free slots with a session", n)
	}
	v.Close()
	if why := <-r.ended; why.Code != streamwire.CodeGrace {
		t.Errorf("ended with %v", why)
	}
	if n := r.host.FreeSlots(); n != 1 {
		t.Errorf("%d free slots after the session", n)
	}
}

// The controller's bye ends the visit at once.
func TestPoliteBye(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	v.send(&streamwire.Bye{Code: streamwire.CodeEnded})
	if why := <-r.ended; why.Code != streamwire.CodeEnded {
		t.Errorf("ended with %v", why)
	}
}

// A lease that is not renewed ends the session; a renewed one does not.
func TestLeaseExpiry(t *testing.T) {
	var skipped atomic.Int64
	r := newRig(t, func(c *hostruntime.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
	})
	v := r.connect(r.token(func(c *lease.ViewerClaims) { c.Lease = "l1" }))
	expect[*streamwire.Welcome](v)
	if err := r.host.Renew(r.token(func(c *lease.ViewerClaims) { c.Lease, c.Expiry = "l1", c.Expiry.Add(lease.Lifetime) })); err != nil {
		t.Fatal(err)
	}
	skipped.Store(int64(lease.Lifetime + lease.Skew + time.Second))
	r.source.emit(true, "key")
	if _, data := v.unit(); data != "key" {
		t.Fatal("renewed session ended")
	}
	skipped.Store(int64(2*lease.Lifetime + lease.Skew + time.Second))
	if bye := expect[*streamwire.Bye](v); bye.Code != streamwire.CodeLease {
		t.Errorf("bye %+v", bye)
	}
	<-r.ended
}

// A source that fails for good ends the session with its reason.
func TestSourceFails(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	r.source.fail <- errors.New("no encoder works: install one")
	if bye := expect[*streamwire.Bye](v); bye.Code != streamwire.CodeHost || !strings.Contains(bye.Text, "install one") {
		t.Errorf("bye %+v", bye)
	}
	<-r.ended
}

// Slots are counted, a drain refuses new sessions and tells the running ones.
func TestSlotsAndDrain(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	if _, err := r.host.Prepare(r.token(func(c *lease.ViewerClaims) { c.Session = "s2" }), "Bob"); !errors.Is(err, hostruntime.ErrFull) {
		t.Errorf("second session: %v", err)
	}
	r.host.Drain("This host is being maintained.")
	for s := expect[*streamwire.StateChange](v); s.State != streamwire.StateDraining; s = expect[*streamwire.StateChange](v) {
	}
	if _, err := r.host.Prepare(r.token(nil), "Ada"); err != nil {
		t.Errorf("running session while draining: %v", err)
	}
	r.host.End("s1", streamwire.CodeOperator, "done")
	<-r.ended
	if _, err := r.host.Prepare(r.token(nil), "Ada"); !errors.Is(err, hostruntime.ErrDraining) {
		t.Errorf("new session while draining: %v", err)
	}
}

// A viewer that asks for a keyframe gets one: the request reaches the source, and the deltas until then are not sent.
func TestKeyframeOnRequest(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	r.source.wait(t, "the first request", func() bool { return r.source.keyframes == 1 })
	r.source.emit(true, "key")
	v.unit()
	v.send(&streamwire.Keyframe{LastDecoded: 0})
	r.source.wait(t, "the second request", func() bool { return r.source.keyframes == 2 })
	r.source.emit(false, "undecodable")
	r.source.emit(true, "key 2")
	if _, data := v.unit(); data != "key 2" {
		t.Errorf("got %q", data)
	}
}

// Bad configuration is reported all at once.
func TestConfigProblems(t *testing.T) {
	_, err := hostruntime.New(hostruntime.Config{Bind: netip.MustParseAddrPort("0.0.0.0:0"), Slots: 65})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"host id", "identity", "slots = 65", "advertise"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in %v", want, err)
		}
	}
}

// A port in use is named, with what to do.
func TestPortInUse(t *testing.T) {
	r := newRig(t, nil)
	cfg := hostruntime.Config{
		ID: "host-2", Identity: make([]byte, ed25519.PrivateKeySize), Bind: r.host.Addresses()[0], Slots: 1,
		Verify:    (*lease.KeySet)(nil).VerifyViewer,
		NewSource: func(string) (session.Source, error) { return nil, errors.New("unused") },
		Observer:  r,
		Registry:  prometheus.NewRegistry(),
	}
	h, err := hostruntime.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "-bind-addr") {
		t.Errorf("error %v", err)
	}
}
