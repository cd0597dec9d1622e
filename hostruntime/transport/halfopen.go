package transport

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// halfOpen keeps the book of handshakes that have begun and led to no session yet. Whoever begins one has shown nothing, not even that the
// address is theirs, so what they may cost is bounded: beyond a rate and a number they prove their address first (a Retry packet, which
// is shorter than what asked for it and leaves nothing behind), and those who have proved it are bounded per network and in all.
type halfOpen struct {
	now func() time.Time

	mu       sync.Mutex // guards the following
	left     float64    // handshakes that may begin without proof
	at       time.Time  // when that was
	unproven int
	proven   int
	networks map[netip.Prefix]int // of the proven
}

func newHalfOpen(now func() time.Time) *halfOpen {
	return &halfOpen{now: now, left: unprovenBurst, networks: map[netip.Prefix]int{}}
}

// mustProve says whether the next handshake has to prove its address first, and counts it where not.
func (h *halfOpen) mustProve(net.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if since := now.Sub(h.at); since > 0 {
		h.left = min(h.left+unprovenRate*since.Seconds(), unprovenBurst)
	}
	h.at = now
	if h.left < 1 || h.unproven >= maxUnproven {
		return true
	}
	h.left--
	return false
}

// begin takes a handshake into the book; false when there is no room. The caller calls end once.
func (h *halfOpen) begin(from netip.Addr, proven bool) (end func(), ok bool) {
	network := networkOf(from)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !proven {
		h.unproven++ // mustProve has let it in
		return func() { h.count(func() { h.unproven-- }) }, true
	}
	if h.proven >= maxProven || h.networks[network] >= maxProvenPerNetwork {
		return nil, false
	}
	h.proven++
	h.networks[network]++
	return func() {
		h.count(func() {
			h.proven--
			if h.networks[network]--; h.networks[network] == 0 {
				delete(h.networks, network)
			}
		})
	}, true
}

func (h *halfOpen) count(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// networkOf is what one customer has at least: an IPv4 address, an IPv6 /56.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap().WithZone(""); a.Is6() {
		bits = 56
	}
	p, _ := a.Prefix(bits) // an address that is not valid has the zero prefix
	return p
}

type visitKey struct{}

// handshake is quic.Transport.ConnContext: it takes each handshake into the book, until its connection has a session or ends.
func (h *halfOpen) handshake(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	var from netip.Addr
	if udp, ok := info.RemoteAddr.(*net.UDPAddr); ok {
		from = udp.AddrPort().Addr()
	}
	end, ok := h.begin(from, info.AddrVerified)
	if !ok {
		return nil, errTooManyHandshakes
	}
	v := &visit{known: sync.OnceFunc(end)}
	context.AfterFunc(ctx, v.known)
	return context.WithValue(ctx, visitKey{}, v), nil
}

// visit is a connection that has a session or is closed soon: to shake hands needs no token, and QUIC would keep the connection of whoever did
// alive for good.
type visit struct {
	known func() // takes the handshake out of the book

	mu       sync.Mutex // guards the following
	sessions int
	late     *time.Timer
}

// visitOf returns the visit of a connection that was accepted.
func visitOf(c *quic.Conn) *visit { return c.Context().Value(visitKey{}).(*visit) }

// arrived begins the visit.
func (v *visit) arrived(c *quic.Conn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.late = time.AfterFunc(sessionWait, func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "no session") })
	context.AfterFunc(c.Context(), func() { v.late.Stop() })
}

// enter says that the visitor has a session, leave that it is over.
func (v *visit) enter() {
	v.known()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sessions++
	v.late.Stop()
}

func (v *visit) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sessions--; v.sessions == 0 {
		v.late.Reset(sessionWait)
	}
}
