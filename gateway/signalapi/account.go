package signalapi

import "time"

// Paths of the account page. All of them act on the signed-in person; a body is JSON, a change needs CSRFHeader.
const (
	PathInfo          = "/v1/info"                 // GET -> Info; needs no sign-in
	PathPassword      = "/v1/account/password"     // POST PasswordChange
	PathTOTPBegin     = "/v1/account/totp"         // POST -> TOTPSetup
	PathTOTPConfirm   = "/v1/account/totp/confirm" // POST TOTPCode -> RecoveryCodes
	PathTOTPDisable   = "/v1/account/totp/disable" // POST TOTPCode: a code or a recovery code
	PathRecoveryCodes = "/v1/account/recovery"     // POST TOTPCode -> RecoveryCodes; the old ones end
	PathLogins        = "/v1/account/logins"       // GET -> []Login; DELETE PathLogins/{id} signs that browser out
	PathOIDCStart     = "/v1/oidc/start"           // GET: redirects to the identity provider (navigate, do not fetch)
	PathOIDCCallback  = "/v1/oidc/callback"        // GET: where the provider sends the browser back
)

// LinkFragment is how a one-time link ends: <origin>/#link=<token>, or <origin>/#link=<token>&to=<page> (LinkTo) when it leads to a
// page of the app, such as /desktop/<pool>. It is a fragment, so that no server logs it; the web app
// reads it, removes it from the address bar and posts SignIn{Link}. An invited person, also one whose password is lost, adds
// Password to the same post (ReasonPasswordNeeded asks for it); the first admin may add Name and Password, or set the password afterwards with
// PasswordChange without Old.
const LinkFragment = "#link="

// LinkTo separates the token of a link from the page that it leads to.
const LinkTo = "&to="

// OIDCErrorFragment is how a sign-in at the identity provider that was refused comes back: <origin>/#oidc_error=<sentence>.
const OIDCErrorFragment = "#oidc_error="

// Info is what the sign-in page needs to know before anybody is signed in.
type Info struct {
	Version string `json:"version"`
	// Accounts is false in standalone mode: only a one-time link signs in.
	Accounts bool `json:"accounts"`
	// OIDC is the text of the button that leads to PathOIDCStart; empty when OIDC is not configured.
	OIDC string `json:"oidc,omitempty"`
}

// PasswordChange sets the password. Old may be empty only for an account that has none yet, within five minutes of a sign-in.
type PasswordChange struct {
	Old string `json:"old,omitempty"`
	New string `json:"new"`
}

// TOTPSetup is shown once; the secret counts from TOTPConfirm on.
type TOTPSetup struct {
	Secret string `json:"secret"` // base32, for typing
	URI    string `json:"uri"`    // otpauth://
	QR     []byte `json:"qr"`     // PNG (base64 in JSON)
}

// TOTPCode proves possession of the second factor. Password is the present one; empty only for an account that has none, within five
// minutes of a sign-in.
type TOTPCode struct {
	Code     string `json:"code"`
	Password string `json:"password,omitempty"`
}

// RecoveryCodes are shown once; only their hashes are kept. Each signs in once in place of a TOTP code.
type RecoveryCodes struct {
	Codes []string `json:"codes"`
}

// Login is one browser that is signed in.
type Login struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Address   string    `json:"address"`
	Agent     string    `json:"agent"`
	Method    string    `json:"method"` // password, link or oidc
	Current   bool      `json:"current"`
}

// TypeReport is a message from the client (Report -> empty reply): how reaching the host went, as only the viewer can know it.
const TypeReport = "report"

// Outcomes of a Report.
const (
	OutcomeConnected = "connected" // first decoded picture
	OutcomeFailed    = "failed"    // no candidate could be reached
	OutcomeLost      = "lost"      // connected before, gone without an end
)

// Report says how a session went. It feeds metrics and the master's choice of relays; it changes nothing for the viewer.
type Report struct {
	Session string `json:"session"`
	Outcome string `json:"outcome"`
	// Path is CandidateDirect or CandidateRelay; Relay its id. Empty when no candidate was reached.
	Path  string `json:"path,omitempty"`
	Relay string `json:"relay,omitempty"`
	// SetupMS is from the click to the first decoded picture, in milliseconds.
	SetupMS int `json:"setup_ms,omitempty"`
}
