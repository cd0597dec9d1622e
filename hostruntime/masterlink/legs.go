package masterlink

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/relay/relayclient"
	"github.com/wavry/fleet/relay/relaywire"
)

// legs are the host legs of all circuits, by lease.
type legs struct {
	log *slog.Logger

	mu     sync.Mutex // guards the following
	byID   map[string]*leg
	closed bool

	running sync.WaitGroup // the goroutines of all legs, released ones too
}

// leg is one circuit at one relay.
type leg struct {
	client *relayclient.Client
	ctx    context.Context // of the client
	stop   context.CancelFunc
	done   chan struct{}
	once   sync.Once      // closes bound
	bound  chan struct{}  // closed when the relay has answered
	media  netip.AddrPort // its answer, set before bound is closed
	err    error          // set before done is closed

	circuit atomic.Pointer[openCircuit] // the host's side of it, once bound; the notifications' alone to change
}

// openCircuit is a circuit at a media address.
type openCircuit struct {
	hostruntime.Circuit
	media netip.AddrPort
}

type legConfig struct {
	lease     string
	relay     netip.AddrPort
	publicKey []byte
	token     string
	identity  ed25519.PrivateKey
	open      func(transport.CircuitConfig) (hostruntime.Circuit, error)
	send      func(b []byte, to netip.AddrPort) error
}

func newLegs(log *slog.Logger) *legs { return &legs{log: log, byID: map[string]*leg{}} }

var errClosed = fmt.Errorf("link is closing: %w", net.ErrClosed)

// bind opens a circuit and returns the relay's media address. The leg lives until release, closeAll or the relay's no.
func (l *legs) bind(ctx context.Context, c legConfig) (netip.AddrPort, error) {
	g, err := l.start(c)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if media, ok := g.client.Media(); ok { // prepared before: the same lease asks again
		return media, nil
	}
	timer := time.NewTimer(bindTimeout)
	defer timer.Stop()
	select {
	case <-g.bound:
		return g.media, nil
	case <-g.done:
		return netip.AddrPort{}, g.err
	case <-timer.C:
		err = relayclient.ErrUnreachable
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.release(c.lease)
	return netip.AddrPort{}, err
}

// start returns the running leg of the lease, or starts one.
func (l *legs) start(c legConfig) (*leg, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if g := l.byID[c.lease]; g != nil {
		return g, nil
	}
	if len(c.publicKey) != len(relaywire.PublicKey{}) {
		return nil, fmt.Errorf("relay's public key has %d bytes, want %d", len(c.publicKey), len(relaywire.PublicKey{}))
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &leg{ctx: ctx, stop: stop, done: make(chan struct{}), bound: make(chan struct{})}
	client, err := relayclient.New(relayclient.Config{
		Relay: c.relay, PublicKey: relaywire.PublicKey(c.publicKey), Token: c.token, Identity: c.identity, Send: c.send, Offer: g.offered,
		GiveUp: relaySilence, Notify: func(e relayclient.Event) { l.notify(c, g, e) },
	})
	if err != nil {
		stop()
		return nil, err
	}
	g.client = client
	l.byID[c.lease] = g
	l.running.Go(func() { // ends with release or closeAll; closeAll waits for it
		defer stop()
		g.err = client.Run(ctx)
		if open := g.circuit.Load(); open != nil {
			open.Close()
		}
		if g.err != nil && !errors.Is(g.err, relayclient.ErrReleased) {
			l.log.Warn("circuit ended", "lease_id", c.lease, "cause", g.err)
		}
		l.mu.Lock()
		if l.byID[c.lease] == g {
			delete(l.byID, c.lease)
		}
		l.mu.Unlock()
		close(g.done)
	})
	return g, nil
}

func (l *legs) notify(c legConfig, g *leg, e relayclient.Event) {
	l.log.Info("circuit", "lease_id", c.lease, "event", e.Kind.String(), "remote", e.Media.String())
	if e.Kind == relayclient.Bound {
		if err := g.serve(c, e); err != nil {
			l.log.Error("circuit takes no viewer", "lease_id", c.lease, "err", err)
		}
		g.once.Do(func() {
			g.media = e.Media
			close(g.bound)
		})
	}
}

// serve takes the circuit's viewer, or goes on with it when the leg was bound anew at the same address.
func (g *leg) serve(c legConfig, e relayclient.Event) error {
	old := g.circuit.Load()
	if old != nil && old.media == e.Media {
		old.Bound(e.Viewer)
		return nil
	}
	fresh, err := c.open(transport.CircuitConfig{
		Lease: c.lease, Media: e.Media, Number: e.Circuit, IDs: e.IDs, Viewer: e.Viewer, Relay: g.client,
	})
	if err != nil {
		return err
	}
	g.circuit.Store(&openCircuit{fresh, e.Media})
	if old != nil {
		old.Close()
	}
	return nil
}

func (g *leg) offered(candidate uint32, datagram []byte) {
	if open := g.circuit.Load(); open != nil {
		open.Offered(candidate, datagram)
	}
}

// handle gives a packet to the leg it belongs to.
func (l *legs) handle(b []byte, from netip.AddrPort, now time.Time) {
	for _, g := range l.all() {
		if g.client.HandlePacket(from, b, now) {
			return
		}
	}
}

func (l *legs) all() []*leg {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*leg, 0, len(l.byID))
	for _, g := range l.byID {
		list = append(list, g)
	}
	return list
}

func (l *legs) update(lease, token string) {
	l.mu.Lock()
	g := l.byID[lease]
	l.mu.Unlock()
	if g == nil {
		return
	}
	if err := g.client.UpdateToken(token); err != nil {
		l.log.Warn("relay not told of the renewed lease", "lease_id", lease, "cause", err)
	}
}

// release ends the circuit of a lease, if there is one, and tells its relay.
func (l *legs) release(lease string) {
	l.mu.Lock()
	g := l.byID[lease]
	delete(l.byID, lease)
	l.mu.Unlock()
	if g != nil {
		g.stop()
	}
}

// releaseLater is release after legLinger.
func (l *legs) releaseLater(lease string) {
	l.mu.Lock()
	g := l.byID[lease]
	l.mu.Unlock()
	if g == nil {
		return
	}
	timer := time.AfterFunc(legLinger, func() { l.release(lease) })
	context.AfterFunc(g.ctx, func() { timer.Stop() })
}

func (l *legs) closeAll() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, g := range l.all() {
		g.stop()
	}
	l.running.Wait()
}

// resolve takes HOST:PORT; a name is looked up.
func resolve(ctx context.Context, address string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(address); err == nil {
		return a, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("relay address %q: %w", address, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("relay address %q: %w", address, err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)), nil
}

// viewerAddress is where viewers reach a media port: the relay may be known to them by another address than to us.
func viewerAddress(advertised string, media netip.AddrPort) string {
	if advertised == "" {
		return media.String()
	}
	return net.JoinHostPort(advertised, strconv.Itoa(int(media.Port())))
}
