// Package socket lets Raft and the API of one server share one port, so that a cluster needs one firewall rule and the leader's Raft address is
// also where its API is.
//
// The two are told apart by ALPN ("wavry-raft"), and only servers (certificates of role master) may speak Raft. There is no plaintext, on loopback
// neither: an address is no identity. A server that is alone offers no Raft at all.
package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/identity"
)

const (
	raftProtocol = "wavry-raft"
	// greeting is how long a new connection may take to say what it is.
	greeting = 5 * time.Second
	// waiting is how many accepted connections may wait for Raft or HTTP to take them; more are closed.
	waiting = 128
)

// Protocols is the ALPN list of the server's TLS configuration; raft says whether the server has others to speak Raft with.
func Protocols(raft bool) []string {
	if !raft {
		return []string{"h2", "http/1.1"}
	}
	return []string{raftProtocol, "h2", "http/1.1"}
}

// RaftProtocols is the ALPN list of the TLS configuration with which servers dial each other for Raft.
func RaftProtocols() []string { return []string{raftProtocol} }

// Config says how the port is served.
type Config struct {
	// Listener is the open port; Run closes it.
	Listener net.Listener
	// Advertise is the address others reach this server at.
	Advertise string
	// Server is the TLS configuration of the port, with Protocols. Client is the one with which Raft dials, with RaftProtocols.
	Server, Client *tls.Config
	// Refuse reports whether a server may not speak Raft although its certificate is good: it is revoked. Recheck asks again.
	Refuse func(identity.Identity) bool
	// Dial replaces the TCP dialer; may be nil.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger
}

// Mux splits one port. Raft and HTTP are its two halves.
type Mux struct {
	cfg  Config
	log  *slog.Logger
	http *half
	raft *half
}

// New returns the mux; Run serves.
func New(cfg Config) *Mux {
	address := advertised(cfg.Advertise)
	return &Mux{cfg: cfg, log: cfg.Logger.With("component", "socket"), http: newHalf(address), raft: newHalf(address)}
}

// HTTP is the listener of the API; its connections are past the TLS handshake.
func (m *Mux) HTTP() net.Listener { return m.http }

// Raft is the stream layer of Raft's transport.
func (m *Mux) Raft() raft.StreamLayer { return &stream{half: m.raft, mux: m} }

// Run accepts until ctx ends, then closes both halves.
func (m *Mux) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		_ = m.cfg.Listener.Close() // it may be closed already
		m.http.shut()
		m.raft.shut()
	})
	defer stop()
	group.Go(func() error { return m.accept(ctx, group) })
	return group.Wait()
}

func (m *Mux) accept(ctx context.Context, group *errgroup.Group) error {
	for {
		conn, err := m.cfg.Listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", m.cfg.Listener.Addr(), err)
		}
		group.Go(func() error {
			m.greet(ctx, conn)
			return nil
		})
	}
}

// greet finds out what the connection speaks and hands it over.
func (m *Mux) greet(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	to, spoken, err := m.classify(ctx, conn)
	if err != nil {
		m.log.Debug("connection refused", "remote", conn.RemoteAddr(), "cause", err)
		_ = spoken.Close()
		return
	}
	if !to.hand(spoken) {
		_ = spoken.Close()
	}
}

func (m *Mux) classify(ctx context.Context, conn net.Conn) (*half, net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(greeting)); err != nil {
		return nil, conn, err
	}
	secure := tls.Server(conn, m.cfg.Server)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, conn, err
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol != raftProtocol {
		return m.http, secure, conn.SetDeadline(time.Time{})
	}
	if len(state.VerifiedChains) == 0 {
		return nil, conn, errors.New("raft without a certificate")
	}
	id, err := identity.OfCertificate(state.VerifiedChains[0][0])
	if err != nil {
		return nil, conn, err
	}
	if id.Role != identity.RoleMaster || m.cfg.Refuse(id) {
		return nil, conn, fmt.Errorf("raft from %s", id)
	}
	return m.raft, secure, conn.SetDeadline(time.Time{})
}

// half is a listener fed by the mux. It closes the connections it handed out when it is shut: Raft's transport leaves that to the other end.
type half struct {
	address advertised
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once

	mu   sync.Mutex // guards the following
	open map[*tracked]struct{}
}

// tracked is a connection that its half knows of.
type tracked struct {
	net.Conn
	half *half
}

// Close implements net.Conn.
func (t *tracked) Close() error {
	t.half.mu.Lock()
	delete(t.half.open, t)
	t.half.mu.Unlock()
	return t.Conn.Close()
}

func (h *half) track(conn net.Conn) net.Conn {
	t := &tracked{Conn: conn, half: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[t] = struct{}{}
	return t
}

func (h *half) closeTracked() {
	h.mu.Lock()
	open := h.open
	h.open = map[*tracked]struct{}{}
	h.mu.Unlock()
	for t := range open {
		_ = t.Conn.Close() // it may be closed already
	}
}

// Recheck closes the connections of servers that are refused by now.
func (m *Mux) Recheck() {
	var closing []net.Conn
	m.raft.mu.Lock()
	for t := range m.raft.open {
		if m.refused(t.Conn) {
			closing = append(closing, t)
		}
	}
	m.raft.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // it may be closed already
	}
}

// refused reports whether the other end of a Raft connection is refused.
func (m *Mux) refused(conn net.Conn) bool {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return false
	}
	id, err := identity.OfCertificate(secure.ConnectionState().PeerCertificates[0])
	return err != nil || m.cfg.Refuse(id)
}

func newHalf(address advertised) *half {
	return &half{address: address, conns: make(chan net.Conn, waiting), done: make(chan struct{}), open: map[*tracked]struct{}{}}
}

func (h *half) hand(conn net.Conn) bool {
	select {
	case <-h.done:
		return false
	default:
	}
	select {
	case h.conns <- conn:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it closes this half only.
func (h *half) Close() error {
	h.shut()
	return nil
}

func (h *half) shut() {
	h.once.Do(func() {
		close(h.done)
		h.closeTracked()
		for {
			select {
			case conn := <-h.conns:
				_ = conn.Close()
			default:
				return
			}
		}
	})
}

// Addr implements net.Listener: the advertised address, which Raft gives to the other servers.
func (h *half) Addr() net.Addr { return h.address }

type advertised string

func (a advertised) Network() string { return "tcp" }
func (a advertised) String() string  { return string(a) }

type stream struct {
	*half
	mux *Mux
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	conn, err := s.half.Accept()
	if err != nil {
		return nil, err
	}
	conn = s.track(conn)
	select {
	case <-s.done:
		return nil, errors.Join(net.ErrClosed, conn.Close())
	default:
		return conn, nil
	}
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	dial := s.mux.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", string(address))
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, s.mux.cfg.Client)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("dial server %s: %w", address, err), conn.Close())
	}
	conn = s.track(secure)
	if s.mux.refused(secure) { // looked at after it is tracked, so that Recheck misses nothing
		return nil, errors.Join(fmt.Errorf("dial server %s: its certificate is revoked", address), conn.Close())
	}
	return conn, nil
}
