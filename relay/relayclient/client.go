// Package relayclient is the host's side of a relay: it binds one circuit, keeps its leg alive, renews its lease and tells what the
// relay says. It imports relaywire and nothing else of ours, and no QUIC.
//
// The host uses one UDP socket for QUIC and for the legs of all its circuits, because the relay finds a leg by its address. So the
// client opens nothing: it sends through Config.Send and is given what arrives through HandlePacket. The owner of the socket calls
//
//	if relaywire.IsControl(b) { for each client: if client.HandlePacket(from, b, time.Now()) { break }; continue }
//
// for each datagram, and gives the rest to QUIC. To QUIC the relay's media port is simply the remote address of the peer.
//
// The protocol is in machine.go, without goroutines and clocks; Client only adds the timer.
package relayclient

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

// ErrReleased is returned by Run after Release.
var ErrReleased = errors.New("circuit released")

// ErrUnreachable is returned by Run when the relay has answered nothing for Config.GiveUp.
var ErrUnreachable = errors.New("relay does not answer")

// Config is what a client needs. All but Identity, Offer, Notify and GiveUp is required.
type Config struct {
	// Relay is the relay's control address as the host reaches it.
	Relay netip.AddrPort
	// PublicKey is the relay's, as the master tells it.
	PublicKey relaywire.PublicKey
	// Token is the lease. UpdateToken replaces it.
	Token string
	// Identity is the host's long-lived key, which the lease names. Nil: a fresh key for this client, for leases that name none.
	Identity ed25519.PrivateKey
	// Send sends b from the host's socket. It must not keep b. An error is as good as a lost datagram.
	Send func(b []byte, to netip.AddrPort) error
	// Offer, if not nil, is given each datagram of a candidate: an address that may be the viewer's (relaywire). Answer speaks to it,
	// Confirm makes it the viewer's leg. It must not block or keep the datagram, and may call nothing of the client but these two.
	Offer func(candidate uint32, datagram []byte)
	// Notify, if not nil, is called with each event, one at a time, outside the client's lock. It must not block.
	Notify func(Event)
	// GiveUp is how long the relay may be silent before Run returns ErrUnreachable. 0: 10 s.
	GiveUp time.Duration
}

// EventKind tells events apart.
type EventKind uint8

// The kinds of events.
const (
	Bound    EventKind = iota + 1 // the leg is up: Media is valid
	Renewed                       // the lease was prolonged
	Pinned                        // the viewer's first packet has reached the relay
	Draining                      // the relay leaves by By: get another one
	Lost                          // the relay forgot the circuit or is silent; the client binds again by itself
	Rejected                      // a RENEW was refused for Reject; the circuit lives until its lease ends
)

// String names the kind in logs.
func (k EventKind) String() string {
	names := [...]string{"", "bound", "renewed", "pinned", "draining", "lost", "rejected"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Event is something the host should know.
type Event struct {
	Kind     EventKind
	Media    netip.AddrPort // the relay's media port: the address viewers connect to
	Observed netip.AddrPort // the host's address as the relay sees it
	Expiry   time.Time
	Rate     uint64 // bits per second
	By       time.Time
	Reject   *relaywire.RejectError
	// Circuit and IDs make connection ids that lead the relay to this circuit, and Viewer tells whether it has a viewer's leg (Bound).
	Circuit uint64
	IDs     relaywire.IDKey
	Viewer  bool
}

// Client holds one leg. Run it once.
type Client struct {
	send   func([]byte, netip.AddrPort) error
	notify func(Event)
	offer  func(uint32, []byte)
	wake   chan struct{}

	mu sync.Mutex // guards the following
	m  *machine
	// notifying keeps events in order: it is taken before mu is given back.
	notifying sync.Mutex
	// answering keeps ANSWERs in the order of their counters; it is taken after mu.
	answering sync.Mutex
}

// New checks cfg. It sends nothing.
func New(cfg Config) (*Client, error) {
	m, err := newMachine(cfg)
	if err != nil {
		return nil, fmt.Errorf("relay client: %w", err)
	}
	return &Client{send: cfg.Send, notify: cfg.Notify, offer: cfg.Offer, wake: make(chan struct{}, 1), m: m}, nil
}

// Run binds and keeps the leg until ctx ends (then it releases the circuit and returns nil), the relay refuses (a
// *relaywire.RejectError), it stays silent (ErrUnreachable), or Release is called (ErrReleased).
func (c *Client) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			c.step(func() { c.m.release(time.Now()) })
			return nil
		case <-timer.C:
		case <-c.wake:
		}
		var next time.Time
		var err error
		c.step(func() { next, err = c.m.tick(time.Now()) })
		if err != nil {
			return err
		}
		timer.Reset(time.Until(next))
	}
}

// HandlePacket gives the client a control packet (relaywire.IsControl) that the host's socket received. It returns false when the
// packet is not for this client. It may be called from any goroutine and does not keep b.
func (c *Client) HandlePacket(from netip.AddrPort, b []byte, now time.Time) bool {
	mine := false
	if relaywire.TypeIs(b, relaywire.TypeOffer) {
		return c.handleOffer(from, b, now)
	}
	c.step(func() { mine = c.m.handle(from, b, now) })
	if mine {
		c.poke()
	}
	return mine
}

func (c *Client) handleOffer(from netip.AddrPort, b []byte, now time.Time) bool {
	c.mu.Lock()
	o, mine := c.m.handleOffer(from, b, now)
	c.mu.Unlock()
	if len(o.Datagram) > 0 && c.offer != nil {
		c.offer(o.Candidate, o.Datagram)
	}
	return mine
}

// Answer sends a datagram to a candidate. The relay passes on no more bytes than the candidate sent. It may be called from any
// goroutine and does not keep the datagram.
func (c *Client) Answer(candidate uint32, datagram []byte) error {
	c.answering.Lock()
	defer c.answering.Unlock()
	c.mu.Lock()
	b, to := c.m.answer(candidate, datagram)
	c.mu.Unlock()
	if b == nil {
		return net.ErrClosed
	}
	return c.send(b, to)
}

// Confirm makes a candidate the viewer's leg: the host has found that it is. It is sent at once and again until the relay has
// answered. It may be called from any goroutine.
func (c *Client) Confirm(candidate uint32) {
	c.answering.Lock() // what is sent to the leg after this must find it there
	defer c.answering.Unlock()
	c.mu.Lock()
	out := c.m.confirm(candidate, time.Now())
	c.mu.Unlock()
	for _, p := range out {
		_ = c.send(p.b, p.to) // see step
	}
	c.poke()
}

// UpdateToken gives the client a renewed lease, which it presents at once.
func (c *Client) UpdateToken(token string) error {
	var err error
	c.step(func() { err = c.m.updateToken(token) })
	c.poke()
	return err
}

// Release ends the circuit at the relay and Run.
func (c *Client) Release() {
	c.step(func() { c.m.release(time.Now()) })
	c.poke()
}

// Media is the relay's media port, once the leg is up.
func (c *Client) Media() (netip.AddrPort, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m.media, c.m.media.IsValid()
}

func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // a wake is already waiting
	}
}

// step runs f on the machine, then sends and tells what it wants sent and told.
func (c *Client) step(f func()) {
	c.notifying.Lock()
	defer c.notifying.Unlock()
	c.mu.Lock()
	f()
	out, events := c.m.out, c.m.events
	c.m.out, c.m.events = nil, nil
	c.mu.Unlock()
	for _, p := range out {
		_ = c.send(p.b, p.to) // lost datagrams are sent again by the machine's own timers
	}
	for _, e := range events {
		if c.notify != nil {
			c.notify(e)
		}
	}
}
