package relaywire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testToken = "v4.public." + strings.Repeat("a", 500) + ".Zm9vdGVy"

type parties struct {
	relay, host           PublicKey
	shared, mac1, leg     Key
	relayPriv, hostPriv   *ecdh.PrivateKey
	identity              ed25519.PrivateKey
	nonce                 [24]byte
	cookie                [16]byte
	bind, renew           []byte
	bound, reject, cookiP []byte
	unknown               []byte
	signals               map[Type][]byte
}

func newParties(t testing.TB) *parties {
	t.Helper()
	p := &parties{signals: map[Type][]byte{}}
	var err error
	if p.relayPriv, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	_, p.identity, _ = ed25519.GenerateKey(rand.Reader)
	if p.hostPriv, err = PrivateFromIdentity(p.identity); err != nil {
		t.Fatal(err)
	}
	p.relay, p.host = PublicKey(p.relayPriv.PublicKey().Bytes()), PublicKey(p.hostPriv.PublicKey().Bytes())
	if p.shared, err = SharedKey(p.hostPriv, p.relay, p.relay, p.host); err != nil {
		t.Fatal(err)
	}
	p.mac1 = MAC1Key(p.relay)
	rand.Read(p.nonce[:])
	rand.Read(p.cookie[:])
	p.leg = LegKey(p.shared, &p.nonce)
	b := &Bind{Time: 1234567890123456789, Nonce: p.nonce, HostKey: p.host}
	p.bind = AppendBind(nil, b, testToken, p.shared, p.mac1, &p.cookie)
	b.Renew = true
	p.renew = AppendBind(nil, b, testToken, p.shared, p.mac1, nil)
	p.bound = AppendBound(nil, &testBound, &p.leg)
	p.reject = AppendReject(nil, &testReject, &p.leg)
	p.cookiP = AppendCookie(nil, 77, &p.cookie)
	p.unknown = AppendUnknown(nil, 5, 6)
	for _, typ := range signalTypes {
		p.signals[typ] = AppendSignal(nil, &Signal{Type: typ, Flags: FlagPinned, Circuit: 9, Counter: 10, TimeMillis: 11, Candidate: 12}, &p.leg)
	}
	return p
}

var (
	signalTypes = []Type{TypeKeepalive, TypeAlive, TypeRelease, TypeReleased, TypeDraining, TypeConfirm, TypeConfirmed}
	testBound   = Bound{
		Circuit: 1, RequestID: 2, ExpiryMillis: 3, RateLimit: 4, Port: 5, Flags: FlagDraining | FlagPinned, KeepaliveMillis: 6, IdleMillis: 7, PinMillis: 8,
		Observed: netip.MustParseAddrPort("192.0.2.7:4242"), IDs: IDKey{9, 8, 7},
	}
	testReject = Reject{RequestID: 12, Reason: RelayFull, RetryAfterMillis: 1500}
)

func (p *parties) all() map[string][]byte {
	m := map[string][]byte{"bind": p.bind, "renew": p.renew, "bound": p.bound, "reject": p.reject, "cookie": p.cookiP, "unknown": p.unknown}
	for typ, b := range p.signals {
		m[fmt.Sprintf("signal%d", typ)] = b
	}
	return m
}

// parseAny runs the parser of the packet's type, as both ends do.
func parseAny(b []byte, leg *Key) error {
	t, err := TypeOf(b)
	if err != nil {
		return err
	}
	switch t {
	case TypeBind, TypeRenew:
		return ParseBind(b, new(Bind))
	case TypeBound:
		_, _, err = ParseBound(b, leg)
	case TypeReject:
		_, _, err = ParseReject(b, leg)
	case TypeCookie:
		_, _, err = ParseCookie(b)
	case TypeUnknown:
		_, _, err = ParseUnknown(b)
	case TypeOffer, TypeAnswer:
		_, err = ParseCarry(b)
	default:
		_, err = ParseSignal(b)
	}
	return err
}

// TestBindRoundTrip proves that a relay reads what a host wrote, both keys agree, and the token arrives sealed.
func TestBindRoundTrip(t *testing.T) {
	p := newParties(t)
	shared, err := SharedKey(p.relayPriv, p.host, p.relay, p.host)
	if err != nil || shared != p.shared {
		t.Fatalf("the two ends disagree on the shared key (%v)", err)
	}
	for name, packet := range map[string][]byte{"bind": p.bind, "renew": p.renew} {
		var b Bind
		if err := ParseBind(packet, &b); err != nil {
			t.Fatal(err)
		}
		if b.Renew != (name == "renew") || b.Time != 1234567890123456789 || b.Nonce != p.nonce || b.HostKey != p.host {
			t.Errorf("%s came back as %+v", name, b)
		}
		if !CheckMAC1(packet, &p.mac1) {
			t.Errorf("%s: MAC1 does not fit", name)
		}
		if got := CheckMAC2(packet, &p.cookie); got != (name == "bind") {
			t.Errorf("%s: MAC2 fits = %v", name, got)
		}
		if token, ok := OpenToken(packet, &b, &shared); !ok || token != testToken {
			t.Errorf("%s: token came back as %q, %v", name, token, ok)
		}
		if bytes.Contains(packet, []byte("v4.public")) {
			t.Errorf("%s carries the token in clear text", name)
		}
	}
}

// TestEveryBitOfBindCounts proves that no single flipped bit of a BIND gets past MAC1, the seal, or (bytes 96-111) MAC2.
func TestEveryBitOfBindCounts(t *testing.T) {
	p := newParties(t)
	for i := range p.bind {
		broken := bytes.Clone(p.bind)
		broken[i] ^= 1 << (i % 8)
		var b Bind
		if ParseBind(broken, &b) != nil || !CheckMAC1(broken, &p.mac1) || !CheckMAC2(broken, &p.cookie) {
			continue
		}
		if _, ok := OpenToken(broken, &b, &p.shared); ok {
			t.Errorf("bit %d of byte %d may be flipped", i%8, i)
		}
	}
}

// TestAnswersRoundTrip proves that hosts read what relays write and believe only the right key.
func TestAnswersRoundTrip(t *testing.T) {
	p := newParties(t)
	other := p.leg
	other[0] ^= 1
	if b, ok, err := ParseBound(p.bound, &p.leg); b != testBound || !ok || err != nil {
		t.Errorf("BOUND came back as %+v, %v, %v", b, ok, err)
	}
	if _, ok, _ := ParseBound(p.bound, &other); ok {
		t.Error("BOUND believed with another key")
	}
	if bytes.Contains(p.bound, testBound.IDs[:]) {
		t.Error("BOUND shows the key of connection ids")
	}
	if r, ok, err := ParseReject(p.reject, &p.leg); r != testReject || !ok || err != nil {
		t.Errorf("REJECT came back as %+v, %v, %v", r, ok, err)
	}
	if _, ok, _ := ParseReject(p.reject, &other); ok {
		t.Error("REJECT believed with another key")
	}
	if id, c, err := ParseCookie(p.cookiP); id != 77 || c != p.cookie || err != nil {
		t.Errorf("COOKIE came back as %d, %x, %v", id, c, err)
	}
	if c, n, err := ParseUnknown(p.unknown); c != 5 || n != 6 || err != nil {
		t.Errorf("UNKNOWN came back as %d, %d, %v", c, n, err)
	}
	for typ, b := range p.signals {
		s, err := ParseSignal(b)
		if want := (Signal{typ, FlagPinned, 9, 10, 11, 12}); s != want || err != nil {
			t.Errorf("signal came back as %+v, %v; want %+v", s, err, want)
		}
		if !CheckSignal(b, &p.leg) || CheckSignal(b, &other) {
			t.Errorf("signal %d is believed with the wrong key, or not with the right one", typ)
		}
	}
}

// TestEveryTruncationIsAnError proves that each packet cut at each byte is refused with a WireError, and padded ones are read.
func TestEveryTruncationIsAnError(t *testing.T) {
	p := newParties(t)
	for name, packet := range p.all() {
		for n := range packet {
			var wire *WireError
			if err := parseAny(packet[:n], &p.leg); !errors.As(err, &wire) {
				t.Errorf("%s cut to %d bytes: %v", name, n, err)
			}
		}
		if err := parseAny(append(bytes.Clone(packet), 1, 2, 3), &p.leg); err != nil {
			t.Errorf("%s with trailing bytes: %v", name, err)
		}
	}
}

// TestNoAnswerIsLongerThanItsRequest pins amplification at the level of the format.
func TestNoAnswerIsLongerThanItsRequest(t *testing.T) {
	for name, n := range map[string]int{"BOUND": BoundLen, "REJECT": RejectLen, "COOKIE": CookieLen} {
		if n > MinBindLen {
			t.Errorf("%s has %d bytes, the shortest BIND %d", name, n, MinBindLen)
		}
	}
	if UnknownLen > SignalLen {
		t.Error("UNKNOWN is longer than a signal")
	}
	if MaxBindLen > 1280-48 {
		t.Errorf("a BIND of %d bytes does not fit the smallest IPv6 path", MaxBindLen)
	}
}

// TestControlIsNotData proves that control packets cannot be taken for QUIC, STUN, DTLS or RTP, nor those for control.
func TestControlIsNotData(t *testing.T) {
	for name, packet := range newParties(t).all() {
		if !IsControl(packet) || packet[0] != FirstByte || packet[0]&0x40 != 0 || packet[0] < 4 || packet[0] > 15 {
			t.Errorf("%s begins with %x", name, packet[:4])
		}
	}
	for _, b := range [][]byte{{0xc3, 0, 0, 0, 1}, {0x40, 1, 2, 3, 4}, {0, 1, 0, 0, 0x21}, {22, 254, 253}, {0x80}, {}, {5, 'W', 'R'}} {
		if IsControl(b) {
			t.Errorf("%x is taken for control", b)
		}
	}
}

// TestIdentityMap proves that both halves of an identity map to the two halves of one X25519 key.
func TestIdentityMap(t *testing.T) {
	p := newParties(t)
	got, err := PublicFromIdentity(p.identity.Public().(ed25519.PublicKey))
	if err != nil || got != p.host {
		t.Errorf("public half maps to %x, private half to %x (%v)", got, p.host, err)
	}
	one := make(ed25519.PublicKey, 32)
	one[0] = 1
	if _, err := PublicFromIdentity(one); !errors.Is(err, ErrWeakKey) {
		t.Errorf("the neutral element maps to a key: %v", err)
	}
	if _, err := PublicFromIdentity(one[:31]); err == nil {
		t.Error("31 bytes are an identity")
	}
	if _, err := SharedKey(p.relayPriv, PublicKey{}, p.relay, PublicKey{}); !errors.Is(err, ErrWeakKey) {
		t.Errorf("agreed on a secret with the zero key: %v", err)
	}
}

// TestReasonsHaveNames pins the closed set.
func TestReasonsHaveNames(t *testing.T) {
	want := "signature_mismatch unknown_key wrong_relay expired not_yet_valid replayed relay_full rate_limited banned draining wrong_use"
	var got []string
	for _, r := range Reasons {
		got = append(got, r.String())
		if r.Help() == "" || !strings.Contains((&RejectError{Reason: r}).Error(), r.Help()) {
			t.Errorf("%s says nothing", r)
		}
	}
	if s := strings.Join(got, " "); s != want {
		t.Errorf("reasons are %q", s)
	}
	if Reason(0).String() != "unknown_reason" || Reason(200).Help() == "" {
		t.Error("a reason from a newer relay has no text")
	}
}

// TestKeysAreNotPrinted proves that formatting a key shows nothing of it.
func TestKeysAreNotPrinted(t *testing.T) {
	k := Key{1, 2, 3}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v"} {
		for _, s := range []string{fmt.Sprintf(verb, k), fmt.Sprintf(verb, IDKey{1, 2, 3})} {
			if s != "REDACTED" {
				t.Errorf("%s prints %q", verb, s)
			}
		}
	}
}

// TestChecksAllocateNothing proves that what the relay does for every control packet costs no garbage.
func TestChecksAllocateNothing(t *testing.T) {
	p := newParties(t)
	keepalive, out := p.signals[TypeKeepalive], make([]byte, 0, 128)
	var b Bind
	if n := testing.AllocsPerRun(200, func() {
		if ParseBind(p.bind, &b) != nil || !CheckMAC1(p.bind, &p.mac1) || !CheckMAC2(p.bind, &p.cookie) {
			t.Fatal("refused")
		}
		s, err := ParseSignal(keepalive)
		if err != nil || !CheckSignal(keepalive, &p.leg) {
			t.Fatal("refused")
		}
		s.Type = TypeAlive
		AppendSignal(out, &s, &p.leg)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func FuzzParse(f *testing.F) {
	p := newParties(f)
	for _, packet := range p.all() {
		f.Add(packet)
	}
	for _, typ := range []Type{TypeOffer, TypeAnswer} {
		f.Add(AppendCarry(nil, &Carry{Type: typ, Part: FirstHalf, Circuit: 1, Counter: 2, Candidate: 3, Datagram: []byte("x")}, &p.leg))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := parseAny(b, &p.leg)
		if err == nil && !IsControl(b) {
			t.Error("parsed what is not control")
		}
		var bind Bind
		if ParseBind(b, &bind) == nil {
			CheckMAC1(b, &p.mac1)
			CheckMAC2(b, &p.cookie)
			OpenToken(b, &bind, &p.shared)
		}
		if s, err := ParseSignal(b); err == nil {
			again := AppendSignal(nil, &s, &p.leg)
			if back, err := ParseSignal(again); err != nil || back != s {
				t.Errorf("signal %+v came back as %+v, %v", s, back, err)
			}
		}
		if c, err := ParseCarry(b); err == nil {
			again := AppendCarry(nil, &c, &p.leg)
			if !bytes.Equal(again[CarryLen:], b[CarryLen:]) || !CheckCarry(again, &p.leg) {
				t.Errorf("carried datagram %x came back as %x", b, again)
			}
		}
	})
}

func BenchmarkCheckMAC1(b *testing.B) {
	p := newParties(b)
	b.ReportAllocs()
	for b.Loop() {
		CheckMAC1(p.bind, &p.mac1)
	}
}

func BenchmarkSharedKey(b *testing.B) {
	p := newParties(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := SharedKey(p.relayPriv, p.host, p.relay, p.host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenToken(b *testing.B) {
	p := newParties(b)
	var bind Bind
	if err := ParseBind(p.bind, &bind); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		OpenToken(p.bind, &bind, &p.shared)
	}
}
