package relay

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/relay/relaywire"
)

// desk is a binder with its admission, as one relay has them, and a host that writes to it.
type desk struct {
	*binder
	t         testing.TB
	admission *admission
	issuer    *issuer
	private   *ecdh.PrivateKey
	identity  ed25519.PrivateKey
	from      netip.AddrPort
	wall      time.Time
	now       int64
	last      relaywire.Bind
	lastKey   relaywire.Key
}

func newDesk(t testing.TB, i *issuer) *desk {
	t.Helper()
	v := newVerifier("relay-1", testKey(t))
	public := v.public
	c := newCore(8, 100_000, relaywire.IDKey{1})
	compiled, err := Policy{Keys: []lease.Key{i.key}}.compile(c.policy.Load())
	if err != nil {
		t.Fatal(err)
	}
	c.policy.Store(compiled)
	_, identity, _ := ed25519.GenerateKey(rand.Reader)
	private, err := relaywire.PrivateFromIdentity(identity)
	if err != nil {
		t.Fatal(err)
	}
	b := &binder{
		core: c, verifier: v, mediaPorts: []uint16{1, 2, 3, 4, 5, 6, 7, 8}, defaultRate: 50_000_000, maxRate: 100_000_000, full: func() bool { return false },
	}
	return &desk{
		binder: b, t: t, admission: newAdmission(relaywire.MAC1Key(public)), issuer: i, private: private, identity: identity,
		from: netip.MustParseAddrPort("192.0.2.1:5000"), wall: time.Now(), now: int64(time.Hour),
	}
}

// request writes a BIND or RENEW at time at.
func (d *desk) request(token string, renew bool, at time.Time, cookie *[16]byte) []byte {
	d.t.Helper()
	public := relaywire.PublicKey(d.private.PublicKey().Bytes())
	shared, err := relaywire.SharedKey(d.private, d.verifier.public, d.verifier.public, public)
	if err != nil {
		d.t.Fatal(err)
	}
	d.last = relaywire.Bind{Renew: renew, Time: at.UnixNano(), HostKey: public}
	rand.Read(d.last.Nonce[:])
	d.lastKey = relaywire.LegKey(shared, &d.last.Nonce)
	return relaywire.AppendBind(nil, &d.last, token, shared, relaywire.MAC1Key(d.verifier.public), cookie)
}

// post lets a verifier answer p. It returns what the host reads: a circuit's answer, or the reason of a refusal.
func (d *desk) post(p []byte) (bound relaywire.Bound, reason relaywire.Reason, why drop) {
	d.t.Helper()
	j := &bindJob{from: d.from, now: d.now}
	j.packet = j.buf[:copy(j.buf[:], p)]
	answer, why := d.answer(j, d.wall, make([]byte, 0, relaywire.BoundLen))
	if len(answer) > len(p) {
		d.t.Errorf("answer of %d bytes to a request of %d", len(answer), len(p))
	}
	if len(answer) == 0 {
		return bound, 0, why
	}
	if b, ok, err := relaywire.ParseBound(answer, &d.lastKey); err == nil && ok {
		return b, 0, why
	}
	if r, ok, err := relaywire.ParseReject(answer, &d.lastKey); err == nil && ok {
		return bound, r.Reason, why
	}
	return bound, 0, why
}

func (d *desk) claims(circuit uint64) lease.CircuitClaims {
	c := testClaims(circuit)
	c.HostIdentity = d.identity.Public().(ed25519.PublicKey)
	return c
}

func (d *desk) bindNow(c lease.CircuitClaims) (relaywire.Bound, relaywire.Reason) {
	d.wall = d.wall.Add(time.Millisecond)
	b, reason, why := d.post(d.request(d.issuer.sign(d.t, c), false, d.wall, nil))
	if why != dropNone {
		d.t.Fatalf("dropped: %v", why)
	}
	return b, reason
}

// TestEveryReason proves that each reason of the closed set is given when it should be, authenticated, and counted.
func TestEveryReason(t *testing.T) {
	i, stranger := newIssuer(t, "k1"), newIssuer(t, "k2")
	forger := newIssuer(t, "k1")
	prepare := map[relaywire.Reason]func(d *desk) []byte{
		relaywire.SignatureMismatch: func(d *desk) []byte { return d.request(forger.sign(t, d.claims(1)), false, d.wall, nil) },
		relaywire.UnknownKey:        func(d *desk) []byte { return d.request(stranger.sign(t, d.claims(1)), false, d.wall, nil) },
		relaywire.WrongRelay: func(d *desk) []byte {
			c := d.claims(1)
			c.Relay = "relay-2"
			return d.request(i.sign(t, c), false, d.wall, nil)
		},
		relaywire.Expired: func(d *desk) []byte {
			p := d.claims(1)
			d.wall = p.Expiry.Add(lease.Skew + 2*time.Second)
			return d.request(i.sign(t, p), false, d.wall, nil)
		},
		relaywire.NotYetValid: func(d *desk) []byte {
			c := d.claims(1)
			c.NotBefore, c.Expiry = c.NotBefore.Add(time.Hour), c.Expiry.Add(time.Hour)
			return d.request(i.sign(t, c), false, d.wall, nil)
		},
		relaywire.Replayed: func(d *desk) []byte {
			return d.request(i.sign(t, d.claims(1)), false, d.wall.Add(-bindWindow-time.Second), nil)
		},
		relaywire.RelayFull: func(d *desk) []byte {
			d.core.maxCircuits = 0
			return d.request(i.sign(t, d.claims(1)), false, d.wall, nil)
		},
		relaywire.Banned: func(d *desk) []byte {
			p, err := Policy{Keys: []lease.Key{i.key}, BannedHosts: []string{"host-1"}}.compile(d.core.policy.Load())
			if err != nil {
				t.Fatal(err)
			}
			d.core.policy.Store(p)
			return d.request(i.sign(t, d.claims(1)), false, d.wall, nil)
		},
		relaywire.Draining: func(d *desk) []byte {
			d.core.draining.Store(true)
			return d.request(i.sign(t, d.claims(1)), false, d.wall, nil)
		},
		relaywire.WrongUse: func(d *desk) []byte { // the viewer's token of a lease: whoever has it has no circuit
			token, err := i.signer.SignViewer(lease.ViewerClaims{
				Lease: "lease-1", Session: "session", Host: "host-1", Viewer: "viewer", Role: lease.RoleControl,
				Key: lease.Confirmation{Thumbprint: strings.Repeat("A", 43)}, NotBefore: time.Now(), Expiry: time.Now().Add(lease.Lifetime),
			})
			if err != nil {
				t.Fatal(err)
			}
			return d.request(token, false, d.wall, nil)
		},
		relaywire.RateLimited: func(d *desk) []byte {
			token := i.sign(t, d.claims(1))
			for n := range rebindBurst {
				at := d.wall.Add(time.Duration(n) * time.Millisecond)
				if _, reason, _ := d.post(d.request(token, false, at, nil)); reason != 0 {
					t.Fatalf("BIND %d: %v", n, reason)
				}
			}
			return d.request(token, false, d.wall.Add(time.Second), nil)
		},
	}
	for _, want := range relaywire.Reasons {
		d := newDesk(t, i)
		p := prepare[want](d)
		if _, got, why := d.post(p); got != want || why != dropNone {
			t.Errorf("%v: got %v (%v)", want, got, why)
		}
		if n := d.core.counts.rejects[want].Load(); n != 1 {
			t.Errorf("%v counted %d times", want, n)
		}
	}
	if len(rejectNames) != len(relaywire.Reasons)+1 {
		t.Errorf("%d counters for %d reasons", len(rejectNames), len(relaywire.Reasons))
	}
}

// TestSkewOfClocks proves that a relay whose clock is 30 s off, either way, takes leases and BINDs of hosts whose clock is right, and that
// one whose clock is far off says what is the matter.
func TestSkewOfClocks(t *testing.T) {
	i := newIssuer(t, "k1")
	for _, skew := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		d := newDesk(t, i)
		host := d.wall
		d.wall = d.wall.Add(skew)
		if _, reason, why := d.post(d.request(i.sign(t, d.claims(1)), false, host, nil)); reason != 0 || why != dropNone {
			t.Errorf("skew %v: %v, %v", skew, reason, why)
		}
		end := d.core.circuits[1].expiry.Load()
		if d.core.sweep(d.now, end+skew.Milliseconds()) != 0 {
			t.Errorf("skew %v: a lease that the host still holds has ended", skew)
		}
	}
	for skew, want := range map[time.Duration]relaywire.Reason{-10 * time.Minute: relaywire.NotYetValid, 10 * time.Minute: relaywire.Expired} {
		d := newDesk(t, i)
		host := d.wall
		d.wall = d.wall.Add(skew)
		if _, reason, why := d.post(d.request(i.sign(t, d.claims(1)), false, host, nil)); reason != want || why != dropNone {
			t.Errorf("skew %v: %v, %v; want %v", skew, reason, why, want)
		}
	}
}

// TestIdentity proves that a lease that names a host's identity is of no use to anybody else.
func TestIdentity(t *testing.T) {
	i := newIssuer(t, "k1")
	d := newDesk(t, i)
	stolen := i.sign(t, d.claims(1))
	thief := newDesk(t, i)
	thief.binder = d.binder
	if _, reason, _ := thief.post(thief.request(stolen, false, d.wall, nil)); reason != relaywire.SignatureMismatch {
		t.Errorf("a thief gets %v", reason)
	}
	if _, reason, _ := d.post(d.request(stolen, false, d.wall, nil)); reason != 0 {
		t.Errorf("the host gets %v", reason)
	}
	anonymous := d.claims(2)
	anonymous.HostIdentity = nil
	if _, reason, _ := d.post(d.request(i.sign(t, anonymous), false, d.wall, nil)); reason != 0 {
		t.Errorf("a lease without identity gets %v", reason)
	}
	if _, reason, _ := thief.post(thief.request(i.sign(t, anonymous), false, d.wall.Add(time.Millisecond), nil)); reason != relaywire.Replayed {
		t.Errorf("whoever comes second gets %v", reason)
	}
}

// TestReplay proves that copies of a BIND are answered but move nothing, and that older ones are refused.
func TestReplay(t *testing.T) {
	i := newIssuer(t, "k1")
	d := newDesk(t, i)
	token := i.sign(t, d.claims(1))
	first := d.request(token, false, d.wall, nil)
	b1, _, _ := d.post(first)
	home := d.from
	d.from = netip.MustParseAddrPort("203.0.113.66:1")
	if b2, reason, _ := d.post(first); reason != 0 || b2.Port != b1.Port {
		t.Errorf("the same BIND again: %+v, %v", b2, reason)
	}
	if got := d.core.circuits[1].host.Load().key.remote(); got != home {
		t.Errorf("a copied BIND moved the leg to %v", got)
	}
	d.from = home
	second := d.request(token, false, d.wall.Add(time.Millisecond), nil)
	if _, reason, _ := d.post(second); reason != 0 {
		t.Fatal(reason)
	}
	key := d.lastKey
	d.last.Nonce = [24]byte(first[16:40])
	shared, _ := relaywire.SharedKey(d.private, d.verifier.public, d.verifier.public, d.last.HostKey)
	d.lastKey = relaywire.LegKey(shared, &d.last.Nonce)
	d.from = netip.MustParseAddrPort("203.0.113.66:1")
	if _, reason, _ := d.post(first); reason != relaywire.Replayed {
		t.Errorf("an older BIND gets %v", reason)
	}
	if ci := d.core.circuits[1]; ci.host.Load().key.remote() != home || *ci.secret.Load() != key {
		t.Error("an older BIND changed the circuit")
	}
}

// TestRenew proves that a RENEW prolongs and never shortens, moves nothing, and does not make a circuit.
func TestRenew(t *testing.T) {
	i := newIssuer(t, "k1")
	d := newDesk(t, i)
	c := d.claims(1)
	bound, _ := d.bindNow(c)
	secret := *d.core.circuits[1].secret.Load()
	later := c
	later.Expiry = later.Expiry.Add(time.Hour)
	home := d.from
	d.from = netip.MustParseAddrPort("192.0.2.77:7")
	renewed, reason, _ := d.post(d.request(i.sign(t, later), true, d.wall.Add(time.Second), nil))
	if reason != 0 || renewed.ExpiryMillis-bound.ExpiryMillis != time.Hour.Milliseconds() {
		t.Errorf("renewed to %+v, %v", renewed, reason)
	}
	ci := d.core.circuits[1]
	if ci.host.Load().key.remote() != home || *ci.secret.Load() != secret {
		t.Error("a RENEW moved the leg or changed its key")
	}
	again, reason, _ := d.post(d.request(i.sign(t, c), true, d.wall.Add(2*time.Second), nil))
	if reason != 0 || again.ExpiryMillis != renewed.ExpiryMillis {
		t.Errorf("an older token shortened the lease to %+v, %v", again, reason)
	}
	if _, _, why := d.post(d.request(i.sign(t, d.claims(2)), true, d.wall.Add(3*time.Second), nil)); why != dropUnknown {
		t.Errorf("RENEW of no circuit: %v", why)
	}
	d.core.draining.Store(true)
	if _, reason, _ := d.post(d.request(i.sign(t, later), true, d.wall.Add(4*time.Second), nil)); reason != 0 {
		t.Errorf("a running circuit cannot be prolonged during a drain: %v", reason)
	}
}

// TestRotationAndRevocation proves that leases of both keys pass while keys overlap, that nothing is rejected by the rotation, and
// that a revoked key's leases are refused even though they are in the cache.
func TestRotationAndRevocation(t *testing.T) {
	old, fresh := newIssuer(t, "k1"), newIssuer(t, "k2")
	d := newDesk(t, old)
	with := func(keys ...lease.Key) {
		p, err := Policy{Keys: keys}.compile(d.core.policy.Load())
		if err != nil {
			t.Fatal(err)
		}
		d.core.enforce(p, d.now)
	}
	from := func(i *issuer, circuit uint64) relaywire.Reason {
		d.issuer = i
		_, reason := d.bindNow(d.claims(circuit))
		return reason
	}
	if r := from(old, 1); r != 0 {
		t.Fatal(r)
	}
	with(old.key, fresh.key)
	for n, i := range []*issuer{old, fresh, old, fresh} {
		if r := from(i, uint64(10+n%2)); r != 0 && r != relaywire.Replayed {
			t.Errorf("during the overlap: %v", r)
		}
	}
	before := d.core.policy.Load().keys
	with(old.key, fresh.key)
	if d.core.policy.Load().keys != before {
		t.Error("the same keys again make verified leases forgotten")
	}
	with(fresh.key)
	if r := from(old, 1); r != relaywire.UnknownKey {
		t.Errorf("revoked key: %v", r)
	}
	if r := from(fresh, 11); r != 0 {
		t.Errorf("new key: %v", r)
	}
	with() // a master without keys
	if r := from(fresh, 12); r != 0 {
		t.Errorf("after an empty key set: %v", r)
	}
}

// TestAdmission proves the order of the cheap checks and that under load strangers must show a cookie, which fits only their address.
func TestAdmission(t *testing.T) {
	i := newIssuer(t, "k1")
	d := newDesk(t, i)
	a, counts := d.admission, &d.core.counts
	token := i.sign(t, d.claims(1))
	good := d.request(token, false, d.wall, nil)
	try := func(from string, p []byte) ([]byte, drop) {
		return a.consider(makeKey(netip.MustParseAddrPort(from), controlIndex), p, d.now, counts, make([]byte, 0, 128))
	}
	for name, c := range map[string]struct {
		p    []byte
		want drop
	}{
		"empty":      {nil, dropMalformed},
		"truncated":  {good[:len(good)-1], dropMalformed},
		"too long":   {append(append([]byte(nil), good...), make([]byte, relaywire.MaxBindLen)...), dropMalformed},
		"quic":       {initial(1200), dropMalformed},
		"keepalive":  {relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeKeepalive}, &relaywire.Key{}), dropMalformed},
		"false mac1": {append(append(append([]byte(nil), good[:85]...), good[85]^1), good[86:]...), dropMAC1},
		"good":       {good, dropNone},
	} {
		if answer, why := try("192.0.2.1:5000", c.p); len(answer) != 0 || why != c.want {
			t.Errorf("%s: %d bytes, %v", name, len(answer), why)
		}
	}
	if len(a.queue) != 1 {
		t.Fatalf("%d in the queue", len(a.queue))
	}
	var cookie [16]byte
	for n := 0; ; n++ {
		answer, why := try(fmt.Sprintf("192.0.2.%d:5000", n%200+1), good)
		if len(answer) == 0 && why == dropNone {
			if n > verifyQueue {
				t.Fatal("no cookie is ever demanded")
			}
			continue
		}
		_, c, err := relaywire.ParseCookie(answer)
		if err != nil {
			t.Fatalf("no cookie, but %v", why)
		}
		cookie = c
		proven := d.request(token, false, d.wall, &cookie)
		from := fmt.Sprintf("192.0.2.%d:5000", n%200+1)
		if answer, why := try(from, proven); len(answer) != 0 || why != dropNone {
			t.Errorf("with its cookie: %d bytes, %v", len(answer), why)
		}
		if answer, _ := try("203.0.113.1:1", proven); len(answer) == 0 {
			t.Error("a cookie of another address is believed")
		}
		a.cookies.rotate()
		if _, why := try(from, proven); why != dropNone {
			t.Errorf("with the cookie before: %v", why)
		}
		a.cookies.rotate()
		if answer, _ := try(from, proven); len(answer) == 0 {
			t.Error("an old cookie is believed")
		}
		break
	}
	limited := 0
	for range sourceBurst * 2 {
		c := a.cookies.bake(0, makeKey(netip.MustParseAddrPort("192.0.2.1:5000"), controlIndex))
		if _, why := try("192.0.2.1:5000", d.request(token, false, d.wall, &c)); why == dropSource {
			limited++
		} else if why == dropBusy {
			a.free <- <-a.queue
		}
	}
	if limited < sourceBurst/2 {
		t.Errorf("a proven source is limited %d times in %d", limited, 2*sourceBurst)
	}
}

// TestFullQueueDrops proves that a flood of leases ends in counted drops, not in memory.
func TestFullQueueDrops(t *testing.T) {
	d := newDesk(t, newIssuer(t, "k1"))
	for range verifyQueue {
		if why := d.admission.enqueue(makeKey(d.from, controlIndex), make([]byte, 200), 0); why != dropNone {
			t.Fatal(why)
		}
	}
	if why := d.admission.enqueue(makeKey(d.from, controlIndex), make([]byte, 200), 0); why != dropBusy {
		t.Errorf("one more: %v", why)
	}
}

// TestStrangersSeal proves that a BIND sealed for another relay, or by nobody, is dropped without an answer.
func TestStrangersSeal(t *testing.T) {
	d := newDesk(t, newIssuer(t, "k1"))
	p := d.request(d.issuer.sign(t, d.claims(1)), false, d.wall, nil)
	p[len(p)-1] ^= 1
	if _, reason, why := d.post(p); reason != 0 || why != dropSeal {
		t.Errorf("%v, %v", reason, why)
	}
}

// TestAdmissionAllocatesNothing proves that refusing strangers makes no garbage.
func TestAdmissionAllocatesNothing(t *testing.T) {
	d := newDesk(t, newIssuer(t, "k1"))
	bad := d.request(d.issuer.sign(t, d.claims(1)), false, d.wall, nil)
	bad[80] ^= 1
	key, out := makeKey(d.from, controlIndex), make([]byte, 0, 128)
	if n := testing.AllocsPerRun(500, func() {
		if _, why := d.admission.consider(key, bad, d.now, &d.core.counts, out); why != dropMAC1 {
			t.Fatal(why)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMemoryPerCircuit pins the size of a circuit with both legs, in all tables: at most 1 kB at 10,000 circuits.
func TestMemoryPerCircuit(t *testing.T) {
	const n = 10_000
	b := newBed(t, 64)
	b.maxCircuits = n
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for id := range uint64(n) {
		b.host = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(id >> 8), byte(id)}), 5000)
		viewer := netip.AddrFrom4([4]byte{10, 2, byte(id >> 8), byte(id)})
		ci := b.circuit(id+1, viewer.String())
		b.drainEvents()
		b.pinAt(ci, netip.AddrPortFrom(viewer, 9).String())
	}
	per := float64(heap()-before) / n
	t.Logf("%.0f bytes per circuit", per)
	if per > 1024 {
		t.Errorf("%.0f bytes per circuit", per)
	}
	runtime.KeepAlive(b)
}

func (b *bed) drainEvents() {
	for len(b.events) > 0 {
		<-b.events
	}
}

// BenchmarkNewLease is a whole BIND with a lease never seen before, of a host already known: open, verify, bind, answer.
func BenchmarkNewLease(b *testing.B) {
	i := newIssuer(b, "k1")
	d := newDesk(b, i)
	d.core.ports = make([]portState, 1024)
	d.mediaPorts = make([]uint16, 1024)
	const stock = 4000
	var packets [stock][]byte
	for n := range packets {
		c := d.claims(uint64(n + 1))
		c.ViewerAddress = netip.AddrFrom4([4]byte{10, 2, byte(n >> 8), byte(n)})
		packets[n] = d.request(i.sign(b, c), false, d.wall, nil)
	}
	if _, ok := d.core.circuits[1]; ok {
		b.Fatal("not empty")
	}
	j := &bindJob{now: d.now}
	out := make([]byte, 0, 128)
	n, began, outside := 0, cpuTime(b), time.Duration(0)
	for b.Loop() {
		if n == stock {
			b.StopTimer()
			before := cpuTime(b)
			d.reset(b)
			outside += cpuTime(b) - before
			n = 0
			b.StartTimer()
		}
		j.from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 5000)
		j.packet = j.buf[:copy(j.buf[:], packets[n])]
		n++
		if answer, why := d.answer(j, d.wall, out); why != dropNone || len(answer) != relaywire.BoundLen {
			b.Fatalf("%d bytes, %v", len(answer), why)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-began-outside)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has used, the collector included, so that a busy machine does not count.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reset forgets circuits and verified leases, so that each is new again.
func (d *desk) reset(b *testing.B) {
	fresh := newDesk(b, d.issuer)
	d.core.ports = make([]portState, len(d.core.ports))
	d.core.circuits, d.core.pins = fresh.core.circuits, fresh.core.pins
	d.core.legs, d.core.offered = fresh.core.legs, fresh.core.offered
	d.verifier.leases = map[[32]byte]*grant{}
	for len(d.core.events) > 0 {
		<-d.core.events
	}
}
