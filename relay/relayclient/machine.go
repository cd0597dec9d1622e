package relayclient

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

const (
	// firstRetry and lastRetry bound the wait for an answer to a BIND; it doubles in between.
	firstRetry = 150 * time.Millisecond
	lastRetry  = 2 * time.Second
	// defaultGiveUp is longer than a relay's restart and shorter than anybody's patience.
	defaultGiveUp = 10 * time.Second
	// missed is how many keepalives in a row may stay unanswered before the leg is bound anew.
	missed = 3
	// hintEvery bounds how often an UNKNOWN, which is not authenticated, makes us bind again.
	hintEvery = time.Second
	// firstConfirm is the wait for an answer to a CONFIRM; it doubles up to lastConfirm, after which the candidate is given up.
	firstConfirm = 25 * time.Millisecond
	lastConfirm  = 2 * time.Second
)

// machine is the host's side of the protocol: time comes in, packets and events go out.
type machine struct {
	// Set once.
	relay  netip.AddrPort
	public relaywire.PublicKey
	mac1   relaywire.Key
	host   relaywire.PublicKey
	shared relaywire.Key
	giveUp time.Duration

	token    string
	fresh    bool // token has not been presented
	released bool
	failed   error

	// The request under way, if any: a BIND or RENEW.
	request   []byte
	bind      relaywire.Bind
	answerKey relaywire.Key
	cookie    *[16]byte
	cookies   int
	retryAt   time.Time
	wait      time.Duration
	lastTime  int64

	// The leg, once bound.
	media      netip.AddrPort
	leg        relaywire.Key
	circuit    uint64
	counter    uint64
	unanswered int // keepalives in a row
	interval   time.Duration
	keepAt     time.Time
	heard      time.Time
	hinted     time.Time
	pinned     bool
	draining   bool
	retryHint  time.Time
	retries    int
	offers     uint64 // counter of the newest OFFER
	answers    uint64 // counter of the last ANSWER
	wanted     uint32 // candidate that the relay has not yet confirmed; 0: none
	wantedAt   time.Time
	wantedFor  time.Duration
	buffer     []byte
	half       relaywire.Carry // the first half of a datagram, whose second is next

	out    []packet
	events []Event
}

type packet struct {
	b  []byte
	to netip.AddrPort
}

func newMachine(cfg Config) (*machine, error) {
	private, err := privateKey(cfg)
	switch {
	case err != nil:
		return nil, err
	case !cfg.Relay.IsValid() || cfg.Relay.Port() == 0:
		return nil, fmt.Errorf("relay address %s is not usable", cfg.Relay)
	case cfg.Send == nil:
		return nil, errors.New("no send function")
	}
	m := &machine{
		relay: unmap(cfg.Relay), public: cfg.PublicKey, mac1: relaywire.MAC1Key(cfg.PublicKey), giveUp: cfg.GiveUp,
		host: relaywire.PublicKey(private.PublicKey().Bytes()),
	}
	if m.giveUp == 0 {
		m.giveUp = defaultGiveUp
	}
	if m.shared, err = relaywire.SharedKey(private, m.public, m.public, m.host); err != nil {
		return nil, fmt.Errorf("relay's public key: %w", err)
	}
	return m, m.updateToken(cfg.Token)
}

func privateKey(cfg Config) (*ecdh.PrivateKey, error) {
	if cfg.Identity != nil {
		return relaywire.PrivateFromIdentity(cfg.Identity)
	}
	return ecdh.X25519().GenerateKey(rand.Reader)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// minToken is what makes a BIND as long as its longest answer.
const minToken = relaywire.MinBindLen - relaywire.BindHeadLen - relaywire.SealOverhead

func (m *machine) updateToken(token string) error {
	if len(token) < minToken || len(token) > relaywire.MaxTokenLen {
		return fmt.Errorf("circuit's token has %d bytes, not %d to %d", len(token), minToken, relaywire.MaxTokenLen)
	}
	m.token, m.fresh = token, true
	return nil
}

// tick does what is due and returns when to be called again.
func (m *machine) tick(now time.Time) (next time.Time, err error) {
	if m.failed != nil {
		return time.Time{}, m.failed
	}
	if m.released {
		return time.Time{}, ErrReleased
	}
	if m.heard.IsZero() {
		m.heard = now
	}
	if now.Sub(m.heard) > m.giveUp {
		return time.Time{}, ErrUnreachable
	}
	m.tickRequest(now)
	m.tickConfirm(now)
	m.tickLeg(now)
	return m.next(now), nil
}

func (m *machine) next(now time.Time) time.Time {
	next := m.heard.Add(m.giveUp + time.Millisecond)
	for _, t := range []time.Time{m.retryAt, m.keepAt, m.retryHint, m.wantedAt} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

// tickRequest starts the request that is wanted, or repeats the one under way byte for byte, so that the relay knows it again.
func (m *machine) tickRequest(now time.Time) {
	switch {
	case m.request != nil && !now.Before(m.retryAt):
		m.wait = min(2*m.wait, lastRetry)
		m.retryAt = now.Add(m.wait)
		m.push(m.request, m.relay)
	case m.request != nil:
	case !m.media.IsValid():
		if !now.Before(m.retryHint) {
			m.retryHint = time.Time{}
			m.ask(now, false)
		}
	case m.fresh && !now.Before(m.retryHint):
		m.retryHint = time.Time{}
		m.ask(now, true)
	}
}

func (m *machine) ask(now time.Time, renew bool) {
	m.lastTime = max(now.UnixNano(), m.lastTime+1)
	m.bind = relaywire.Bind{Renew: renew, Time: m.lastTime, HostKey: m.host}
	rand.Read(m.bind.Nonce[:]) // never fails (crypto/rand)
	m.answerKey = relaywire.LegKey(m.shared, &m.bind.Nonce)
	m.fresh, m.cookies = false, 0
	m.sendRequest(now)
}

func (m *machine) sendRequest(now time.Time) {
	m.request = relaywire.AppendBind(nil, &m.bind, m.token, m.shared, m.mac1, m.cookie)
	m.wait = firstRetry
	m.retryAt = now.Add(m.wait)
	m.push(m.request, m.relay)
}

func (m *machine) endRequest() { m.request, m.retryAt = nil, time.Time{} }

// tickLeg sends the keepalive that is due. When several in a row got no answer, the leg is bound anew: the relay may have restarted
// without its table, or the path may have changed.
func (m *machine) tickLeg(now time.Time) {
	if !m.media.IsValid() || now.Before(m.keepAt) {
		return
	}
	if m.unanswered >= missed {
		m.lose(now)
		return
	}
	m.signal(relaywire.TypeKeepalive)
	m.unanswered++
	m.keepAt = now.Add(m.interval)
	if m.unanswered > 1 { // one got lost: ask again sooner
		m.keepAt = now.Add(m.interval / 4)
	}
}

// confirm wants a candidate as the viewer's leg; the last wish counts. It returns what to send at once.
func (m *machine) confirm(candidate uint32, now time.Time) []packet {
	if !m.media.IsValid() {
		return nil
	}
	had := len(m.out)
	m.wanted, m.wantedAt, m.wantedFor = candidate, now, firstConfirm
	m.tickConfirm(now)
	out := m.out[had:]
	m.out = m.out[:had:had]
	return out
}

// tickConfirm asks again for the leg that is wanted. The relay's answer, whatever it says, ends that: a candidate that it does not
// know will be offered anew.
func (m *machine) tickConfirm(now time.Time) {
	if m.wanted == 0 || now.Before(m.wantedAt) {
		return
	}
	if m.wantedFor > lastConfirm {
		m.wanted, m.wantedAt = 0, time.Time{}
		return
	}
	m.wantedAt = now.Add(m.wantedFor)
	m.wantedFor *= 2
	m.signal(relaywire.TypeConfirm)
}

// handleOffer returns the datagram of an OFFER, or none as long as half of it is missing.
func (m *machine) handleOffer(from netip.AddrPort, b []byte, now time.Time) (relaywire.Carry, bool) {
	o, err := relaywire.ParseCarry(b)
	if err != nil || o.Type != relaywire.TypeOffer || !m.media.IsValid() || unmap(from) != m.media || o.Circuit != m.circuit ||
		o.Counter <= m.offers || !relaywire.CheckCarry(b, &m.leg) {
		return relaywire.Carry{}, false
	}
	m.heard, m.offers = now, o.Counter
	half := m.half
	m.half = relaywire.Carry{}
	switch o.Part {
	case relaywire.FirstHalf:
		m.half = o
		m.half.Datagram = append([]byte(nil), o.Datagram...)
		o.Datagram = nil
	case relaywire.SecondHalf:
		if half.Candidate != o.Candidate || half.Counter+1 != o.Counter {
			o.Datagram = nil
		} else {
			o.Datagram = append(half.Datagram, o.Datagram...)
		}
	}
	return o, true
}

// answer returns the ANSWER to send, valid until the next call; none when there is no leg.
func (m *machine) answer(candidate uint32, datagram []byte) ([]byte, netip.AddrPort) {
	if !m.media.IsValid() || len(datagram) == 0 {
		return nil, netip.AddrPort{}
	}
	m.answers++
	a := relaywire.Carry{Type: relaywire.TypeAnswer, Circuit: m.circuit, Counter: m.answers, Candidate: candidate, Datagram: datagram}
	m.buffer = relaywire.AppendCarry(m.buffer[:0], &a, &m.leg)
	return m.buffer, m.media
}

func (m *machine) signal(t relaywire.Type) {
	m.counter++
	s := relaywire.Signal{Type: t, Circuit: m.circuit, Counter: m.counter}
	if t == relaywire.TypeConfirm {
		s.Candidate = m.wanted
	}
	m.push(relaywire.AppendSignal(nil, &s, &m.leg), m.media)
}

func (m *machine) lose(now time.Time) {
	m.events = append(m.events, Event{Kind: Lost, Media: m.media})
	m.media, m.keepAt, m.pinned = netip.AddrPort{}, time.Time{}, false
	m.endRequest()
	m.ask(now, false)
}

// release says good-bye; one packet is enough, because the relay's idle limit does the rest.
func (m *machine) release(time.Time) {
	if m.media.IsValid() && !m.released {
		m.signal(relaywire.TypeRelease)
	}
	m.released = true
}

func (m *machine) push(b []byte, to netip.AddrPort) { m.out = append(m.out, packet{b, to}) }

// handle takes one packet. It returns false when the packet is not for this leg.
func (m *machine) handle(from netip.AddrPort, b []byte, now time.Time) bool {
	from = unmap(from)
	t, err := relaywire.TypeOf(b)
	if err != nil || from.Addr() != m.relay.Addr() {
		return false
	}
	switch t {
	case relaywire.TypeBound, relaywire.TypeReject, relaywire.TypeCookie:
		return from == m.relay && m.request != nil && relaywire.RequestIDOf(b) == m.bind.RequestID() && m.handleAnswer(t, b, now)
	case relaywire.TypeUnknown:
		return m.handleUnknown(from, b, now)
	default:
		return m.media.IsValid() && from == m.media && relaywire.CircuitOf(b) == m.circuit && m.handleSignal(b, now)
	}
}

func (m *machine) handleAnswer(t relaywire.Type, b []byte, now time.Time) bool {
	switch t {
	case relaywire.TypeBound:
		if a, authentic, err := relaywire.ParseBound(b, &m.answerKey); err == nil && authentic {
			m.bound(a, now)
			return true
		}
	case relaywire.TypeReject:
		if r, authentic, err := relaywire.ParseReject(b, &m.answerKey); err == nil && authentic {
			m.rejected(r, now)
			return true
		}
	case relaywire.TypeCookie:
		if _, cookie, err := relaywire.ParseCookie(b); err == nil && m.cookies < maxCookies {
			m.cookies++
			m.cookie = &cookie
			m.sendRequest(now)
			return true
		}
	}
	return false
}

// maxCookies is how many cookies one request follows: the secret may rotate once in between; more is somebody's game.
const maxCookies = 3

func (m *machine) bound(a relaywire.Bound, now time.Time) {
	kind := Renewed
	if !m.bind.Renew {
		kind = Bound
		m.leg, m.circuit, m.counter, m.unanswered = m.answerKey, a.Circuit, 0, 0
		m.offers, m.answers, m.wanted, m.wantedAt = 0, 0, 0, time.Time{}
		m.media = netip.AddrPortFrom(m.relay.Addr(), a.Port)
		m.interval = max(time.Duration(a.KeepaliveMillis)*time.Millisecond, 100*time.Millisecond)
		m.keepAt = now // the first keepalive opens the NAT towards the media port
		m.pinned = false
	}
	m.heard, m.retries = now, 0
	m.endRequest()
	m.events = append(m.events, Event{
		Kind: kind, Media: m.media, Observed: a.Observed, Expiry: time.UnixMilli(a.ExpiryMillis), Rate: a.RateLimit,
		Circuit: a.Circuit, IDs: a.IDs, Viewer: a.Flags&relaywire.FlagPinned != 0,
	})
	m.flags(a.Flags, time.Time{})
}

// rejected ends the client when the circuit cannot come to be. A refused RENEW is only told: the circuit lives until its lease ends.
func (m *machine) rejected(r relaywire.Reject, now time.Time) {
	err := &relaywire.RejectError{Reason: r.Reason, RetryAfterMillis: r.RetryAfterMillis}
	m.heard = now
	renew := m.bind.Renew
	m.endRequest()
	m.events = append(m.events, Event{Kind: Rejected, Media: m.media, Reject: err})
	switch {
	case r.RetryAfterMillis > 0 && m.retries < maxRetries:
		m.retries++
		m.retryHint = now.Add(time.Duration(r.RetryAfterMillis) * time.Millisecond)
		m.fresh = true
	case !renew:
		m.failed = err
	}
}

// maxRetries is how often a relay that says "later" is asked again.
const maxRetries = 3

func (m *machine) handleUnknown(from netip.AddrPort, b []byte, now time.Time) bool {
	circuit, counter, err := relaywire.ParseUnknown(b)
	renewal := from == m.relay && m.request != nil && m.bind.Renew && counter == m.bind.RequestID()
	keepalive := from == m.media && circuit == m.circuit && counter == m.counter
	if err != nil || !m.media.IsValid() || !(renewal || keepalive) {
		return false
	}
	if now.Sub(m.hinted) >= hintEvery {
		m.hinted = now
		m.lose(now)
	}
	return true
}

func (m *machine) handleSignal(b []byte, now time.Time) bool {
	s, err := relaywire.ParseSignal(b)
	if err != nil || !relaywire.CheckSignal(b, &m.leg) {
		return false
	}
	m.heard = now
	switch s.Type {
	case relaywire.TypeConfirmed:
		m.wanted, m.wantedAt = 0, time.Time{}
		fallthrough
	case relaywire.TypeAlive:
		m.unanswered = 0
		m.flags(s.Flags, time.Time{})
	case relaywire.TypeDraining:
		m.flags(s.Flags|relaywire.FlagDraining, time.UnixMilli(s.TimeMillis))
	}
	return true
}

// flags tells each change once.
func (m *machine) flags(f relaywire.Flags, by time.Time) {
	if f&relaywire.FlagPinned != 0 && !m.pinned {
		m.pinned = true
		m.events = append(m.events, Event{Kind: Pinned, Media: m.media})
	}
	if f&relaywire.FlagDraining != 0 && !m.draining {
		m.events = append(m.events, Event{Kind: Draining, Media: m.media, By: by})
	}
	m.draining = f&relaywire.FlagDraining != 0
}
