// Package hostruntime is the host role: it keeps the table of sessions on this machine, admits viewers by their lease, and wires
// transport, sessions and sources together.
//
// Who may come is decided elsewhere (by the master, or by package standalone): that side calls Prepare with a signed lease, hands
// the answer to the viewer, and the viewer arrives with the same lease over WebTransport. Host verifies both offline.
package hostruntime

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
)

// Config of a Host.
type Config struct {
	// ID names this host in leases; at most 64 bytes.
	ID string
	// Identity is the host's long-lived key; its public half is in every grant.
	Identity ed25519.PrivateKey
	// Bind is the UDP address for viewers, port 0 for any free one. Advertise lists the addresses viewers may use; a port of 0
	// stands for the bound one. Empty: the bound address.
	Bind      netip.AddrPort
	Advertise []netip.AddrPort
	// Slots is how many sessions may run at once, 1..MaxSlots.
	Slots int
	// Verify checks a viewer's token at a time; its errors wrap the sentinels of package lease. It is called per connection.
	Verify func(token string, now time.Time) (lease.ViewerClaims, error)
	// Desktop is what every session shows; nil: each has something of its own, as the test picture.
	Desktop Desktop
	// NewSource creates the picture source of a session, without starting it.
	NewSource func(sessionID string) (session.Source, error)
	// Grace, MaxBitrate and MaxFPS are session.Config's.
	Grace      time.Duration
	MaxBitrate int
	MaxFPS     float64
	// Observer is told what happens in sessions.
	Observer session.Observer
	// Control gets the packets of relays that arrive on the viewers' port. Nil without relays; see transport.Config.
	Control func(b []byte, from netip.AddrPort)

	Logger   *slog.Logger
	Registry prometheus.Registerer
	Now      func() time.Time
}

// Host serves viewers. Create it with New.
type Host struct {
	cfg    Config
	log    *slog.Logger
	certs  *transport.Certificates
	server *transport.Server
	sm     *session.Metrics
	door   *session.Door
	ready  chan struct{} // closed when the socket is open

	// running is the context of sessions; set once when ready is closed, as is bound.
	running context.Context
	bound   netip.AddrPort
	group   *errgroup.Group

	mu       sync.Mutex // guards the following
	sessions map[string]*session.Session
	draining bool
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Host, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	certs, err := transport.NewCertificates(cfg.Now)
	if err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger.With("component", "host"), certs: certs, sm: session.NewMetrics(cfg.Registry),
		ready: make(chan struct{}), sessions: map[string]*session.Session{}, group: new(errgroup.Group),
	}
	h.door = session.NewDoor(h.Identity(), h.sm)
	h.server, err = transport.New(transport.Config{
		Certificates: certs, Admit: h.admit, Handle: h.handle, Control: cfg.Control, Logger: h.log,
	})
	return h, err
}

func (c Config) validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.ID == "" || len(c.ID) > 64 {
		add("host id %q: must have 1 to 64 bytes", c.ID)
	}
	if len(c.Identity) != ed25519.PrivateKeySize {
		add("host identity: must be an Ed25519 private key")
	}
	if err := CheckSlots(c.Slots, c.Desktop != nil); err != nil {
		problems = append(problems, err)
	}
	if !c.Bind.IsValid() {
		add("bind address: must be an IP address and port such as 0.0.0.0:4433")
	}
	for _, a := range c.Advertise {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			add("advertise address %s: must be an address at which viewers reach this host", a)
		}
	}
	if len(c.Advertise) == 0 && c.Bind.IsValid() && c.Bind.Addr().IsUnspecified() {
		add("advertise address: required when the bind address is %s", c.Bind.Addr())
	}
	if c.Verify == nil || c.NewSource == nil || c.Registry == nil || c.Observer == nil {
		add("hostruntime: Verify, NewSource, Observer and Registry are required")
	}
	return errors.Join(problems...)
}

// Run serves until ctx ends. On the way out sessions tell their viewers before the socket closes.
func (h *Host) Run(ctx context.Context) error {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(h.cfg.Bind))
	if err != nil {
		return fmt.Errorf("open the viewers' port %s: %w; choose another with -bind-addr, or end the process that holds it", h.cfg.Bind, err)
	}
	tuneSocket(socket, h.log)
	h.bound = socket.LocalAddr().(*net.UDPAddr).AddrPort()
	transportCtx, stopTransport := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTransport()
	serving := make(chan error, 1)
	h.server.Open(socket)
	go func() { serving <- h.server.Serve(transportCtx) }() // waited for below
	h.running = ctx
	close(h.ready)
	h.log.Info("host state", "from", "starting", "to", "ready", "remote", h.bound.String())
	select {
	case <-ctx.Done():
	case err = <-serving:
		return errors.Join(err, h.group.Wait())
	}
	endErr := h.group.Wait() // every session has said bye
	stopTransport()
	return errors.Join(endErr, h.server.Close(), <-serving)
}

// Ready is closed when the host takes viewers.
func (h *Host) Ready() <-chan struct{} { return h.ready }

// Addresses are the direct candidates. Valid after Ready.
func (h *Host) Addresses() []netip.AddrPort {
	if len(h.cfg.Advertise) == 0 {
		return []netip.AddrPort{h.bound}
	}
	addrs := make([]netip.AddrPort, 0, len(h.cfg.Advertise))
	for _, a := range h.cfg.Advertise {
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), h.bound.Port())
		}
		addrs = append(addrs, a)
	}
	return addrs
}

// Identity is the public half of the host's identity.
func (h *Host) Identity() ed25519.PublicKey { return h.cfg.Identity.Public().(ed25519.PublicKey) }

// FreeSlots is how many more sessions Prepare would accept.
func (h *Host) FreeSlots() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.unready() != nil {
		return 0
	}
	return h.cfg.Slots - len(h.sessions)
}

// Prepared is what a viewer needs to know of this host.
type Prepared struct {
	Direct      []netip.AddrPort
	Certificate signalapi.Certificate
}

// Prepare makes sure that the session of a lease runs here, starting it for a controller's lease, lets the lease's viewer in, whom
// the others of the session know by name (empty: not known, or as told before), and signs the present certificate for it. It is idempotent. Errors are the sentinels of package lease and of errors.go.
func (h *Host) Prepare(token, name string) (Prepared, error) {
	claims, err := h.verify(token)
	if err != nil {
		return Prepared{}, err
	}
	if err := h.ensureSession(claims, name); err != nil {
		return Prepared{}, err
	}
	hashes, expiry, err := h.certs.Hashes()
	if err != nil {
		return Prepared{}, err
	}
	statement := signalapi.CertificateStatement(claims.Session, expiry, hashes)
	return Prepared{
		Direct: h.Addresses(),
		Certificate: signalapi.Certificate{
			Hashes: hashes, Expiry: expiry, Signature: ed25519.Sign(h.cfg.Identity, statement),
		},
	}, nil
}

// Renew prolongs the right of a lease that was prepared, by its newer token. session.ErrNoLease when it has ended here.
func (h *Host) Renew(token string) error {
	claims, err := h.verify(token)
	if err != nil {
		return err
	}
	s := h.session(claims.Session)
	if s == nil {
		return ErrNoSession
	}
	return s.Renew(claims)
}

// End ends a session; a no-op when it is over already.
func (h *Host) End(sessionID string, code streamwire.Code, text string) {
	if s := h.session(sessionID); s != nil {
		s.End(code, text)
	}
}

// Ending says whether a session is on its way out: it still holds its slot and takes no viewers.
func (h *Host) Ending(sessionID string) bool {
	s := h.session(sessionID)
	return s != nil && s.Ending()
}

// EndLease ends the right of one lease, and with it the connections that came with it; a no-op when it has none.
func (h *Host) EndLease(sessionID, leaseID string, code streamwire.Code, text string) {
	if s := h.session(sessionID); s != nil {
		s.EndLease(leaseID, code, text)
	}
}

// Circuit takes viewers over a circuit at a relay, on the viewers' port. Valid after Ready.
func (h *Host) Circuit(cfg transport.CircuitConfig) (Circuit, error) { return h.server.Circuit(cfg) }

// Circuit is *transport.Circuit.
type Circuit interface {
	Offered(candidate uint32, datagram []byte)
	Bound(viewer bool)
	Close()
}

// SendControl sends a packet for a relay from the viewers' port. Valid after Ready.
func (h *Host) SendControl(b []byte, to netip.AddrPort) error { return h.server.SendControl(b, to) }

// Drain refuses new sessions from now on and tells the viewers of the running ones.
func (h *Host) Drain(text string) {
	h.mu.Lock()
	h.draining = true
	running := make([]*session.Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		running = append(running, s)
	}
	h.mu.Unlock()
	for _, s := range running {
		s.Announce(streamwire.StateDraining, text)
	}
}

// Undrain takes new sessions again.
func (h *Host) Undrain() {
	h.mu.Lock()
	h.draining = false
	h.mu.Unlock()
}

// Sessions describes what runs now.
func (h *Host) Sessions() []session.Info {
	h.mu.Lock()
	running := make([]*session.Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		running = append(running, s)
	}
	h.mu.Unlock()
	infos := make([]session.Info, 0, len(running))
	for _, s := range running {
		if info, err := s.Info(); err == nil { // one that has just ended is no session any more
			infos = append(infos, info)
		}
	}
	return infos
}

func (h *Host) session(id string) *session.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[id]
}

func (h *Host) verify(token string) (lease.ViewerClaims, error) {
	claims, err := h.cfg.Verify(token, h.cfg.Now())
	if err != nil {
		return lease.ViewerClaims{}, err
	}
	if claims.Host != h.cfg.ID {
		return lease.ViewerClaims{}, fmt.Errorf("lease for host %q: %w", claims.Host, ErrWrongHost)
	}
	return claims, nil
}

func (h *Host) ensureSession(claims lease.ViewerClaims, name string) error {
	<-h.ready
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.sessions[claims.Session] != nil:
		h.sessions[claims.Session].Grant(claims, name)
		return nil
	case claims.Role != lease.RoleControl:
		return ErrNoSession
	case h.draining || h.running.Err() != nil:
		return ErrDraining
	case len(h.sessions) >= h.cfg.Slots:
		return ErrFull
	}
	if err := h.unready(); err != nil {
		return err
	}
	source, err := h.cfg.NewSource(claims.Session)
	if err != nil {
		return fmt.Errorf("prepare session %s: %w", claims.Session, err)
	}
	s, err := session.New(session.Config{
		ID: claims.Session, Lease: claims, Name: name, Source: source, Grace: h.cfg.Grace, MaxBitrate: h.cfg.MaxBitrate, MaxFPS: h.cfg.MaxFPS,
		Logger: h.cfg.Logger, Metrics: h.sm, Observer: observer{h.cfg.Observer, h}, Now: h.cfg.Now,
	})
	if err != nil {
		return err
	}
	h.sessions[claims.Session] = s
	h.group.Go(func() error { return h.runSession(s) })
	return nil
}

// runSession returns what went wrong besides the session's end.
func (h *Host) runSession(s *session.Session) error {
	err := s.Run(h.running)
	var ended *session.EndedError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

// admission is what admit hands to handle. A viewer whose lease is genuine but useless is told why on its control stream:
// browsers hide the reason of a refused connect.
type admission struct {
	token   string
	claims  lease.ViewerClaims
	session *session.Session // nil: refused
	refusal session.RefusedError
}

func (h *Host) admit(token string) (any, error) {
	claims, err := h.verify(token)
	switch {
	case errors.Is(err, lease.ErrExpired), errors.Is(err, lease.ErrNotYetValid):
		return &admission{refusal: session.RefusedError{Code: streamwire.CodeLease, Text: "This lease is not valid now. Connect again."}}, nil
	case err != nil:
		return nil, err
	}
	a := &admission{token: token, claims: claims, session: h.session(claims.Session)}
	if a.session == nil {
		a.refusal = session.RefusedError{Code: streamwire.CodeEnded, Text: "This session is over. Connect again."}
	}
	return a, nil
}

func (h *Host) handle(ctx context.Context, c transport.Conn, admitted any) {
	err := h.serve(ctx, c, admitted.(*admission))
	h.log.Debug("viewer connection ended", "remote", c.Remote().String(), "cause", err)
}

func (h *Host) serve(ctx context.Context, c transport.Conn, a *admission) error {
	if a.session == nil {
		return h.door.Refuse(ctx, c, &a.refusal)
	}
	entrant, err := h.door.Enter(ctx, c, a.token, a.claims)
	if err != nil {
		return err
	}
	return a.session.Attach(ctx, entrant)
}
