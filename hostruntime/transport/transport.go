// Package transport carries one viewer's session over WebTransport (HTTP/3 on QUIC) and is the only importer of quic-go and
// webtransport-go. It knows streams, datagrams and path statistics; what the bytes mean is streamwire's and session's business.
//
// A Server serves one UDP socket for everything: direct viewers, viewers behind relays (whose packets come from the relay's media
// port), and the relays' control packets, which it hands on unread. The session behind it sees only Conn, which is small on
// purpose: another transport for lossy paths will implement it too.
package transport

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// PathSession is the path of the connect URL; the viewer's token follows it.
const PathSession = "/session/"

// Conn is one viewer's connection.
type Conn interface {
	// Control waits for the viewer's control stream. It is called once.
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
	// Tag begins every connection id the host chooses, so that a relay recognises packets of a viewer whose address changed.
	Tag uint64
	// Control gets the packets on the socket that are not QUIC: answers of relays. It must not block or keep b. Nil: dropped.
	Control func(b []byte, from netip.AddrPort)
	// Relayed says whether packets from an address come through a relay. Nil: never.
	Relayed func(from netip.AddrPort) bool
	Logger  *slog.Logger // nil: discard
}

// Server accepts viewers. Create it with New.
type Server struct {
	cfg Config
	wt  *webtransport.Server
	tr  *quic.Transport
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Certificates == nil || cfg.Admit == nil || cfg.Handle == nil {
		return nil, errors.New("transport: Certificates, Admit and Handle are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	book := newHalfOpen(time.Now)
	s := &Server{cfg: cfg, tr: &quic.Transport{ConnectionIDGenerator: connectionIDs(cfg.Tag), VerifySourceAddress: book.mustProve, ConnContext: book.handshake}}
	mux := http.NewServeMux()
	mux.HandleFunc("CONNECT "+PathSession+"{token}", s.connect)
	s.wt = &webtransport.Server{
		H3: &http3.Server{
			Handler:         mux,
			EnableDatagrams: true,
			MaxHeaderBytes:  maxHeaderBytes,
			Logger:          slog.New(slog.DiscardHandler), // strangers may not fill our log
		},
		// The viewer's token is the authority, and it travels in the URL; an Origin header adds nothing to it.
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

// Serve serves viewers on socket until ctx ends, direct ones and those behind relays alike. It closes the socket. It is called once.
func (s *Server) Serve(ctx context.Context, socket net.PacketConn) error {
	defer socket.Close()
	defer s.tr.Close()
	s.tr.Conn = socket
	listener, err := s.tr.ListenEarly(s.tlsConfig(), quicConfig())
	if err != nil {
		return fmt.Errorf("listen for viewers on %s: %w", socket.LocalAddr(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	g := new(errgroup.Group)
	g.Go(func() error { return s.readControl(ctx) })
	g.Go(func() error { return s.accept(ctx, listener) })
	return g.Wait()
}

func (s *Server) accept(ctx context.Context, listener *quic.EarlyListener) error {
	for {
		c, err := listener.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, quic.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("accept viewers: %w", err)
		}
		go completed(c) // ends with its handshake
		go func() {     // ends with its connection, at the latest when the transport closes
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

// connectionIDs are 8 bytes of tag and 8 random bytes.
type connectionIDs uint64

func (t connectionIDs) ConnectionIDLen() int { return 16 }

func (t connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(t))
	if _, err := rand.Read(id[8:]); err != nil {
		return quic.ConnectionID{}, fmt.Errorf("make a connection id: %w", err)
	}
	return quic.ConnectionIDFromBytes(id[:]), nil
}

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
	c := &conn{session: session, quic: qc, relayed: s.relayed(session.RemoteAddr())}
	defer func() { _ = c.Close(streamwire.CodeEnded, "") }()
	s.cfg.Handle(session.Context(), c, admitted)
}

func (s *Server) relayed(from net.Addr) bool {
	udp, ok := from.(*net.UDPAddr)
	return ok && s.cfg.Relayed != nil && s.cfg.Relayed(unmapped(udp.AddrPort()))
}
