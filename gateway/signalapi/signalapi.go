// Package signalapi is what browser and gateway say to each other: the HTTP/JSON endpoints and the signaling messages.
//
// The gateway and a host in standalone mode both speak it, so the web app knows one protocol. It is a contract: it imports
// nothing of ours and has no behaviour beyond building the bytes that a host signs. PROTOCOL.md beside the gateway tells the story.
//
// Signaling is one WebSocket (path PathSignal) of JSON messages, each an object with a `type`. The client sends Request, the
// server answers with Reply or Refusal carrying the same `id`, and sends Event without being asked. A client that was cut off
// reconnects and sends TypeResume with its sessions; a running stream never depends on the WebSocket.
package signalapi

import "time"

// Paths of the endpoints, relative to the gateway's origin.
const (
	PathSignIn   = "/v1/signin"   // POST SignIn -> Me; sets the login cookie
	PathSignOut  = "/v1/signout"  // POST
	PathMe       = "/v1/me"       // GET -> Me, 401 when not signed in
	PathDesktops = "/v1/desktops" // GET -> []Desktop that this person may use
	PathSignal   = "/v1/signal"   // WebSocket
)

// CSRFHeader must be present (any value) on every request that changes something: a cross-site form cannot set it.
const CSRFHeader = "X-Wavry-Csrf"

// SignIn proves who one is: either by a one-time link token or by name and password (with a TOTP or recovery code when the
// account has one; a Refusal with ReasonTOTPRequired asks for it).
type SignIn struct {
	Link     string `json:"link,omitempty"`
	Name     string `json:"name,omitempty"`
	Password string `json:"password,omitempty"`
	TOTP     string `json:"totp,omitempty"`
	// Replace says that the person wants the link to sign them in as another account than the one they are signed in as
	// (ReasonSignedIn asks for it).
	Replace bool `json:"replace,omitempty"`
}

// Me is the signed-in person as the web app shows it.
type Me struct {
	Name string `json:"name"`
	Role string `json:"role"` // admin, operator or viewer
	// Admin tells the web app to offer the admin page; Role says which parts of it work.
	Admin bool `json:"admin"`
	// Accounts is false in standalone mode, where there are no passwords, only the one-time link.
	Accounts bool `json:"accounts"`
	TOTP     bool `json:"totp"`
	// Password is false for an invited person who has not chosen one yet: the web app offers it.
	Password bool `json:"password"`
}

// Desktop is one pool of equal hosts that a person may ask for.
type Desktop struct {
	Pool       string `json:"pool"`
	Title      string `json:"title"`
	Compositor string `json:"compositor"` // sway, gnome, kde, test, ...
	Encoder    string `json:"encoder"`
	Free       int    `json:"free"`  // slots that are free now
	Slots      int    `json:"slots"` // slots in all
	// Reason says why the desktop cannot be had now; empty when it can.
	Reason string `json:"reason,omitempty"`
}

// Message types from the client.
const (
	TypeConnect = "connect" // Connect -> Grant
	TypeRenew   = "renew"   // SessionRef -> Renewed
	TypeEnd     = "end"     // SessionRef -> empty reply
	TypeResume  = "resume"  // Resume -> Resumed
	TypeMove    = "move"    // SessionRef -> Grant over another path: the present one is failing
)

// Message types from the server.
const (
	TypeReply   = "reply"   // answers a request; Data is the result
	TypeRefused = "refused" // answers a request; Data is Refusal
	TypeEvent   = "event"   // unasked; Data is Event
)

// Request is every message from the client.
type Request struct {
	Type string `json:"type"`
	// ID is chosen by the client, unique on its side; a retry after a reconnect uses the same id and never allocates twice.
	// Of connect and move it is random and at least MinRequestID characters long (crypto.randomUUID() will do), because the
	// fleet remembers it for the person, not for the tab. At most MaxRequestID characters.
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

// Bounds of Request.ID in characters.
const (
	MinRequestID = 12 // of connect and move
	MaxRequestID = 128
)

// Reply is every message from the server.
type Reply struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
	Data any    `json:"data,omitempty"`
}

// Connect asks for a desktop.
type Connect struct {
	Pool string `json:"pool"`
	// Width and Height are the viewer's size in pixels; the host follows it where the compositor can. 0: the host's own size.
	Width  int `json:"width,omitempty"`
	Height int `json:"height,omitempty"`
	// ForceRelay leaves direct candidates out.
	ForceRelay bool `json:"force_relay,omitempty"`
	// Join asks to watch a running session instead of starting one.
	Join string `json:"join,omitempty"`
	// Key is the thumbprint (RFC 7638: SHA-256, base64url, 43 characters) of the P-256 key that the page holds and will prove to hold to the host.
	Key string `json:"key"`
}

// SessionRef names a session of this login.
type SessionRef struct {
	Session string `json:"session"`
	// Viewer is Grant.Viewer. It may be empty, which means the person's newest viewer of the session.
	Viewer string `json:"viewer,omitempty"`
	// Cause is for people and logs: why the client ends or moves the session.
	Cause string `json:"cause,omitempty"`
	// Key is for move, as in Connect: the page that will open the new path. Empty: the one that has the present path.
	Key string `json:"key,omitempty"`
}

// Resume lists the sessions a returning client believes are running.
type Resume struct {
	Sessions []string `json:"sessions"`
	// Viewers maps sessions to Grant.Viewer. It may be left out, which means the person's newest viewer of each session.
	Viewers map[string]string `json:"viewers,omitempty"`
}

// Resumed says which of them are.
type Resumed struct {
	Alive []string `json:"alive"`
	Ended []Event  `json:"ended,omitempty"`
}

// Grant is everything a viewer needs to reach its session.
type Grant struct {
	Session string `json:"session"`
	Viewer  string `json:"viewer"`
	Role    string `json:"role"` // control or watch
	Host    Host   `json:"host"`
	// Candidates are tried in order of Priority, highest first, raced with a head start for direct ones.
	Candidates  []Candidate `json:"candidates"`
	Certificate Certificate `json:"certificate"`
	// LeaseExpiry is when the tokens end unless the session is renewed (TypeRenew) at half of the remaining time.
	LeaseExpiry time.Time `json:"lease_expiry"`
	// GraceSeconds is how long the host keeps the session when the connection is lost.
	GraceSeconds int `json:"grace_seconds"`
}

// Renewed is the answer to TypeRenew. The host learns of the renewal from the master; the viewer only needs the token to reconnect.
type Renewed struct {
	Token       string    `json:"token"`
	LeaseExpiry time.Time `json:"lease_expiry"`
}

// Host is the end of the stream, named so that the viewer can check its signature.
type Host struct {
	ID string `json:"id"`
	// Identity is the host's long-lived Ed25519 public key, 32 bytes (base64 in JSON).
	Identity []byte `json:"identity"`
}

// Candidate kinds.
const (
	CandidateDirect = "direct"
	CandidateRelay  = "relay"
)

// Candidate is one address at which the viewer may reach the host.
type Candidate struct {
	Kind     string `json:"kind"`
	Priority int    `json:"priority"`
	// URL is the WebTransport URL, https://address:port/session/<viewer's token>.
	URL string `json:"url"`
	// Relay is the relay's id, for people; empty for direct.
	Relay string `json:"relay,omitempty"`
}

// Certificate is the host's statement about the certificate its WebTransport endpoint shows.
type Certificate struct {
	// Hashes are SHA-256 hashes of the DER certificates to accept: the present one and, near a rotation, the next.
	Hashes [][]byte `json:"hashes"`
	// Expiry is the end of this statement.
	Expiry time.Time `json:"expiry"`
	// Signature is the host identity's Ed25519 signature over CertificateStatement.
	Signature []byte `json:"signature"`
}

// Event kinds.
const (
	EventEnded   = "ended"   // the session is over; Reason and Message say why
	EventMove    = "move"    // Grant carries new candidates: open the new path, switch, close the old one
	EventOffer   = "offer"   // the host was lost: Message says so, and the viewer may ask for another desktop of Pool
	EventWarning = "warning" // Message is for the person, the session goes on
	EventRenewed = "renewed" // Renewed carries a fresher token for the next connection attempt; nothing has to be done
)

// Event is something that happened to a session.
type Event struct {
	Kind    string `json:"kind"`
	Session string `json:"session"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Pool    string `json:"pool,omitempty"`
	// Viewer is set when the event concerns one viewer of the session.
	Viewer  string   `json:"viewer,omitempty"`
	Grant   *Grant   `json:"grant,omitempty"`
	Renewed *Renewed `json:"renewed,omitempty"`
}

// Refusal is every "no", on HTTP (with a 4xx or 5xx status) and on the WebSocket.
type Refusal struct {
	Reason  string `json:"reason"`  // for machines, one of the Reason constants or masterapi's reject reasons
	Message string `json:"message"` // for people: what to do
	// RetrySeconds is when another try makes sense; 0: not by waiting.
	RetrySeconds int `json:"retry_seconds,omitempty"`
}

// Reasons that the gateway itself gives; the master's refusals pass through unchanged.
const (
	ReasonBadRequest      = "bad_request"
	ReasonNotSignedIn     = "not_signed_in"
	ReasonBadCredentials  = "bad_credentials"
	ReasonTOTPRequired    = "totp_required"
	ReasonPasswordNeeded  = "password_needed"
	ReasonLinkUsed        = "link_used"
	ReasonSignedIn        = "signed_in"
	ReasonForbidden       = "forbidden"
	ReasonRateLimited     = "rate_limited"
	ReasonBanned          = "banned"
	ReasonNoSession       = "no_session"
	ReasonNoHost          = "no_host"
	ReasonHostUnavailable = "host_unavailable"
	ReasonMasterAway      = "master_away"
	ReasonInternal        = "internal"
)
