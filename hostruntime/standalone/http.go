package standalone

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/wavry/fleet/gateway/origin"
	"github.com/wavry/fleet/gateway/signalapi"
)

const cookieName = "wavry_login"

// secure sets the headers every answer has and refuses requests that another site caused.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; connect-src 'self' https: wss: ws:; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if !sameOrigin(r) {
			refuse(w, http.StatusForbidden, signalapi.ReasonForbidden, "This request came from another site.")
			return
		}
		if r.Method == http.MethodPost && r.Header.Get(signalapi.CSRFHeader) == "" {
			refuse(w, http.StatusForbidden, signalapi.ReasonForbidden, "The header "+signalapi.CSRFHeader+" is missing.")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// sameOrigin accepts requests without an Origin (navigation, curl) and those of our own page. A name that merely resolves to
// this machine is refused with the Origin check of the page it came from: its Host and Origin agree, but the cookie is not sent.
func sameOrigin(r *http.Request) bool {
	header := r.Header.Get("Origin")
	if header == "" {
		return true
	}
	o, err := origin.Parse(header)
	return err == nil && o.HasHost(r.Host)
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	var in signalapi.SignIn
	if !readJSON(w, r, &in) {
		return
	}
	token, ok, err := s.logins.redeem(in.Link)
	if err != nil {
		s.log.Error("sign-in failed", "cause", err)
		refuse(w, http.StatusInternalServerError, signalapi.ReasonInternal, "Signing in failed. Try again.")
		return
	}
	if !ok {
		refuse(w, http.StatusForbidden, signalapi.ReasonLinkUsed, "This link was used already or is too old. Start the host again for a new one.")
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: s.cfg.CertFile != "", SameSite: http.SameSiteStrictMode,
		MaxAge: int(loginLife.Seconds()),
	})
	s.log.Info("signed in", "remote", r.RemoteAddr)
	writeJSON(w, http.StatusOK, me)
}

// cookieName has the __Host- prefix where browsers allow it, as the gateway's has.
func (s *Server) cookieName() string {
	if s.cfg.CertFile != "" {
		return "__Host-" + cookieName
	}
	return cookieName
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request, _ string) {
	if c, err := r.Cookie(s.cookieName()); err == nil {
		s.logins.end(c.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookieName(), Path: "/", MaxAge: -1, HttpOnly: true, Secure: s.cfg.CertFile != "", SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}

// signedIn calls next with the id of the login, or refuses.
func (s *Server) signedIn(next func(w http.ResponseWriter, r *http.Request, login string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie(s.cookieName())
		if err == nil {
			if login, ok := s.logins.login(c.Value); ok {
				next(w, r, login)
				return
			}
		}
		refuse(w, http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "Open the sign-in link that the host printed when it started.")
	}
}

func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			refuse(w, http.StatusRequestEntityTooLarge, signalapi.ReasonBadRequest, "The request is too large.")
		} else {
			refuse(w, http.StatusBadRequest, signalapi.ReasonBadRequest, "The request is not valid JSON.")
		}
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	writeJSON(w, status, signalapi.Refusal{Reason: reason, Message: message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left needs no answer
}
