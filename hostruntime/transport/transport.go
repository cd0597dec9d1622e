// Package transport carries one viewer's session over WebTransport (HTTP/3 on QUIC) and is the only importer of quic-go and
// webtransport-go. It knows streams, datagrams and path statistics; what the bytes mean is streamwire's and session's business.
//
// A Server serves one UDP socket for everything: direct viewers, viewers behind relays (each circuit has a QUIC transport of its own on
// the socket: see Circuit and package relaypath), and the relays' control packets, which it hands on unread. The session behind it sees only Conn, which is small on
// purpose: another transport for lossy paths will implement it too.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/relaypath"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// PathSession is the path of the connect URL; the viewer's token follows it.
const PathSession = "/session/"

// Conn is one viewer's connection.
type Conn interface {
	// Control opens the control stream. It is called once.
	Control(ctx context.Context) (io.ReadWriteCloser, error)
	// Input waits for the viewer's input stream. It is called once.
	Input(ctx context.Context) (io.Reader, error)
	// SendUnit starts sending one access unit on a stream of its own and returns at once. data must not change until done is
	// called, once, from another goroutine, when every byte has been given to the network or the unit was lost.
	// ErrBusy means that nothing was sent because the viewer grants no more streams: skip the unit.
	SendUnit(header streamwire.VideoHeader, data []byte, done func(error)) error
	SendDatagram(b []byte) error
	// ReceiveDatagram returns the next datagram, valid until the next call.
	ReceiveDatagram(ctx context.Context) ([]byte, error)
	Stats() Stats
	Remote() net.Addr
	// Relayed says whether the packets come through a relay.
	Relayed() bool
	// Prove says that the viewer is who a lease names. A relay carries the stream to it from then on, if the circuit is that lease's.
	Prove(lease string)
	// Close ends the connection; the code and text reach the viewer if the path still works.
	Close(code streamwire.Code, text string) error
	// Done is closed when the connection is over.
	Done() <-chan struct{}
}

// Stats is what the path looks like now.
type Stats struct {
	RTT           time.Duration // smoothed
	MinRTT        time.Duration
	Window        int // congestion window in bytes
	PacketsSent   uint64
	PacketsLost   uint64
	BytesSent     uint64
	BytesReceived uint64
}

// Config of a Server.
type Config struct {
	Certificates *Certificates
	// Admit looks at the token of a connect request before anything is accepted. An error becomes HTTP status 403 with its
	// text. What it returns is handed to Handle.
	Admit func(token string) (any, error)
	// Handle serves one connection until it returns; the connection is closed after.
	Handle func(ctx context.Context, c Conn, admitted any)
	// Control gets the packets on the socket that are not QUIC: answers of relays. It must not block or keep b. Nil: dropped.
	Control func(b []byte, from netip.AddrPort)
	Logger  *slog.Logger // nil: discard
}

// Server accepts viewers. Create it with New.
type Server struct {
	cfg     Config
	wt      *webtransport.Server
	socket  *relaypath.Socket // set by Open
	tr      *quic.Transport
	relayed sync.Map // *quic.Conn: *overRelay
	book    *halfOpen
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Certificates == nil || cfg.Admit == nil || cfg.Handle == nil {
		return nil, errors.New("transport: Certificates, Admit and Handle are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, book: newHalfOpen(time.Now)}
	mux := http.NewServeMux()
	mux.HandleFunc("CONNECT "+PathSession+"{token}", s.connect)
	s.wt = &webtransport.Server{
		H3: &http3.Server{
			Handler:         mux,
			EnableDatagrams: true,
			MaxHeaderBytes:  maxHeaderBytes,
			Logger:          slog.New(slog.DiscardHandler), // strangers may not fill our log
		},
		// The viewer's token and the proof of its key are the authority; an Origin header adds nothing to them.
		CheckOrigin:       func(*http.Request) bool { return true },
		ReorderingTimeout: reorderTimeout,
	}
	s.wt.H3.ConnContext = func(ctx context.Context, c *quic.Conn) context.Context {
		return context.WithValue(ctx, quicConnKey{}, c)
	}
	webtransport.ConfigureHTTP3Server(s.wt.H3)
	return s, nil
}

type quicConnKey struct{}

// Open gives the server its socket, before Serve. It is called once.
func (s *Server) Open(socket relaypath.UDP) {
	s.socket = relaypath.NewSocket(socket)
	s.tr = s.newTransport(s.socket, nil)
}

// newTransport makes a QUIC transport on socket; without ids its connection ids are random.
func (s *Server) newTransport(socket net.PacketConn, ids quic.ConnectionIDGenerator) *quic.Transport {
	return &quic.Transport{
		Conn: socket, ConnectionIDLength: connectionIDLen, ConnectionIDGenerator: ids, VerifySourceAddress: s.book.mustProve, ConnContext: s.book.handshake,
	}
}

// Serve serves viewers until ctx ends, direct ones and those behind relays alike. It closes the socket. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	defer s.socket.Close()
	defer s.tr.Close()
	listener, err := s.tr.ListenEarly(s.tlsConfig(), quicConfig())
	if err != nil {
		return fmt.Errorf("listen for viewers on %s: %w", s.socket.LocalAddr(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	g := new(errgroup.Group)
	g.Go(func() error { return s.readControl(ctx) })
	g.Go(func() error { return s.accept(ctx, listener, nil) })
	return g.Wait()
}

// accept serves the connections of a listener, which come over a circuit or, without one, directly.
func (s *Server) accept(ctx context.Context, listener *quic.EarlyListener, circuit *Circuit) error {
	for {
		c, err := listener.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, quic.ErrServerClosed) || errors.Is(err, quic.ErrTransportClosed) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("accept viewers: %w", err)
		}
		if circuit != nil {
			s.relayed.Store(c, &overRelay{circuit, c.RemoteAddr()})
		}
		visitOf(c).arrived(c)
		go func() { // ends with its connection, at the latest when the transport closes
			defer s.relayed.Delete(c)
			if err := s.wt.ServeQUICConn(c); err != nil {
				s.cfg.Logger.Debug("viewer connection ended", "remote", c.RemoteAddr(), "cause", err)
			}
		}()
	}
}

// readControl hands on what is not QUIC until ctx ends.
func (s *Server) readControl(ctx context.Context) error {
	b := make([]byte, maxControlPacket)
	for {
		n, from, err := s.tr.ReadNonQUICPacket(ctx, b)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, quic.ErrTransportClosed) {
				return nil
			}
			return fmt.Errorf("read control packets: %w", err)
		}
		if udp, ok := from.(*net.UDPAddr); ok && s.cfg.Control != nil {
			s.cfg.Control(b[:n], unmapped(udp.AddrPort()))
		}
	}
}

// SendControl sends a packet that is not QUIC from the viewers' socket. Valid while Serve runs.
func (s *Server) SendControl(b []byte, to netip.AddrPort) error {
	_, err := s.tr.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}

// unmapped gives an IPv4 address one form, whatever family the socket has.
func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Close ends every connection without a word. Sessions say their byes before.
func (s *Server) Close() error { return s.wt.Close() }

func (s *Server) tlsConfig() *tls.Config {
	return http3.ConfigureTLSConfig(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: s.cfg.Certificates.get,
	})
}

func quicConfig() *quic.Config {
	return &quic.Config{
		InitialPacketSize:                packetSize,
		MaxIdleTimeout:                   idleTimeout,
		KeepAlivePeriod:                  keepAlive,
		MaxIncomingStreams:               maxViewerStreams,
		MaxIncomingUniStreams:            maxViewerStreams,
		InitialStreamReceiveWindow:       receiveWindow,
		MaxStreamReceiveWindow:           receiveWindow,
		InitialConnectionReceiveWindow:   2 * receiveWindow,
		MaxConnectionReceiveWindow:       2 * receiveWindow,
		EnableDatagrams:                  true,
		EnableStreamResetPartialDelivery: true, // WebTransport's drafts require it
	}
}

func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	admitted, err := s.cfg.Admit(strings.Clone(r.PathValue("token")))
	if err != nil {
		s.cfg.Logger.Info("viewer refused", "remote", r.RemoteAddr, "cause", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	session, err := s.wt.Upgrade(w, r)
	if err != nil {
		s.cfg.Logger.Info("viewer did not complete WebTransport", "remote", r.RemoteAddr, "cause", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	qc, _ := r.Context().Value(quicConnKey{}).(*quic.Conn)
	visit := visitOf(qc)
	visit.enter()
	defer visit.leave()
	c := &conn{session: session, quic: qc}
	if way, ok := s.relayed.Load(qc); ok {
		c.relay = way.(*overRelay)
	}
	defer func() { _ = c.Close(streamwire.CodeEnded, "") }()
	s.cfg.Handle(session.Context(), c, admitted)
}
