package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/relaypath"
	"github.com/wavry/fleet/relay/relaywire"
)

// model is who may move a leg, as one machine: the relay's core and the host's relaypath.Paths as they are, QUIC's rules for paths
// (RFC 9000 section 9: duplicates are dropped, a path is validated before a connection moves there, the newest packet decides), a
// viewer whose NAT may rebind, and a thief who sees every byte, sends from any address, is as fast as it likes and has no keys.
type model struct {
	*bed
	paths  *relaypath.Paths
	labels uint32

	// QUIC at the host.
	remote    netip.AddrPort
	got       map[uint32]bool
	largest   uint32
	validated map[netip.AddrPort]bool // false: asked

	// The viewer, and what it has sent that has not arrived.
	at, old netip.AddrPort
	sent    uint32
	flight  []wirePacket
	newest  []byte
	asked   netip.AddrPort // the newest question that QUIC asked about a path
	thief   struct{ in, out, probes int }
	stolen  string
	lost    bool // one packet, which is all that the network loses
}

type wirePacket struct {
	from netip.AddrPort
	b    []byte
}

var (
	viewerHome  = netip.MustParseAddrPort("198.51.100.7:9")
	viewerMoved = netip.MustParseAddrPort("198.51.100.7:4444")
	thiefAt     = netip.MustParseAddrPort("203.0.113.66:666")
)

func newModel(t testing.TB) *model {
	m := &model{bed: newBed(t, 1), got: map[uint32]bool{}, validated: map[netip.AddrPort]bool{}, at: viewerHome, old: viewerHome}
	m.circuit(7, viewerHome.Addr().String())
	m.paths = relaypath.NewPaths(func() netip.AddrPort {
		m.labels++
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{240}), uint16(m.labels))
	})
	// The viewer connects, shakes hands and proves itself.
	candidate, d := m.offering(viewerHome.String(), 0, initial(1200))
	if d != dropNone {
		t.Fatal(d)
	}
	label, _, _ := m.paths.Offered(candidate, initial(1200), m.time(), m.atLabel)
	m.remote = label
	m.do(m.paths.Proven(label))
	return m
}

func (m *model) time() time.Time                   { return time.Unix(0, m.now) }
func (m *model) atLabel(label netip.AddrPort) bool { return label == m.remote }

func (m *model) do(a relaypath.Action) {
	if a.Confirm != 0 {
		m.confirming(7, a.Confirm)
	}
}

// relay brings a datagram to the relay, and from there to QUIC.
func (m *model) relay(from netip.AddrPort, b []byte) {
	if from == thiefAt {
		m.thief.in += len(b)
	}
	l, d := m.handle(makeKey(from, 0), b, len(b), 1, m.now)
	switch {
	case l != nil:
		if label, ok := m.paths.Received(b, m.time(), m.atLabel); ok {
			m.quic(label, b)
		}
	case d == dropOffer:
		_, packets, d := m.offer(makeKey(from, 0), b, m.now, make([]byte, 4096))
		if d != dropNone {
			return
		}
		c, err := relaywire.ParseCarry(packets[0])
		if err != nil {
			m.t.Fatal(err)
		}
		if label, _, ok := m.paths.Offered(c.Candidate, c.Datagram, m.time(), m.atLabel); ok {
			m.quic(label, b)
		}
	}
}

// A viewer's packet: the connection id, its number, whether it answers a question, and which.
const (
	numberAt = 1 + relaywire.IDLen
	answerAt = numberAt + 4
)

// quic is what QUIC does with a packet that it can decrypt.
func (m *model) quic(label netip.AddrPort, b []byte) {
	if b[0] != 0x41 {
		return // not made with the connection's keys
	}
	number := binary.BigEndian.Uint32(b[numberAt:])
	if m.got[number] {
		return
	}
	m.got[number] = true
	m.largest = max(m.largest, number)
	if answer := binary.BigEndian.Uint16(b[answerAt:]); answer != 0 {
		if about := netip.AddrPortFrom(netip.AddrFrom4([4]byte{240}), answer); m.known(about) {
			m.validated[about] = true
		}
		if label != m.remote && !m.known(label) {
			m.ask(label)
		}
		return // probing packets move nothing
	}
	switch {
	case label == m.remote:
	case m.validated[label] && number == m.largest:
		m.remote = label
		clear(m.validated)
	case !m.validated[label]:
		m.ask(label)
	}
}

func (m *model) known(label netip.AddrPort) bool { _, ok := m.validated[label]; return ok }

func (m *model) ask(label netip.AddrPort) {
	m.validated[label] = false
	m.asked = label
	if to := m.host2net(label, 1200, true); to == m.at {
		m.answer()
	}
}

// answer lets the viewer answer the newest question, wherever it came from: it is about its connection.
func (m *model) answer() {
	if m.asked.IsValid() {
		m.emit(m.asked.Port())
	}
}

func (m *model) emit(answer uint16) {
	m.sent++
	b := make([]byte, 60)
	b[0] = 0x41
	copy(b[1:], m.ids.Append(nil, 7, uint64(m.sent)))
	binary.BigEndian.PutUint32(b[numberAt:], m.sent)
	binary.BigEndian.PutUint16(b[answerAt:], answer)
	m.newest = b
	m.flight = append(m.flight, wirePacket{m.at, b})
}

// host2net sends a datagram of QUIC's to a label and returns the address it reaches.
func (m *model) host2net(label netip.AddrPort, n int, probe bool) netip.AddrPort {
	where, candidate, a := m.paths.Sending(label, make([]byte, n), m.time(), m.atLabel)
	m.do(a)
	to := netip.AddrPort{}
	switch where {
	case relaypath.ToLeg:
		if l, _ := m.handle(makeKey(m.bed.host, 0), make([]byte, n), n, 1, m.now); l != nil {
			to = l.key.remote()
		}
	case relaypath.ToCandidate:
		to, _ = m.answering(7, candidate, n)
	}
	if to == thiefAt {
		m.thief.out += n
		if m.thief.probes++; !probe {
			m.stolen = "the stream went to the thief"
		}
	}
	return to
}

func (m *model) pass(d time.Duration) bool {
	m.now += int64(d)
	m.do(m.paths.Settled(m.time(), m.atLabel))
	return true
}

// moves are what may happen next; each tells whether it can.
var moves = []struct {
	name string
	do   func(m *model) bool
}{
	{"viewer speaks", func(m *model) bool { m.emit(0); return m.sent < 40 }},
	{"oldest packet arrives", func(m *model) bool {
		if len(m.flight) == 0 {
			return false
		}
		p := m.flight[0]
		m.flight = m.flight[1:]
		m.relay(p.from, p.b)
		return true
	}},
	{"oldest packet is lost", func(m *model) bool {
		if len(m.flight) == 0 || m.lost {
			return false
		}
		m.flight, m.lost = m.flight[1:], true
		return true
	}},
	{"viewer's NAT rebinds", func(m *model) bool {
		if m.at == viewerMoved {
			return false
		}
		m.at = viewerMoved
		return true
	}},
	{"thief brings the newest packet first", func(m *model) bool {
		if m.newest == nil {
			return false
		}
		m.relay(thiefAt, m.newest)
		return true
	}},
	{"thief brings it from the viewer's old address", func(m *model) bool {
		if m.newest == nil {
			return false
		}
		m.relay(m.old, m.newest)
		return true
	}},
	{"thief sends garbage with the id", func(m *model) bool {
		g := append([]byte(nil), m.short(7, 60)...)
		g[0] = 0x42
		m.relay(thiefAt, g)
		return true
	}},
	{"thief hands the viewer QUIC's question", func(m *model) bool {
		if !m.asked.IsValid() {
			return false
		}
		m.answer()
		return true
	}},
	// The thief may be faster than the network, but what it outruns arrives before the leg settles.
	{"60 ms pass", func(m *model) bool { return len(m.flight) == 0 && m.pass(60*time.Millisecond) }},
	{"1.1 s pass", func(m *model) bool { return len(m.flight) == 0 && m.pass(1100*time.Millisecond) }},
}

// play does a sequence of moves, with a packet of the stream after each. ok is false when a move cannot be made.
func play(t testing.TB, sequence []byte) (m *model, ok bool) {
	m = newModel(t)
	for _, i := range sequence {
		if !moves[i].do(m) {
			return m, false
		}
		m.host2net(m.remote, 1200, false)
		if m.stolen != "" {
			return m, true
		}
	}
	return m, true
}

// recover lets the thief stop and tells whether the viewer has its leg soon.
func (m *model) recovers() bool {
	for range 40 {
		m.emit(0)
		for len(m.flight) > 0 {
			p := m.flight[0]
			m.flight = m.flight[1:]
			m.relay(p.from, p.b)
		}
		m.pass(50 * time.Millisecond)
		if m.host2net(m.remote, 1200, false) == m.at {
			return true
		}
	}
	return false
}

func story(sequence []byte) (s string) {
	for _, i := range sequence {
		s += "\n  " + moves[i].name
	}
	return s
}

// TestNobodyTakesALeg explores every sequence of moves of viewer, network and thief up to a length (4; WAVRY_LEGS_DEPTH for more), then long ones at
// random (2,000; WAVRY_LEGS_WALKS), and proves of each that no packet of the stream reaches the thief, that the thief is sent no more than it sent and a bounded number of probes, and that
// the viewer has its leg within two seconds of the thief's end.
func TestNobodyTakesALeg(t *testing.T) {
	depth, walks := setting("WAVRY_LEGS_DEPTH", 4), setting("WAVRY_LEGS_WALKS", 2000)
	explored := 0
	var explore func(sequence []byte)
	explore = func(sequence []byte) {
		m, ok := play(t, sequence)
		if !ok {
			return
		}
		explored++
		if len(sequence) < depth {
			for i := range moves {
				explore(append(sequence[:len(sequence):len(sequence)], byte(i)))
			}
			return
		}
		m.judge(sequence)
	}
	explore(nil)
	random := rand.New(rand.NewPCG(1, 2))
	thefts := 0
	for range walks {
		m, sequence := newModel(t), []byte(nil)
		for len(sequence) < 30 {
			i := byte(random.IntN(len(moves)))
			if moves[i].do(m) {
				sequence = append(sequence, i)
				m.host2net(m.remote, 1200, false)
			}
		}
		if m.thief.probes > 0 {
			thefts++
		}
		m.judge(sequence)
	}
	t.Logf("%d sequences of up to %d moves, %d of 30; in %d of those QUIC asked the thief to prove its path", explored, depth, walks, thefts)
	if walks > 100 && thefts < walks/10 {
		t.Errorf("the thief is too timid: QUIC asked it in %d of %d", thefts, walks)
	}
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// judge fails when the thief has more than it may, or the viewer does not get its leg back.
func (m *model) judge(sequence []byte) {
	m.t.Helper()
	back := m.recovers()
	switch {
	case m.stolen != "":
		m.t.Fatalf("%s:%s", m.stolen, story(sequence))
	case m.thief.out > m.thief.in+maxProbe*(probeBurst+probeRate*int(1+(m.now-3600*second)/second)):
		m.t.Fatalf("the thief sent %d bytes and got %d:%s", m.thief.in, m.thief.out, story(sequence))
	case !back:
		m.t.Fatalf("the viewer at %v is locked out:%s", m.at, story(sequence))
	}
}

// TestPauses proves that a viewer that pauses for 0.15 to 20 s, and whose NAT rebinds in every other pause, keeps or regains its leg each
// time, and that no packet of the stream reaches a thief who copies every packet, is always first, replays old ones throughout the pause,
// hands on QUIC's questions, and lets go only in the end. 50 pauses; make bench-legs has 1,000.
func TestPauses(t *testing.T) {
	pauses := setting("WAVRY_LEGS_PAUSES", 50)
	random := rand.New(rand.NewPCG(3, 4))
	m, asked, regained := newModel(t), 0, time.Duration(0)
	for n := range pauses {
		began := m.thief.probes
		speak := func(thief bool) {
			m.emit(0)
			for len(m.flight) > 0 {
				p := m.flight[0]
				m.flight = m.flight[1:]
				if thief { // before the viewer's own
					m.relay(thiefAt, p.b)
				}
				m.relay(p.from, p.b)
			}
		}
		for range 3 {
			speak(false)
			m.pass(50 * time.Millisecond)
		}
		for left := 150*time.Millisecond + time.Duration(random.Int64N(int64(19850*time.Millisecond))); left > 0; left -= 50 * time.Millisecond {
			m.relay(thiefAt, m.newest) // a replay
			m.host2net(m.remote, 1200, false)
			m.pass(min(left, 50*time.Millisecond))
			m.circuits[7].hostSeen.Store(m.now) // keepalives
			m.sweep(m.now, time.Now().UnixMilli())
		}
		if n%2 == 1 {
			m.old = m.at
			m.at = netip.AddrPortFrom(viewerHome.Addr(), uint16(10000+n))
		}
		for range 10 { // half a second of race
			speak(true)
			m.answer()
			for range 3 {
				m.host2net(m.remote, 1200, false)
			}
			m.pass(50 * time.Millisecond)
		}
		from := m.now
		if !m.recovers() {
			t.Fatalf("pause %d: the viewer is locked out", n)
		}
		regained = max(regained, time.Duration(m.now-from))
		if m.stolen != "" {
			t.Fatalf("pause %d: %s", n, m.stolen)
		}
		if m.thief.probes > began {
			asked++
		}
	}
	t.Logf("%d pauses, %d with questions to the thief, no packet of the stream to it; leg regained at most %v after it let go", pauses, asked, regained)
	if asked < pauses/2 {
		t.Errorf("the thief was taken seriously in %d of %d pauses only", asked, pauses)
	}
}
