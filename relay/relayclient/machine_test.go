package relayclient

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/relay/relaywire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	control = netip.MustParseAddrPort("192.0.2.1:7480")
	media   = netip.MustParseAddrPort("192.0.2.1:7481")
	token   = "v4.public." + strings.Repeat("t", 200) + ".Zm9v"
)

// peer is a relay as a table of reactions: it reads what the client sends and answers as it is told to.
type peer struct {
	t       *testing.T
	private *ecdh.PrivateKey
	public  relaywire.PublicKey
	m       *machine
	now     time.Time
	bind    relaywire.Bind
	leg     relaywire.Key
	circuit relaywire.Key // the leg key of the circuit
}

func newPeer(t *testing.T) *peer {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, private: private, public: relaywire.PublicKey(private.PublicKey().Bytes()), now: time.Unix(1_800_000_000, 0)}
	p.m, err = newMachine(Config{Relay: control, PublicKey: p.public, Token: token, Send: func([]byte, netip.AddrPort) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *peer) tick(after time.Duration) error {
	p.now = p.now.Add(after)
	_, err := p.m.tick(p.now)
	return err
}

// sent returns what the client wants sent since it was asked last.
func (p *peer) sent() []packet {
	out := p.m.out
	p.m.out = nil
	return out
}

// one expects a single packet of a type to an address.
func (p *peer) one(want relaywire.Type, to netip.AddrPort) []byte {
	p.t.Helper()
	out := p.sent()
	if len(out) != 1 || out[0].to != to {
		p.t.Fatalf("sent %d packets, want one to %v", len(out), to)
	}
	got, err := relaywire.TypeOf(out[0].b)
	if err != nil || got != want {
		p.t.Fatalf("sent type %d (%v), want %d", got, err, want)
	}
	if want == relaywire.TypeBind || want == relaywire.TypeRenew {
		p.openBind(out[0].b)
	}
	return out[0].b
}

func (p *peer) openBind(b []byte) {
	p.t.Helper()
	if err := relaywire.ParseBind(b, &p.bind); err != nil {
		p.t.Fatal(err)
	}
	shared, err := relaywire.SharedKey(p.private, p.bind.HostKey, p.public, p.bind.HostKey)
	if err != nil {
		p.t.Fatal(err)
	}
	if got, ok := relaywire.OpenToken(b, &p.bind, &shared); !ok || got != p.m.token {
		p.t.Fatalf("token %q, %v", got, ok)
	}
	p.leg = relaywire.LegKey(shared, &p.bind.Nonce)
}

func (p *peer) give(from netip.AddrPort, b []byte, want bool) {
	p.t.Helper()
	if got := p.m.handle(from, b, p.now); got != want {
		p.t.Errorf("taken %v, want %v", got, want)
	}
}

func (p *peer) bound() []byte {
	b := relaywire.Bound{Circuit: 5, RequestID: p.bind.RequestID(), Port: media.Port(), KeepaliveMillis: 2000, ExpiryMillis: 1}
	return relaywire.AppendBound(nil, &b, &p.leg)
}

func (p *peer) events() (kinds []EventKind) {
	for _, e := range p.m.events {
		kinds = append(kinds, e.Kind)
	}
	p.m.events = nil
	return kinds
}

func (p *peer) wantEvents(want ...EventKind) {
	p.t.Helper()
	got := p.events()
	if len(got) != len(want) {
		p.t.Fatalf("events %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			p.t.Fatalf("events %v, want %v", got, want)
		}
	}
}

// up binds.
func (p *peer) up() {
	p.t.Helper()
	if err := p.tick(0); err != nil {
		p.t.Fatal(err)
	}
	p.one(relaywire.TypeBind, control)
	p.circuit = p.leg
	p.give(control, p.bound(), true)
	p.wantEvents(Bound)
	if err := p.tick(0); err != nil {
		p.t.Fatal(err)
	}
	p.one(relaywire.TypeKeepalive, media)
}

func (p *peer) alive(counter uint64, f relaywire.Flags) []byte {
	return relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeAlive, Circuit: 5, Counter: counter, Flags: f}, &p.circuit)
}

// TestBindRetries proves that an unanswered BIND is repeated byte for byte with growing gaps, and given up in the end.
func TestBindRetries(t *testing.T) {
	p := newPeer(t)
	if err := p.tick(0); err != nil {
		t.Fatal(err)
	}
	first := string(p.one(relaywire.TypeBind, control))
	repeats := 0
	for step := 0; ; step++ {
		err := p.tick(50 * time.Millisecond)
		if errors.Is(err, ErrUnreachable) {
			break
		}
		for _, out := range p.sent() {
			repeats++
			if string(out.b) != first {
				t.Fatal("a repeated BIND differs")
			}
		}
		if step > 1000 {
			t.Fatal("never gives up")
		}
	}
	if repeats < 5 || repeats > 12 {
		t.Errorf("repeated %d times in %v", repeats, defaultGiveUp)
	}
}

// TestCookieIsFollowed proves that a cookie is shown at once, with the same request, and that foreign and endless ones are not.
func TestCookieIsFollowed(t *testing.T) {
	p := newPeer(t)
	p.tick(0)
	b := p.one(relaywire.TypeBind, control)
	cookie := [16]byte{1, 2, 3}
	if relaywire.CheckMAC2(b, &cookie) {
		t.Fatal("has a cookie already")
	}
	p.give(control, relaywire.AppendCookie(nil, p.bind.RequestID()+1, &cookie), false)
	p.give(media, relaywire.AppendCookie(nil, p.bind.RequestID(), &cookie), false)
	for range maxCookies {
		p.give(control, relaywire.AppendCookie(nil, p.bind.RequestID(), &cookie), true)
		if b := p.one(relaywire.TypeBind, control); !relaywire.CheckMAC2(b, &cookie) {
			t.Error("cookie not shown")
		}
	}
	p.give(control, relaywire.AppendCookie(nil, p.bind.RequestID(), &cookie), false)
}

// TestForgedAnswers proves that answers with the wrong key, of another request or from another address change nothing.
func TestForgedAnswers(t *testing.T) {
	p := newPeer(t)
	p.tick(0)
	p.one(relaywire.TypeBind, control)
	good := p.bound()
	real := p.leg
	p.leg = relaywire.Key{1}
	p.give(control, p.bound(), false)
	p.give(control, relaywire.AppendReject(nil, &relaywire.Reject{RequestID: p.bind.RequestID(), Reason: relaywire.Banned}, &p.leg), false)
	p.leg = real
	p.give(media, good, false)
	p.give(netip.MustParseAddrPort("203.0.113.1:7480"), good, false)
	p.give(control, good[:90], false)
	p.give(control, relaywire.AppendUnknown(nil, 5, 1), false)
	p.wantEvents()
	p.give(control, good, true)
	p.give(control, good, false) // nothing is under way any more
	p.wantEvents(Bound)
	p.circuit = p.leg
	p.tick(0)
	p.one(relaywire.TypeKeepalive, media)
	forged := relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeDraining, Circuit: 5}, &relaywire.Key{1})
	p.give(media, forged, false)
	p.give(control, p.alive(1, relaywire.FlagDraining), false)
	p.wantEvents()
}

// TestLegLife proves keepalives, the events their answers bring, each once, and what silence leads to.
func TestLegLife(t *testing.T) {
	p := newPeer(t)
	p.up()
	p.give(media, p.alive(1, 0), true)
	p.wantEvents()
	p.tick(2 * time.Second)
	p.one(relaywire.TypeKeepalive, media)
	p.give(media, p.alive(2, relaywire.FlagPinned), true)
	p.wantEvents(Pinned)
	p.tick(2 * time.Second)
	p.one(relaywire.TypeKeepalive, media)
	p.give(media, p.alive(3, relaywire.FlagPinned|relaywire.FlagDraining), true)
	p.give(media, p.alive(3, relaywire.FlagPinned|relaywire.FlagDraining), true)
	p.wantEvents(Draining)
	for range missed {
		if err := p.tick(2 * time.Second); err != nil {
			t.Fatal(err)
		}
		p.one(relaywire.TypeKeepalive, media)
	}
	p.tick(2 * time.Second)
	p.one(relaywire.TypeBind, control)
	p.wantEvents(Lost)
}

// TestUnknownBindsAgain proves that a relay that forgot the circuit gets a BIND, at most once a second.
func TestUnknownBindsAgain(t *testing.T) {
	p := newPeer(t)
	p.up()
	p.give(media, relaywire.AppendUnknown(nil, 5, 99), false)
	p.give(media, relaywire.AppendUnknown(nil, 5, 1), true)
	p.wantEvents(Lost)
	p.one(relaywire.TypeBind, control)
	p.circuit = p.leg
	p.give(control, p.bound(), true)
	p.tick(0)
	p.one(relaywire.TypeKeepalive, media)
	p.events()
	p.give(media, relaywire.AppendUnknown(nil, 5, 1), true)
	p.wantEvents()
}

// TestRenewal proves that a new token is presented at once, that the leg's key stays, and that a refusal to renew ends nothing.
func TestRenewal(t *testing.T) {
	p := newPeer(t)
	p.up()
	if err := p.m.updateToken(token + "2"); err != nil {
		t.Fatal(err)
	}
	p.tick(0)
	p.one(relaywire.TypeRenew, control)
	p.give(control, p.bound(), true)
	p.wantEvents(Renewed)
	p.give(media, p.alive(1, 0), true)
	if err := p.m.updateToken(token + "3"); err != nil {
		t.Fatal(err)
	}
	p.tick(0)
	p.one(relaywire.TypeRenew, control)
	p.give(control, relaywire.AppendReject(nil, &relaywire.Reject{RequestID: p.bind.RequestID(), Reason: relaywire.UnknownKey, RetryAfterMillis: 500}, &p.leg), true)
	p.wantEvents(Rejected)
	if err := p.tick(500 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	p.one(relaywire.TypeRenew, control)
	p.give(control, relaywire.AppendReject(nil, &relaywire.Reject{RequestID: p.bind.RequestID(), Reason: relaywire.Expired}, &p.leg), true)
	if err := p.tick(0); err != nil {
		t.Errorf("a refused RENEW ended the client: %v", err)
	}
}

// TestReject proves that a refusal for good ends the client with its reason and "later" is followed a few times.
func TestReject(t *testing.T) {
	p := newPeer(t)
	p.tick(0)
	for range maxRetries + 1 {
		p.one(relaywire.TypeBind, control)
		p.give(control, relaywire.AppendReject(nil, &relaywire.Reject{RequestID: p.bind.RequestID(), Reason: relaywire.RelayFull, RetryAfterMillis: 1000}, &p.leg), true)
		p.wantEvents(Rejected)
		p.tick(time.Second)
	}
	var reject *relaywire.RejectError
	if err := p.tick(0); !errors.As(err, &reject) || reject.Reason != relaywire.RelayFull {
		t.Errorf("ended with %v", err)
	}
}

// TestRunReleases proves that the end of Run says good-bye, in a bubble of fake time with a relay that answers.
func TestRunReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		sent := make(chan packet, 64)
		events := make(chan Event, 64)
		c, err := New(Config{
			Relay: control, PublicKey: p.public, Token: token,
			Send:   func(b []byte, to netip.AddrPort) error { sent <- packet{append([]byte(nil), b...), to}; return nil },
			Notify: func(e Event) { events <- e },
		})
		if err != nil {
			t.Fatal(err)
		}
		p.m = c.m
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		p.openBind((<-sent).b)
		if !c.HandlePacket(control, p.bound(), time.Now()) {
			t.Fatal("answer not taken")
		}
		if e := <-events; e.Kind != Bound || e.Media != media {
			t.Errorf("%+v", e)
		}
		if at, ok := c.Media(); !ok || at != media {
			t.Errorf("media %v", at)
		}
		p.circuit = p.leg
		for counter := range uint64(5) {
			k := <-sent
			if typ, err := relaywire.TypeOf(k.b); err != nil || typ != relaywire.TypeKeepalive || k.to != media {
				t.Fatalf("type %d to %v, %v", typ, k.to, err)
			}
			c.HandlePacket(media, p.alive(counter+1, 0), time.Now())
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if typ, _ := relaywire.TypeOf((<-sent).b); typ != relaywire.TypeRelease {
			t.Errorf("said type %d at the end", typ)
		}
	})
}

// TestConfigIsChecked proves that New refuses what cannot work.
func TestConfigIsChecked(t *testing.T) {
	p := newPeer(t)
	send := func([]byte, netip.AddrPort) error { return nil }
	for name, c := range map[string]Config{
		"no relay":   {PublicKey: p.public, Token: token, Send: send},
		"no key":     {Relay: control, Token: token, Send: send},
		"no token":   {Relay: control, PublicKey: p.public, Send: send},
		"long token": {Relay: control, PublicKey: p.public, Token: strings.Repeat("x", relaywire.MaxTokenLen+1), Send: send},
		"no send":    {Relay: control, PublicKey: p.public, Token: token},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzHandle(f *testing.F) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	public := relaywire.PublicKey(private.PublicKey().Bytes())
	f.Add(relaywire.AppendBound(nil, &relaywire.Bound{RequestID: 1}, &relaywire.Key{}), true)
	f.Add(relaywire.AppendCookie(nil, 1, &[16]byte{}), true)
	f.Add(relaywire.AppendUnknown(nil, 5, 1), false)
	f.Add(relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeDraining, Circuit: 5}, &relaywire.Key{}), false)
	f.Fuzz(func(t *testing.T, b []byte, atControl bool) {
		m, err := newMachine(Config{Relay: control, PublicKey: public, Token: token, Send: func([]byte, netip.AddrPort) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1, 0)
		if _, err := m.tick(now); err != nil {
			t.Fatal(err)
		}
		m.out = nil
		from := media
		if atControl {
			from = control
		}
		m.handle(from, b, now)
		if len(m.events) != 0 || m.media.IsValid() {
			t.Error("a stranger was believed")
		}
	})
}

// TestOffers proves that a host believes only offers of its relay's key, each once and in order, joins the halves of a long datagram, and that
// it asks for the leg it wants until the relay has answered.
func TestOffers(t *testing.T) {
	p := newPeer(t)
	p.up()
	offer := func(counter uint64, part relaywire.Part, datagram string, key relaywire.Key) (string, bool) {
		o := relaywire.Carry{Type: relaywire.TypeOffer, Part: part, Circuit: 5, Counter: counter, Candidate: 3, Datagram: []byte(datagram)}
		got, mine := p.m.handleOffer(media, relaywire.AppendCarry(nil, &o, &key), p.now)
		return string(got.Datagram), mine
	}
	for _, c := range []struct {
		what, datagram string
		counter        uint64
		part           relaywire.Part
		key            relaywire.Key
		want           string
		mine           bool
	}{
		{"whole", "one", 2, relaywire.Whole, p.circuit, "one", true},
		{"replayed", "one", 2, relaywire.Whole, p.circuit, "", false},
		{"older", "one", 1, relaywire.Whole, p.circuit, "", false},
		{"forged", "one", 3, relaywire.Whole, relaywire.Key{9}, "", false},
		{"first half", "tw", 3, relaywire.FirstHalf, p.circuit, "", true},
		{"second half", "o", 4, relaywire.SecondHalf, p.circuit, "two", true},
		{"first half, whose second is lost", "th", 5, relaywire.FirstHalf, p.circuit, "", true},
		{"second half, whose first is lost", "ur", 8, relaywire.SecondHalf, p.circuit, "", true},
	} {
		if got, mine := offer(c.counter, c.part, c.datagram, c.key); got != c.want || mine != c.mine {
			t.Errorf("%s: %q, %v", c.what, got, mine)
		}
	}
	a, to := p.m.answer(3, []byte("answer"))
	if got, err := relaywire.ParseCarry(a); err != nil || to != media || got.Counter != 1 || !relaywire.CheckCarry(a, &p.circuit) {
		t.Errorf("answer %+v to %v, %v", got, to, err)
	}
	for n := range 2 {
		out := p.m.confirm(3, p.now)
		if n == 1 {
			p.tick(firstConfirm)
			out = p.sent()
		}
		s, err := relaywire.ParseSignal(out[0].b)
		if err != nil || s.Type != relaywire.TypeConfirm || s.Candidate != 3 || !relaywire.CheckSignal(out[0].b, &p.circuit) {
			t.Fatalf("said %+v, %v", s, err)
		}
	}
	confirmed := relaywire.Signal{Type: relaywire.TypeConfirmed, Circuit: 5, Counter: p.m.counter, Candidate: 3}
	p.give(media, relaywire.AppendSignal(nil, &confirmed, &p.circuit), true)
	if p.tick(firstConfirm); len(p.sent()) != 0 {
		t.Error("goes on asking")
	}
}
