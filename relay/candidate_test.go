package relay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// offering gives a datagram to the core as a data path does. It returns the candidate it was offered of, or why it was not.
func (b *bed) offering(from string, port int, p []byte) (candidate uint32, d drop) {
	b.t.Helper()
	key := makeKey(netip.MustParseAddrPort(from), port)
	if l, d := b.handle(key, p, len(p), 1, b.now); d != dropOffer {
		if l != nil {
			b.t.Errorf("%s is a leg", from)
		}
		return 0, d
	}
	host, packets, d := b.offer(key, p, b.now, make([]byte, 4096))
	if d != dropNone {
		return 0, d
	}
	if host.key.remote() != b.host {
		b.t.Errorf("offered to %v", host.key.remote())
	}
	var got []byte
	for _, o := range packets {
		if len(o) == 0 {
			continue
		}
		c, err := relaywire.ParseCarry(o)
		if err != nil || c.Type != relaywire.TypeOffer || !relaywire.CheckCarry(o, &b.key) {
			b.t.Fatalf("offer %+v, %v", c, err)
		}
		got, candidate = append(got, c.Datagram...), c.Candidate
	}
	if string(got) != string(p) {
		b.t.Errorf("offered %d bytes of %d", len(got), len(p))
	}
	return candidate, dropNone
}

// answering gives an ANSWER of the host to the core.
func (b *bed) answering(circuit uint64, candidate uint32, n int) (to netip.AddrPort, d drop) {
	b.seq++
	w := relaywire.Carry{Type: relaywire.TypeAnswer, Circuit: circuit, Counter: b.seq, Candidate: candidate, Datagram: make([]byte, n)}
	l, p, d := b.answerTo(makeKey(b.host, 0), relaywire.AppendCarry(nil, &w, &b.key), b.now)
	if l == nil {
		return netip.AddrPort{}, d
	}
	if len(p) != n {
		b.t.Errorf("answer of %d bytes, want %d", len(p), n)
	}
	return l.key.remote(), d
}

// confirming gives a CONFIRM of the host to the core and returns which candidate is the leg then.
func (b *bed) confirming(circuit uint64, candidate uint32) uint32 {
	b.t.Helper()
	b.seq++
	p := relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeConfirm, Circuit: circuit, Counter: b.seq, Candidate: candidate}, &b.key)
	answer, d := b.signal(makeKey(b.host, 0), p, b.now, make([]byte, 0, 128))
	s, err := relaywire.ParseSignal(answer)
	if d != dropNone || err != nil || s.Type != relaywire.TypeConfirmed {
		b.t.Fatalf("answer to CONFIRM: %+v, %v, %v", s, d, err)
	}
	return s.Candidate
}

// pin makes an address the viewer's leg of the circuit that waits for it on port 0.
func (b *bed) pin(from string) {
	b.t.Helper()
	candidate, d := b.offering(from, 0, initial(1200))
	if d != dropNone {
		b.t.Fatalf("%s is no candidate: %v", from, d)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := makeKey(netip.MustParseAddrPort(from), 0)
	b.core.confirm(b.core.offered[key].leg.circuit, candidate, b.now)
}

// pinAt is pin for a circuit on any port.
func (b *bed) pinAt(ci *circuit, from string) {
	b.t.Helper()
	candidate, d := b.offering(from, int(ci.port), initial(1200))
	if d != dropNone {
		b.t.Fatal(d)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.core.confirm(ci, candidate, b.now)
}

// TestCandidates proves who may be a viewer: what sends a plausible first packet from the address the lease names, or from any if it
// names none, and what shows one of the circuit's connection ids. It is a candidate then and no leg.
func TestCandidates(t *testing.T) {
	stun := make([]byte, 20)
	stun[1] = 1
	binary.BigEndian.PutUint32(stun[4:], stunCookie)
	v2 := initial(1200)
	v2[0] = 0xd3
	binary.BigEndian.PutUint32(v2[1:], quicV2)
	negotiation, handshake, longID := initial(1200), initial(1200), initial(1200)
	binary.BigEndian.PutUint32(negotiation[1:], 0)
	handshake[0], longID[5] = 0xe3, 21
	badSTUN := append([]byte(nil), stun...)
	badSTUN[3] = 4
	ids := relaywire.NewIDs(relaywire.IDKey{1})
	later := func(first byte, key relaywire.IDKey, circuit uint64) []byte {
		p := initial(1200)
		p[0], p[5] = first, relaywire.IDLen
		copy(p[6:], relaywire.NewIDs(key).Append(nil, circuit, 9))
		return p
	}
	short := func(circuit uint64, n int) []byte {
		p := make([]byte, n)
		p[0] = 0x41
		copy(p[1:], ids.Append(nil, circuit, 3))
		return p
	}
	const named = "198.51.100.7"
	for _, c := range []struct {
		name, viewer, from string
		first              []byte
		want               drop
	}{
		{"initial from the named address", named, "198.51.100.7:9", initial(1200), dropNone},
		{"as long as a path takes", named, "198.51.100.7:9", initial(maxDatagram), dropNone},
		{"longer", named, "198.51.100.7:9", initial(maxDatagram + 1), dropTooBig},
		{"initial of version 2", named, "198.51.100.7:9", v2, dropNone},
		{"stun check", named, "198.51.100.7:9", stun, dropNone},
		{"initial from anywhere", "", "203.0.113.9:9", initial(1200), dropNone},
		{"ipv6 viewer", "2001:db8::1", "[2001:db8::1]:9", initial(1200), dropNone},
		{"initial from another address", named, "198.51.100.8:9", initial(1200), dropStranger},
		{"initial below 1200", named, "198.51.100.7:9", initial(1199), dropNoise},
		{"version negotiation", named, "198.51.100.7:9", negotiation, dropNoise},
		{"handshake packet", named, "198.51.100.7:9", handshake, dropStranger},
		{"connection id too long", named, "198.51.100.7:9", longID, dropNoise},
		{"stun with a false length", named, "198.51.100.7:9", badSTUN, dropNoise},
		{"short header with the circuit's id, from anywhere", named, "203.0.113.9:9", short(7, 60), dropNone},
		{"of another circuit", named, "203.0.113.9:9", short(8, 60), dropStranger},
		{"too short to be QUIC", named, "203.0.113.9:9", short(7, minShort-1), dropNoise},
		{"handshake packet with the circuit's id", named, "203.0.113.9:9", later(0xe3, relaywire.IDKey{1}, 7), dropNone},
		{"initial with the circuit's id", named, "203.0.113.9:9", later(0xc3, relaywire.IDKey{1}, 7), dropNone},
		{"id made with another key", named, "203.0.113.9:9", later(0xe3, relaywire.IDKey{2}, 7), dropStranger},
		{"too short", named, "198.51.100.7:9", []byte{0xc3}, dropNoise},
		{"rtp", named, "198.51.100.7:9", append([]byte{0x80}, make([]byte, 100)...), dropNoise},
	} {
		b := newBed(t, 4)
		ci := b.circuit(7, c.viewer)
		l, d := b.packet(b.host.String(), 0, []byte("early"))
		b.want(c.name+": host before the viewer", l, d, nowhere, dropNoPeer)
		if _, d = b.offering(c.from, 0, c.first); d != c.want {
			t.Errorf("%s: %v, want %v", c.name, d, c.want)
		}
		if ci.viewer.Load() != nil {
			t.Errorf("%s: is a leg", c.name)
		}
	}
}

// TestConfirm proves that the leg begins and moves when the host says so, to the candidate it names, and that the old one keeps the
// stream until then.
func TestConfirm(t *testing.T) {
	b := newBed(t, 4)
	b.circuit(7, "198.51.100.7")
	viewer, moved := netip.MustParseAddrPort("198.51.100.7:9"), netip.MustParseAddrPort("203.0.113.50:77")
	first, _ := b.offering(viewer.String(), 0, initial(1200))
	other, _ := b.offering("198.51.100.7:10", 0, initial(1200))
	if got := b.confirming(7, 99); got != 0 {
		t.Errorf("an unknown candidate made %d the leg", got)
	}
	if got := b.confirming(7, first); got != first {
		t.Errorf("%d is the leg, want %d", got, first)
	}
	l, d := b.packet(b.host.String(), 0, []byte("any bytes"))
	b.want("host to viewer", l, d, viewer, dropNone)
	l, d = b.packet(viewer.String(), 0, []byte("any bytes"))
	b.want("viewer to host", l, d, b.host, dropNone)
	l, d = b.packet(viewer.String(), 1, []byte("\x80bytes that are noise to strangers"))
	b.want("viewer at another port", l, d, nowhere, dropNoise)
	for range 200 { // 10 s of silence, and packets with the circuit's id
		b.now += second / 20
		b.offering(moved.String(), 0, b.short(7, 60))
	}
	l, d = b.packet(b.host.String(), 0, []byte("any bytes"))
	b.want("host, while another address shows the id", l, d, viewer, dropNone)
	next, _ := b.offering(moved.String(), 0, b.short(7, 60))
	if got := b.confirming(7, next); got != next || b.counts.viewersFollowed.Load() != 1 {
		t.Errorf("%d is the leg, want %d", got, next)
	}
	l, d = b.packet(b.host.String(), 0, []byte("any bytes"))
	b.want("host to the new address", l, d, moved, dropNone)
	l, d = b.packet(viewer.String(), 0, make([]byte, 40))
	b.want("the old address", l, d, nowhere, dropNoise)
	if got := b.confirming(7, next); got != next {
		t.Errorf("the same again made %d the leg", got)
	}
	b.sweep(b.now, time.Now().UnixMilli())
	if got := b.confirming(7, other); got == other {
		t.Error("a candidate that has long been silent is the leg")
	}
}

// TestForgedConfirm proves that nobody but the host moves a leg: not without its key, not with what it has sent before, and not from the
// viewer's address.
func TestForgedConfirm(t *testing.T) {
	b := newBed(t, 1)
	ci := b.circuit(7, "")
	thief, _ := b.offering("203.0.113.9:9", 0, initial(1200))
	say := func(from string, counter uint64, key relaywire.Key) drop {
		p := relaywire.AppendSignal(nil, &relaywire.Signal{Type: relaywire.TypeConfirm, Circuit: 7, Counter: counter, Candidate: thief}, &key)
		_, d := b.signal(makeKey(netip.MustParseAddrPort(from), 0), p, b.now, make([]byte, 0, 128))
		return d
	}
	if d := say(b.host.String(), 5, relaywire.Key{9}); d != dropMAC {
		t.Errorf("another key: %v", d)
	}
	if d := say("203.0.113.9:9", 5, relaywire.Key{9}); d != dropMAC {
		t.Errorf("another key, from the candidate: %v", d)
	}
	b.pin("198.51.100.1:5")
	if d := say("198.51.100.1:5", 5, b.key); d != dropMisplaced {
		t.Errorf("from the viewer: %v", d)
	}
	ci.counter.Store(5)
	if d := say(b.host.String(), 5, b.key); d != dropReplay {
		t.Errorf("used before: %v", d)
	}
	if got := ci.viewer.Load().key.remote().String(); got != "198.51.100.1:5" {
		t.Errorf("the leg went to %s", got)
	}
}

// TestNobodyGetsMoreThanItSent proves the limit of what a candidate is sent: its own bytes, and for those that showed a connection id
// the datagrams with which QUIC validates a path, few of them for all of a circuit.
func TestNobodyGetsMoreThanItSent(t *testing.T) {
	b := newBed(t, 1)
	b.circuit(7, "198.51.100.7")
	at := "198.51.100.7:9"
	k, _ := b.offering(at, 0, initial(1200))
	check := func(what string, candidate uint32, n int, want drop) {
		t.Helper()
		if to, d := b.answering(7, candidate, n); d != want || (to == nowhere) != (want != dropNone) {
			t.Errorf("%s: to %v, %v, want %v", what, to, d, want)
		}
	}
	check("more than it sent", k, 1201, dropNoCredit)
	check("a part", k, 700, dropNone)
	check("more than the rest", k, 501, dropNoCredit)
	check("the rest", k, 500, dropNone)
	check("one byte more", k, 1, dropNoCredit)
	check("a candidate there is not", 99, 1, dropNoCandidate)
	sent := 0
	for n := range 8 {
		moved, _ := b.offering(fmt.Sprintf("203.0.113.%d:5", n), 0, b.short(7, 60))
		for range 3 {
			if _, d := b.answering(7, moved, 1200); d == dropNone {
				sent++
			}
		}
		if _, d := b.answering(7, moved, maxProbe+1); d != dropNoCredit {
			t.Errorf("longer than a probe: %v", d)
		}
	}
	if sent != probeBurst {
		t.Errorf("%d probes, want %d", sent, probeBurst)
	}
	forged := relaywire.AppendCarry(nil, &relaywire.Carry{Type: relaywire.TypeAnswer, Circuit: 7, Counter: 1 << 40, Candidate: k, Datagram: []byte("x")}, &relaywire.Key{9})
	if _, _, d := b.answerTo(makeKey(b.host, 0), forged, b.now); d != dropMAC {
		t.Errorf("forged: %v", d)
	}
	again := relaywire.AppendCarry(nil, &relaywire.Carry{Type: relaywire.TypeAnswer, Circuit: 7, Counter: 1, Candidate: k, Datagram: []byte("x")}, &b.key)
	if _, _, d := b.answerTo(makeKey(b.host, 0), again, b.now); d != dropReplay {
		t.Errorf("replayed: %v", d)
	}
	if _, _, d := b.answerTo(makeKey(netip.MustParseAddrPort(at), 0), again, b.now); d != dropMisplaced {
		t.Errorf("from a candidate: %v", d)
	}
}

// TestGarbageKeepsNobodyOut proves that 210 garbage packets per second from the right address, each from another port, do not keep a
// viewer from being a candidate for as long as a slow host takes to answer, and a flood of 5,000 not for good; and that what the
// host answers keeps its place.
func TestGarbageKeepsNobodyOut(t *testing.T) {
	for _, perSecond := range []int{210, 5000} {
		b := newBed(t, 1)
		b.circuit(7, "198.51.100.7")
		port := 1000
		flood := func(d time.Duration) {
			for range int(float64(perSecond) * d.Seconds()) {
				b.now += second / int64(perSecond)
				port++
				b.offering(fmt.Sprintf("198.51.100.7:%d", port), 0, initial(1200))
			}
		}
		flood(2 * time.Second)
		var candidate uint32
		for tries := 0; candidate == 0; tries++ {
			if tries > 200 {
				t.Fatalf("%d/s: never a candidate", perSecond)
			}
			candidate, _ = b.offering("198.51.100.7:9", 0, initial(1200))
			flood(10 * time.Millisecond)
			b.now += rand.Int64N(second / int64(perSecond))
		}
		if perSecond == 210 {
			flood(250 * time.Millisecond)
		}
		if to, d := b.answering(7, candidate, 1200); d != dropNone || to.Port() != 9 {
			t.Errorf("%d/s: answer went to %v, %v", perSecond, to, d)
		}
		flood(time.Second - 20*time.Millisecond)
		if again, d := b.offering("198.51.100.7:9", 0, initial(1200)); again != candidate || d != dropNone {
			t.Errorf("%d/s: lost its place: %d, %v", perSecond, again, d)
		}
		if got := b.confirming(7, candidate); got != candidate {
			t.Errorf("%d/s: not the leg", perSecond)
		}
		b.now += int64(candidateIdle) + 1
		b.sweep(b.now, time.Now().UnixMilli())
		if len(b.core.offered) != 0 || len(b.circuits[7].candidates) != 0 {
			t.Errorf("%d/s: %d candidates are left", perSecond, len(b.core.offered))
		}
	}
}

// TestCandidateLimits proves the bounds: of a circuit, of one address, and of one candidate's packets.
func TestCandidateLimits(t *testing.T) {
	b := newBed(t, 1)
	ci := b.circuit(7, "")
	for n := range 2 * maxCandidates {
		b.now += second / 100
		b.offering(fmt.Sprintf("198.51.100.7:%d", 1000+n), 0, initial(1200))
		if len(ci.candidates) > maxCandidates/2 {
			t.Fatalf("one address has %d", len(ci.candidates))
		}
	}
	for n := range 2 * maxCandidates {
		b.now += second / 100
		b.offering(fmt.Sprintf("203.0.%d.%d:9", n>>8, n&255), 0, initial(1200))
	}
	if len(ci.candidates) != maxCandidates || len(b.core.offered) != maxCandidates {
		t.Errorf("%d candidates, %d in the table, want %d", len(ci.candidates), len(b.core.offered), maxCandidates)
	}
	passed := 0
	for range 4 * candidateRate { // four seconds' worth within one
		b.now += second / (4 * candidateRate)
		if _, d := b.offering("192.0.2.200:1", 0, initial(1200)); d == dropNone {
			passed++
		} else if d != dropCandidateRate {
			t.Fatal(d)
		}
	}
	if want := candidateRate + candidateBurst; passed < want-2 || passed > want+2 {
		t.Errorf("%d packets of one candidate passed in a second, want %d", passed, want)
	}
}

// TestReload proves that a new connection of a viewer whose old one is still heard is a candidate at once, and the leg when the host says so.
func TestReload(t *testing.T) {
	b := newBed(t, 1)
	silent := b.circuit(7, "198.51.100.7")
	b.pin("198.51.100.7:9")
	fresh, d := b.offering("198.51.100.7:10", 0, initial(1200))
	if d != dropNone || b.confirming(7, fresh) != fresh {
		t.Fatalf("reload: %v", d)
	}
	b.host = netip.MustParseAddrPort("192.0.2.9:4433")
	waiting := b.circuit(8, "")
	b.pin("198.51.100.7:11")
	if waiting.viewer.Load() == nil || silent.viewer.Load().key.remote().Port() != 10 {
		t.Errorf("the circuit that waits for anybody does not go first: waiting %v, silent %v", waiting.viewer.Load(), silent.viewer.Load())
	}
}
