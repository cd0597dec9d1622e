package relay

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"golang.org/x/crypto/blake2s"

	"github.com/wavry/fleet/relay/relaywire"
)

// admission is what a control packet passes before anything costly looks at it: shape, MAC1, under load a cookie, the limit of its
// source, and a place in the verifiers' queue. Workers call it; it takes no lock and allocates nothing.
type admission struct {
	mac1     relaywire.Key
	cookies  cookieJar
	demand   gcra        // BINDs per second above which cookies are demanded
	unproven sourceLimit // sources that have shown no cookie
	proven   sourceLimit
	queue    chan *bindJob
	free     chan *bindJob
}

// bindJob is a BIND on its way to a verifier; jobs are reused.
type bindJob struct {
	from   netip.AddrPort
	now    int64
	packet []byte // within buf
	buf    [relaywire.MaxBindLen]byte
}

func newAdmission(mac1 relaywire.Key) *admission {
	a := &admission{
		mac1: mac1, demand: gcra{every: 1e9 / cookieRate, burst: 1e9 / 10},
		queue: make(chan *bindJob, verifyQueue), free: make(chan *bindJob, verifyQueue),
	}
	a.unproven.seed, a.proven.seed = randomSeed(), randomSeed()
	for range verifyQueue {
		a.free <- new(bindJob)
	}
	a.cookies.rotate()
	return a
}

// consider handles one packet at the control port. It returns an answer to send at once (appended to out), or why the packet was
// dropped; neither means that a verifier has it.
func (a *admission) consider(from legKey, p []byte, now int64, counts *counts, out []byte) ([]byte, drop) {
	var b relaywire.Bind
	if len(p) < relaywire.MinBindLen || len(p) > relaywire.MaxBindLen || relaywire.ParseBind(p, &b) != nil {
		return nil, dropMalformed
	}
	if !relaywire.CheckMAC1(p, &a.mac1) {
		return nil, dropMAC1
	}
	if d := a.checkSource(from, p, now); d == needCookie {
		counts.cookies.Add(1)
		cookie := a.cookies.bake(0, from)
		return relaywire.AppendCookie(out, b.RequestID(), &cookie), dropNone
	} else if d != dropNone {
		return nil, d
	}
	return nil, a.enqueue(from, p, now)
}

// needCookie is what checkSource says when the source must first show that it receives what is sent to it.
const needCookie = numDrops

func (a *admission) checkSource(from legKey, p []byte, now int64) drop {
	if a.cookies.fits(from, p) {
		if !a.proven.take(from, now) {
			return dropSource
		}
		return dropNone
	}
	if len(a.queue) > cookieAbove || !a.demand.take(now) || !a.unproven.take(from, now) {
		return needCookie
	}
	return dropNone
}

func (a *admission) enqueue(from legKey, p []byte, now int64) drop {
	select {
	case j := <-a.free:
		j.from, j.now = from.remote(), now
		j.packet = j.buf[:copy(j.buf[:], p)]
		a.queue <- j // never blocks: there are as many jobs as places
		return dropNone
	default:
		return dropBusy
	}
}

// cookieJar makes the cookies that prove a source address, WireGuard's way: nothing is stored per source.
type cookieJar struct {
	secrets [2]atomic.Pointer[relaywire.Key] // current, previous
}

// rotate makes a new secret. One goroutine calls it.
func (j *cookieJar) rotate() {
	fresh := new(relaywire.Key)
	for i := 0; i < len(fresh); i += 8 {
		binary.LittleEndian.PutUint64(fresh[i:], randomSeed())
	}
	j.secrets[1].Store(j.secrets[0].Load())
	j.secrets[0].Store(fresh)
}

func (j *cookieJar) bake(which int, from legKey) (cookie [16]byte) {
	secret := j.secrets[which].Load()
	if secret == nil {
		return cookie
	}
	var b [32 + 16 + 2]byte
	copy(b[:], secret[:])
	binary.BigEndian.PutUint64(b[32:], from.hi)
	binary.BigEndian.PutUint64(b[40:], from.lo)
	binary.BigEndian.PutUint16(b[48:], uint16(from.ports>>16))
	sum := blake2s.Sum256(b[:])
	copy(cookie[:], sum[:])
	return cookie
}

// fits tells whether p carries a cookie of its source. Most packets carry none, which costs nothing.
func (j *cookieJar) fits(from legKey, p []byte) bool {
	if binary.BigEndian.Uint64(p[96:]) == 0 && binary.BigEndian.Uint64(p[104:]) == 0 {
		return false
	}
	for i := range j.secrets {
		if j.secrets[i].Load() == nil {
			continue
		}
		if cookie := j.bake(i, from); relaywire.CheckMAC2(p, &cookie) {
			return true
		}
	}
	return false
}
