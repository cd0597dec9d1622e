// Package standalone lets one host serve its own desktop without a control plane: it signs leases with a key of its own, serves the
// web app, and grants sessions to whoever has signed in with the one-time link. It speaks signalapi, as the gateway does.
//
// It has no accounts. Plain HTTP is served on loopback only; elsewhere a certificate is required.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// Host is what standalone needs of the host.
type Host interface {
	Prepare(token, name string) (hostruntime.Prepared, error)
	Renew(token string) error
	End(session string, code streamwire.Code, text string)
	Ending(session string) bool
	FreeSlots() int
}

// Config of a Server.
type Config struct {
	// Bind is the TCP address of the web page; port 0 for any free one.
	Bind netip.AddrPort
	// CertFile and KeyFile are required when Bind is not a loopback address.
	CertFile, KeyFile string
	Host              Host
	HostID            string
	HostIdentity      []byte
	// Signer signs leases; the host's key set has its public key.
	Signer *lease.Signer
	// Desktop describes what this host offers. Its Pool names it; Free and Slots are filled in.
	Desktop func() signalapi.Desktop
	Slots   int
	Grace   time.Duration
	// Web serves the web app.
	Web    http.Handler
	Logger *slog.Logger
	Now    func() time.Time
}

// Server is the page and the signaling of a standalone host. Create it with New.
type Server struct {
	cfg    Config
	log    *slog.Logger
	logins *logins
	ready  chan struct{}
	bound  netip.AddrPort // set once when ready is closed

	mu       sync.Mutex        // guards the following
	sessions map[string]string // login -> its running session
	keys     map[string]string // login -> thumbprint of the key of the page that asked last
	feeds    map[string]map[chan signalapi.Event]struct{}
}

// New checks the configuration and opens nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Host == nil || cfg.Signer == nil || cfg.Desktop == nil || cfg.Web == nil {
		return nil, errors.New("standalone: Host, Signer, Desktop and Web are required")
	}
	if !cfg.Bind.IsValid() {
		return nil, errors.New("page address: must be an IP address and port such as 127.0.0.1:8080")
	}
	if !cfg.Bind.Addr().IsLoopback() && cfg.CertFile == "" {
		return nil, fmt.Errorf("page address %s: browsers show a desktop only over https or on this machine; give -tls-cert-file and -tls-key-file, or bind to 127.0.0.1", cfg.Bind)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, log: cfg.Logger.With("component", "standalone"), logins: newLogins(cfg.Now), ready: make(chan struct{}),
		sessions: map[string]string{}, keys: map[string]string{}, feeds: map[string]map[chan signalapi.Event]struct{}{},
	}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", s.cfg.Bind.String())
	if err != nil {
		return fmt.Errorf("open the page's port %s: %w; choose another with -http-addr, or end the process that holds it", s.cfg.Bind, err)
	}
	s.bound = listener.Addr().(*net.TCPAddr).AddrPort()
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(ctx) // what does not end in time is cut by Close below
	})
	defer stop()
	defer server.Close()
	close(s.ready)
	if s.cfg.CertFile != "" {
		err = server.ServeTLS(listener, s.cfg.CertFile, s.cfg.KeyFile)
	} else {
		err = server.Serve(listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the page: %w", err)
}

// Ready is closed when the page is served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// URL is the page's address, without a sign-in. Valid after Ready.
func (s *Server) URL() string {
	scheme := "http"
	if s.cfg.CertFile != "" {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: s.bound.String(), Path: "/"}).String()
}

// SignInURL makes a link that signs one browser in, once.
func (s *Server) SignInURL() (string, error) {
	token, err := s.NewLink()
	if err != nil {
		return "", err
	}
	return s.URL() + signalapi.LinkFragment + token, nil
}

// NewLink makes the token of a sign-in link.
func (s *Server) NewLink() (string, error) { return s.logins.newLink() }

// Handler is the page and the endpoints of signalapi.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+signalapi.PathInfo, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, signalapi.Info{})
	})
	mux.HandleFunc("POST "+signalapi.PathSignIn, s.signIn)
	mux.HandleFunc("POST "+signalapi.PathSignOut, s.signedIn(s.signOut))
	mux.HandleFunc("GET "+signalapi.PathMe, s.signedIn(func(w http.ResponseWriter, _ *http.Request, _ string) {
		writeJSON(w, http.StatusOK, me)
	}))
	mux.HandleFunc("GET "+signalapi.PathDesktops, s.signedIn(func(w http.ResponseWriter, _ *http.Request, login string) {
		writeJSON(w, http.StatusOK, []signalapi.Desktop{s.desktop(login)})
	}))
	mux.HandleFunc("GET "+signalapi.PathSignal, s.signedIn(s.signal))
	mux.Handle("/", s.cfg.Web)
	return secure(mux)
}

var me = signalapi.Me{Name: "you", Role: "operator"}

func (s *Server) desktop(login string) signalapi.Desktop {
	d := s.cfg.Desktop()
	d.Slots, d.Free = s.cfg.Slots, s.cfg.Host.FreeSlots()
	s.mu.Lock()
	_, mine := s.sessions[login]
	s.mu.Unlock()
	if d.Free == 0 && !mine && d.Reason == "" {
		d.Reason = "Somebody else is using this desktop."
	}
	return d
}

// SessionEnded tells the signed-in pages that a session is over.
func (s *Server) SessionEnded(id string, why *session.EndedError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for login, running := range s.sessions {
		if running == id {
			delete(s.sessions, login)
			delete(s.keys, login)
			s.publish(login, signalapi.Event{Kind: signalapi.EventEnded, Session: id, Reason: why.Code.String(), Message: why.Text})
		}
	}
}

// publish hands an event to every page of a login. A page that does not read misses it and learns the state by resuming.
func (s *Server) publish(login string, e signalapi.Event) {
	for feed := range s.feeds[login] {
		select {
		case feed <- e:
		default:
		}
	}
}

func (s *Server) subscribe(login string) (events <-chan signalapi.Event, stop func()) {
	feed := make(chan signalapi.Event, maxEvents)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[login] == nil {
		s.feeds[login] = map[chan signalapi.Event]struct{}{}
	}
	s.feeds[login][feed] = struct{}{}
	return feed, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.feeds[login], feed)
		if len(s.feeds[login]) == 0 {
			delete(s.feeds, login)
		}
	}
}
