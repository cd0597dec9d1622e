package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/origin"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// call is one API request on its way to its endpoint.
type call struct {
	*http.Request
	w    http.ResponseWriter
	gw   *Gateway
	open *opened
	addr netip.Addr // of the person, as trusted proxies tell it
	// from is the known browser or login whose limits and turns count, empty for a stranger's.
	from string
	// in is the login and its account; zero for endpoints that need none.
	in store.SignedIn
}

// endpoint answers a call with a value for JSON (nil: an empty object) or an error, see refusalOf.
type endpoint func(*call) (any, error)

// newHandler wires paths to endpoints. Everything passes guard first.
func (g *Gateway) newHandler() http.Handler {
	mux := http.NewServeMux()
	g.routeHealth(mux)
	g.routePeople(mux)
	g.routeAdmin(mux)
	mux.Handle("/v1/", g.public(func(*call) (any, error) { return nil, notFound("endpoint") }))
	if g.cfg.Web != nil {
		mux.Handle("/", g.cfg.Web)
	}
	return g.guard(mux)
}

func (g *Gateway) routePeople(mux *http.ServeMux) {
	mux.Handle("GET "+signalapi.PathInfo, g.public(info))
	mux.Handle("POST "+signalapi.PathSignIn, g.public(signIn))
	mux.Handle("POST "+signalapi.PathSignOut, g.public(signOut))
	mux.Handle("GET "+signalapi.PathOIDCStart, g.public(oidcStart))
	mux.Handle("GET "+signalapi.PathOIDCCallback, g.public(oidcCallback))
	for path, e := range map[string]endpoint{
		"GET " + signalapi.PathMe:                  func(c *call) (any, error) { return me(c.in), nil },
		"GET " + signalapi.PathDesktops:            desktops,
		"POST " + signalapi.PathPassword:           changePassword,
		"POST " + signalapi.PathTOTPBegin:          beginTOTP,
		"POST " + signalapi.PathTOTPConfirm:        confirmTOTP,
		"POST " + signalapi.PathTOTPDisable:        disableTOTP,
		"POST " + signalapi.PathRecoveryCodes:      newRecoveryCodes,
		"GET " + signalapi.PathLogins:              listLogins,
		"DELETE " + signalapi.PathLogins + "/{id}": endLogin,
	} {
		mux.Handle(path, g.signedIn(store.RoleViewer, e))
	}
	mux.Handle("GET "+signalapi.PathSignal, http.HandlerFunc(g.serveSocket))
}

// guard is what every request passes: headers of the answer, host and origin of the question, and its size.
func (g *Gateway) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.setSecurityHeaders(w.Header())
		counted := &statusWriter{ResponseWriter: w}
		defer func() { g.metrics.requests.WithLabelValues(counted.class()).Inc() }()
		if refusal := g.checkOrigin(r); refusal != nil {
			g.answer(counted, r, nil, refusal)
			return
		}
		r.Body = http.MaxBytesReader(counted, r.Body, maxBody)
		next.ServeHTTP(counted, r)
	})
}

// contentPolicy lets the app load only what this gateway serves and connect to hosts and relays, whose addresses are not known
// before (WebTransport is connect-src https:). Nothing may frame it, so nothing can make people click in it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
	"media-src 'self' blob:; worker-src 'self' blob:; manifest-src 'self'; connect-src 'self' https: wss:; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// devicePolicy is what a desktop in a browser needs and nothing else.
const devicePolicy = "fullscreen=(self), clipboard-read=(self), clipboard-write=(self), gamepad=(self), autoplay=(self), " +
	"screen-wake-lock=(self), camera=(), microphone=(), geolocation=(), payment=(), usb=()"

func (g *Gateway) setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Permissions-Policy", devicePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if g.secure() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// secure reports whether browsers reach us by https.
func (g *Gateway) secure() bool {
	return g.cfg.TLS.enabled() || strings.HasPrefix(g.cfg.PublicURL, "https:")
}

// checkOrigin refuses requests that a page of somebody else made a browser send, and requests under a name that is not ours
// (DNS rebinding). A request without Origin is no browser's cross-origin request and no WebSocket of a browser.
func (g *Gateway) checkOrigin(r *http.Request) *RefusalError {
	if !g.ourHost(r.Host) && !isHealth(r.URL.Path) {
		return refuse(http.StatusMisdirectedRequest, signalapi.ReasonForbidden, "This gateway is not called %q; use the address your operator gave you.", printable(r.Host))
	}
	if origin := r.Header.Get("Origin"); origin != "" && !g.ourOrigin(origin) {
		return forbidden("Requests from %q are not accepted; open the gateway's own address.", printable(origin))
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return forbidden("Requests from other sites are not accepted.")
	}
	if r.Header.Get(signalapi.CSRFHeader) == "" {
		return forbidden("The header %s is missing.", signalapi.CSRFHeader)
	}
	return nil
}

// ourHost reports whether a Host header names us. Without a public URL we are on loopback and known by loopback names only.
func (g *Gateway) ourHost(host string) bool {
	if g.cfg.PublicURL == "" {
		o, err := origin.Parse("http://" + host)
		return err == nil && o.Loopback()
	}
	return slices.ContainsFunc(g.origins, func(o origin.Origin) bool { return o.HasHost(host) })
}

// ourOrigin reports whether an Origin header is ours. On loopback without a public URL the scheme is ours and the port any: the
// pages of another local server are as trusted as that server's owner, who is on this machine; but "null" is nobody.
func (g *Gateway) ourOrigin(header string) bool {
	o, err := origin.Parse(header)
	if err != nil {
		return false
	}
	if slices.Contains(g.origins, o) {
		return true
	}
	if g.cfg.PublicURL != "" || !o.Loopback() {
		return false
	}
	own, err := origin.Parse(g.URL())
	return err != nil || own.Port() == o.Port() // an embedded gateway does not know its port
}

// printable cuts what a stranger sent for an answer or a log.
func printable(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.ToValidUTF8(s, "?")
}

// public serves an endpoint that needs no sign-in.
func (g *Gateway) public(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.newCall(w, r)
		if err != nil {
			g.answer(w, r, nil, err)
			return
		}
		g.finish(c, e)
	})
}

// signedIn serves an endpoint to accounts whose role is at least need.
func (g *Gateway) signedIn(need store.Role, e endpoint) http.Handler {
	return g.public(func(c *call) (any, error) {
		if err := c.authenticate(); err != nil {
			return nil, err
		}
		if !atLeast(c.in.User.Role, need) {
			return nil, forbidden("This needs the role %s; yours is %s.", need, c.in.User.Role)
		}
		return e(c)
	})
}

func (g *Gateway) newCall(w http.ResponseWriter, r *http.Request) (*call, error) {
	o := g.open.Load()
	if o == nil || g.draining.Load() {
		return nil, refuse(http.StatusServiceUnavailable, signalapi.ReasonInternal, "The gateway is starting or stopping; try again in a moment.").after(1)
	}
	return &call{Request: r, w: w, gw: g, open: o, addr: g.clientAddr(r)}, nil
}

// authenticate finds the login of the request's cookie.
func (c *call) authenticate() error {
	cookie, err := c.Cookie(c.gw.cookieName())
	if err != nil || len(cookie.Value) > maxName {
		return notSignedIn()
	}
	c.in, err = c.gw.findLogin(c.Context(), c.open, credential.HashToken(cookie.Value), c.addr)
	return err
}

func (g *Gateway) finish(c *call, e endpoint) {
	value, err := e(c)
	if value == handled {
		return
	}
	g.answer(c.w, c.Request, value, err)
}

// handled is the value of an endpoint that has answered itself.
var handled = new(struct{ _ int })

// answer writes a value or a refusal as JSON.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, value any, err error) {
	status := http.StatusOK
	if err != nil {
		refusal := g.refusal(err, r.Method+" "+r.URL.Path)
		status, value = refusal.Status, refusal.Refusal
		if refusal.RetrySeconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(refusal.RetrySeconds))
		}
	} else if value == nil {
		value = struct{}{}
	}
	body, err := json.Marshal(value)
	if err != nil {
		panic("gateway: an answer is not JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone: nobody to tell
}

// refusal counts and, where it is our fault, logs.
func (g *Gateway) refusal(err error, what string) *RefusalError {
	refusal, internal := refusalOf(err)
	if internal {
		g.log.Error("request failed", "request", what, "err", err)
	}
	g.metrics.refusals.WithLabelValues(refusal.Reason).Inc()
	return refusal
}

// decode reads the JSON body into v. Unknown fields are ignored, so that a newer web app talks to an older gateway.
func (c *call) decode(v any) error {
	if kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, signalapi.ReasonBadRequest, "Send JSON (Content-Type: application/json).")
	}
	d := json.NewDecoder(c.Body)
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, signalapi.ReasonBadRequest, "The request is larger than %d bytes.", maxBody)
	case err != nil:
		return badRequest("The request is not the JSON that was expected: %s.", printable(err.Error()))
	}
	return nil
}

// statusWriter remembers the status for metrics.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController and the WebSocket reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) class() string {
	switch w.status / 100 {
	case 1, 3, 4, 5:
		return strconv.Itoa(w.status/100) + "xx"
	}
	return "2xx"
}
