package relay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// bed is a core with one circuit and a clock under the test's hand.
type bed struct {
	*core
	t    testing.TB
	now  int64
	host netip.AddrPort
	key  relaywire.Key
	seq  uint64
}

const second = int64(time.Second)

func newBed(t testing.TB, ports int) *bed {
	return &bed{core: newCore(ports, 1000, relaywire.IDKey{1}), t: t, now: 3600 * second, host: netip.MustParseAddrPort("192.0.2.1:5000"), key: relaywire.Key{1, 2, 3}}
}

// circuit binds a circuit as the binder does.
func (b *bed) circuit(id uint64, viewer string) *circuit {
	b.t.Helper()
	bi := &binder{core: b.core, mediaPorts: make([]uint16, len(b.ports)), defaultRate: 50_000_000, maxRate: maxRate, full: func() bool { return false }}
	g := &grant{lease: fmt.Sprintf("l%d", id), host: "h", circuit: id, expiry: time.Now().Add(time.Hour)}
	if viewer != "" {
		g.viewer = netip.MustParseAddr(viewer)
	}
	req := &relaywire.Bind{Time: 1}
	if _, reason := bi.bind(g, req, b.key, &bindJob{from: b.host, now: b.now}); reason != 0 {
		b.t.Fatalf("bind: %v", reason)
	}
	return b.circuits[id]
}

func (b *bed) packet(from string, port int, p []byte) (*leg, drop) {
	return b.handle(makeKey(netip.MustParseAddrPort(from), port), p, len(p), 1, b.now)
}

func (b *bed) want(what string, l *leg, d drop, to netip.AddrPort, why drop) {
	b.t.Helper()
	got := netip.AddrPort{}
	if l != nil {
		got = l.key.remote()
	}
	if d != why || got != to {
		b.t.Errorf("%s: to %v (%v), want %v (%v)", what, got, d, to, why)
	}
}

var nowhere = netip.AddrPort{}

// TestRateLimit proves the token bucket: at the rate everything passes, above it the excess is dropped, and a burst fits.
func TestRateLimit(t *testing.T) {
	b := newBed(t, 1)
	ci := b.circuit(7, "198.51.100.7")
	b.pin("198.51.100.7:9")
	ci.setRate(12_000_000)
	p := make([]byte, 1500)
	for range 20_000 { // 12 Mbit/s is 1000 packets of 1500 bytes
		b.now += second / 1000
		if _, d := b.packet(b.host.String(), 0, p); d != dropNone {
			t.Fatalf("dropped at the rate: %v", d)
		}
	}
	passed := 0
	for range 20_000 {
		b.now += second / 2000
		if _, d := b.packet(b.host.String(), 0, p); d == dropNone {
			passed++
		} else if d != dropRate {
			t.Fatal(d)
		}
	}
	if passed < 10_000 || passed > 10_400 {
		t.Errorf("%d of 20000 passed at twice the rate", passed)
	}
	b.now += 10 * second
	burst := 0
	for ; ; burst++ {
		if _, d := b.packet(b.host.String(), 0, p); d != dropNone {
			break
		}
	}
	if want := int(12_000_000 / 8 * rateBurst.Seconds() / 1500); burst < want-1 || burst > want+1 {
		t.Errorf("burst of %d packets, want %d", burst, want)
	}
}

func (b *bed) keepalive(typ relaywire.Type, circuit uint64, key relaywire.Key) []byte {
	b.seq++
	return relaywire.AppendSignal(nil, &relaywire.Signal{Type: typ, Circuit: circuit, Counter: b.seq}, &key)
}

func (b *bed) sign(from string, p []byte) (relaywire.Type, drop) {
	b.t.Helper()
	answer, d := b.signal(makeKey(netip.MustParseAddrPort(from), 0), p, b.now, make([]byte, 0, 128))
	if len(answer) == 0 {
		return 0, d
	}
	if len(answer) > len(p) {
		b.t.Errorf("answer of %d bytes to %d", len(answer), len(p))
	}
	typ, err := relaywire.TypeOf(answer)
	if err != nil {
		b.t.Error(err)
	}
	return typ, d
}

// TestSignals proves what keepalives and releases may do, and that forged, replayed, foreign and misplaced ones do nothing.
func TestSignals(t *testing.T) {
	b := newBed(t, 1)
	ci := b.circuit(7, "198.51.100.7")
	b.pin("198.51.100.7:9")
	host, elsewhere := b.host.String(), "192.0.2.99:1"
	wrong := relaywire.Key{9}
	check := func(what, from string, p []byte, want relaywire.Type, why drop) {
		t.Helper()
		if typ, d := b.sign(from, p); typ != want || d != why {
			t.Errorf("%s: answer %d, %v; want %d, %v", what, typ, d, want, why)
		}
	}
	first := b.keepalive(relaywire.TypeKeepalive, 7, b.key)
	check("keepalive", host, first, relaywire.TypeAlive, dropNone)
	check("replayed", host, first, 0, dropReplay)
	check("replayed from elsewhere", elsewhere, first, 0, dropReplay)
	check("forged", host, b.keepalive(relaywire.TypeKeepalive, 7, wrong), 0, dropMAC)
	check("forged from elsewhere", elsewhere, b.keepalive(relaywire.TypeKeepalive, 7, wrong), 0, dropMAC)
	check("from the viewer", "198.51.100.7:9", b.keepalive(relaywire.TypeKeepalive, 7, b.key), 0, dropMisplaced)
	check("of a type only relays send", host, b.keepalive(relaywire.TypeAlive, 7, b.key), 0, dropMisplaced)
	check("truncated", host, first[:50], 0, dropMalformed)
	check("of another circuit", host, b.keepalive(relaywire.TypeKeepalive, 8, b.key), relaywire.TypeUnknown, dropUnknown)
	if got := ci.host.Load().key.remote(); got != b.host {
		t.Errorf("host leg moved to %v", got)
	}
	check("after the NAT rebound", elsewhere, b.keepalive(relaywire.TypeKeepalive, 7, b.key), relaywire.TypeAlive, dropNone)
	l, d := b.packet("198.51.100.7:9", 0, []byte("x"))
	b.want("viewer to the host's new address", l, d, netip.MustParseAddrPort(elsewhere), dropNone)
	check("forged release", elsewhere, b.keepalive(relaywire.TypeRelease, 7, wrong), 0, dropMAC)
	check("release", elsewhere, b.keepalive(relaywire.TypeRelease, 7, b.key), relaywire.TypeReleased, dropNone)
	b.isEmpty()
	check("after the end", elsewhere, b.keepalive(relaywire.TypeKeepalive, 7, b.key), relaywire.TypeUnknown, dropUnknown)
	unanswered := 0
	for range 2 * strayRate {
		if typ, _ := b.sign(elsewhere, b.keepalive(relaywire.TypeKeepalive, 7, b.key)); typ == 0 {
			unanswered++
		}
	}
	if unanswered < strayRate/2 {
		t.Errorf("answers to strays are not bounded: %d of %d unanswered", unanswered, 2*strayRate)
	}
}

// isEmpty proves that the end of a circuit leaves nothing behind.
func (b *bed) isEmpty() {
	b.t.Helper()
	if len(b.circuits) != 0 || len(b.pins) != 0 || b.legs.live != 0 || len(b.offered) != 0 {
		b.t.Errorf("left: %d circuits, %d pins, %d legs, %d candidates", len(b.circuits), len(b.pins), b.legs.live, len(b.offered))
	}
	for i := range b.ports {
		if p := &b.ports[i]; p.waiting != 0 || p.anyone != 0 || p.expecting.Load() != 0 {
			b.t.Errorf("port %d left with %+v", i, p)
		}
	}
}

// TestEnds proves when circuits end by themselves, at and one step before each limit, and that nothing stays.
func TestEnds(t *testing.T) {
	wall := time.Now().UnixMilli()
	for _, c := range []struct {
		name   string
		pinned bool
		limit  time.Duration
		alive  func(ci *circuit, now int64)
		why    end
	}{
		{"host idle", true, hostIdle, func(ci *circuit, now int64) { ci.viewerSeen.Store(now) }, endHostIdle},
		{"viewer idle", true, viewerIdle, func(ci *circuit, now int64) { ci.hostSeen.Store(now) }, endViewerIdle},
		{"viewer never came", false, pinWait, func(ci *circuit, now int64) { ci.hostSeen.Store(now) }, endNoViewer},
	} {
		b := newBed(t, 1)
		ci := b.circuit(7, "")
		if c.pinned {
			b.pin("198.51.100.7:9")
		}
		b.now += int64(c.limit)
		c.alive(ci, b.now)
		if b.sweep(b.now, wall) != 0 {
			t.Errorf("%s: ended at the limit", c.name)
		}
		b.now++
		if b.sweep(b.now, wall) != 1 || b.ended[c.why] != 1 {
			t.Errorf("%s: did not end behind the limit: %v", c.name, b.ended)
		}
		b.isEmpty()
	}
	b := newBed(t, 1)
	ci := b.circuit(7, "")
	end := ci.expiry.Load() + leaseSkew.Milliseconds()
	if b.sweep(b.now, end) != 0 || b.sweep(b.now, end+1) != 1 || b.ended[endExpired] != 1 {
		t.Error("the lease's end is not the circuit's, plus the skew of clocks")
	}
	b.isEmpty()
}

// TestPorts proves which circuits may share a port: hosts differ, and no two wait for viewers that could be confused.
func TestPorts(t *testing.T) {
	b := newBed(t, 3)
	a := b.circuit(1, "198.51.100.1")
	second := b.circuit(2, "198.51.100.2")
	if a.port == second.port {
		t.Error("two circuits of one host address share a port")
	}
	b.host = netip.MustParseAddrPort("192.0.2.2:5000")
	other := b.circuit(3, "198.51.100.3")
	if other.port != a.port {
		t.Error("circuits of different hosts and viewers do not share a port")
	}
	b.host = netip.MustParseAddrPort("192.0.2.3:5000")
	if same := b.circuit(4, "198.51.100.1"); same.port == a.port {
		t.Error("two circuits wait for one address at one port")
	}
	b.host = netip.MustParseAddrPort("192.0.2.4:5000")
	if any := b.circuit(5, ""); any.port != 2 {
		t.Error("a circuit that takes any viewer waits beside others")
	}
	if n := b.freePort(netip.MustParseAddrPort("192.0.2.5:1"), netip.Addr{}); n != -1 {
		t.Errorf("port %d is free for any viewer", n)
	}
}

// TestIndexAgainstMap proves that the lock-free table is a map, over random puts and removes that make it grow and shrink.
func TestIndexAgainstMap(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	x, model := newIndex(seed), map[legKey]*leg{}
	keys := []legKey{{lo: 7, ports: 1 << 16}}
	for step := range 50_000 {
		k := legKey{hi: random.Uint64N(3), lo: random.Uint64N(200), ports: 1<<16 | uint32(random.Uint64N(4))}
		if l := model[k]; l != nil {
			if x.get(k) != l {
				t.Fatalf("seed %d step %d: %v lost", seed, step, k)
			}
			x.remove(l)
			delete(model, k)
		} else if random.IntN(3) > 0 {
			l := &leg{key: k}
			x.put(l)
			model[k] = l
			keys = append(keys, k)
		}
		if k := keys[random.IntN(len(keys))]; x.get(k) != model[k] {
			t.Fatalf("seed %d step %d: %v differs", seed, step, k)
		}
		if x.live != len(model) || x.used > len(*x.slots.Load())/2 {
			t.Fatalf("seed %d step %d: live %d of %d, used %d of %d", seed, step, x.live, len(model), x.used, len(*x.slots.Load()))
		}
	}
}

// TestIndexReadsDuringWrites proves that a reader always finds a leg that stays, whatever a writer does to the others.
func TestIndexReadsDuringWrites(t *testing.T) {
	x := newIndex(1)
	stays := &leg{key: legKey{lo: 1, ports: 1 << 16}}
	x.put(stays)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if x.get(stays.key) != stays {
						t.Error("lost")
						return
					}
				}
			}
		})
	}
	for round := range uint64(200) {
		var legs []*leg
		for i := range uint64(200) {
			l := &leg{key: legKey{hi: round + 1, lo: i, ports: 1 << 16}}
			x.put(l)
			legs = append(legs, l)
		}
		for _, l := range legs {
			x.remove(l)
		}
	}
	close(done)
	wg.Wait()
}

// TestSnapshot proves that what a successor restores is what the predecessor had, ages included.
func TestSnapshot(t *testing.T) {
	b := newBed(t, 4)
	b.circuit(1, "198.51.100.1")
	b.circuit(2, "")
	b.pin("198.51.100.1:9")
	b.sign(b.host.String(), b.keepalive(relaywire.TypeKeepalive, 1, b.key))
	b.now += second
	list := b.export(b.now)
	again := newCore(1, 1000, relaywire.IDKey{1})
	const later = 100 * second // another process, another clock
	if err := again.restore(list, 4, later); err != nil {
		t.Fatal(err)
	}
	back := again.export(later)
	if len(back) != 2 {
		t.Fatalf("%d circuits", len(back))
	}
	byID := map[uint64]circuitRecord{}
	for _, r := range back {
		byID[r.ID] = r
	}
	for _, r := range list {
		if got := byID[r.ID]; got != r {
			t.Errorf("circuit %d came back as\n%+v, was\n%+v", r.ID, got, r)
		}
	}
	if l, d := again.handle(makeKey(b.host, 0), []byte("x"), 1, 1, later); d != dropNone || l.key.remote().String() != "198.51.100.1:9" {
		t.Errorf("restored circuit does not forward: %v", d)
	}
	if err := newCore(1, 1, relaywire.IDKey{1}).restore([]circuitRecord{{Port: 3}}, 2, later); err == nil {
		t.Error("an impossible snapshot was taken over")
	}
}

// TestHandleAllocatesNothing pins the promise of the data path.
func TestHandleAllocatesNothing(t *testing.T) {
	b := newBed(t, 4)
	ci := b.circuit(7, "198.51.100.7")
	ci.setRate(maxRate)
	b.pin("198.51.100.7:9")
	host, viewer := makeKey(b.host, 0), makeKey(netip.MustParseAddrPort("198.51.100.7:9"), 0)
	stranger := makeKey(netip.MustParseAddrPort("203.0.113.1:1"), 0)
	p, tail, out := make([]byte, 1200), b.short(99, 60), make([]byte, 0, 128)
	if n := testing.AllocsPerRun(500, func() {
		b.now += 1000
		if _, d := b.handle(host, p, 19200, 16, b.now); d != dropNone {
			t.Fatal(d)
		}
		if _, d := b.handle(viewer, p, 1200, 1, b.now); d != dropNone {
			t.Fatal(d)
		}
		if _, d := b.handle(stranger, tail, 60, 1, b.now); d != dropOffer {
			t.Fatal(d)
		}
		if _, _, d := b.offer(stranger, tail, b.now, out); d != dropStranger {
			t.Fatal(d)
		}
		if _, d := b.signal(host, tail, b.now, out); d != dropMalformed {
			t.Fatal(d)
		}
	}); n > 1 { // the malformed signal makes one error
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHandle(b *testing.B) {
	bed := newBed(b, 4)
	bed.circuit(7, "198.51.100.7").setRate(maxRate)
	bed.pin("198.51.100.7:9")
	host, p := makeKey(bed.host, 0), make([]byte, 1200)
	b.ReportAllocs()
	b.SetBytes(1200)
	for b.Loop() {
		bed.now += 1000
		if _, d := bed.handle(host, p, 1200, 1, bed.now); d != dropNone {
			b.Fatal(d)
		}
	}
}
