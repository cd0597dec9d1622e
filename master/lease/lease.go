// Package lease holds the signed tokens of a lease: what they say, how the master signs them and how relays and hosts verify them offline.
//
// A lease is the time-limited right of one session to one host slot and, when it is relayed, to one circuit of one relay. It has a token for
// each: the viewer's, which the relay never sees, and the circuit's, which the browser never sees. Neither can be made from the other. A
// token is PASETO v4.public (Ed25519). The footer carries only the key id (`kid`), so that a verifier can pick the key before it
// checks the signature. The package imports nothing of ours, opens nothing and reads no clock: time is an argument.
//
// The master signs (Signer); relay and host verify (KeySet), each its own use, with the key set the master publishes.
package lease

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"
)

// Lifetime is how long a lease is valid from its issue. Holders renew at half of it, so that one missed renewal is harmless.
const Lifetime = 5 * time.Minute

// Skew is how far the clocks of the signer and a verifier may differ before a lease is refused.
const Skew = 60 * time.Second

// MaxTokenLen bounds what a verifier looks at; a token with every field at its limit stays below it.
const MaxTokenLen = 1024

// Role is what the viewer leg of a lease may do to the session.
type Role string

// The closed set of roles.
const (
	RoleControl Role = "control" // sees and controls; one per session
	RoleWatch   Role = "watch"   // sees only
)

// Use says which of a lease's two tokens one is. A verifier of one use refuses the other: what a relay must see to forward packets may not
// open the session behind them.
type Use string

// The closed set of uses.
const (
	// UseCircuit is for the host and, through its BIND, one relay.
	UseCircuit Use = "circuit"
	// UseViewer is for the gateway, the browser and the host. It is worth nothing without the key it names.
	UseViewer Use = "viewer"
)

// CircuitClaims is what host and relay need to bind one circuit. It names nobody: a relay learns no session, viewer or login. Ids are opaque
// strings of at most 64 bytes.
type CircuitClaims struct {
	Use     Use    `json:"use"`     // set by SignCircuit
	Lease   string `json:"jti"`     // unique per issue; a renewed lease keeps it
	Host    string `json:"host"`    // the host whose circuit it is
	Relay   string `json:"relay"`   // the relay that carries it
	Circuit uint64 `json:"circuit"` // on that relay
	Region  string `json:"region,omitempty"`
	// HostIdentity is the host's long-lived Ed25519 public key, 32 bytes.
	HostIdentity []byte `json:"host_identity,omitempty"`
	// ViewerAddress is where the gateway saw the viewer. The zero value allows any address to pin the viewer leg.
	ViewerAddress netip.Addr `json:"viewer_address,omitzero"`

	NotBefore time.Time `json:"nbf"`
	Expiry    time.Time `json:"exp"`
	// RateLimit is in bits per second, both directions together; 0 means the relay's default.
	RateLimit uint64 `json:"rate,omitempty"`
}

// Confirmation names the key of a token's bearer (RFC 7800, section 3.1).
type Confirmation struct {
	// Thumbprint of a P-256 key (RFC 7638): SHA-256, base64url without padding.
	Thumbprint string `json:"jkt"`
}

// CheckThumbprint refuses what cannot be the thumbprint of a key.
func CheckThumbprint(s string) error {
	if sum, err := base64.RawURLEncoding.Strict().DecodeString(s); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%q is not the thumbprint of a key: 43 characters of base64url", s[:min(len(s), maxID)])
	}
	return nil
}

// ViewerClaims is what one viewer may do at one host. Ids are opaque strings of at most 64 bytes.
type ViewerClaims struct {
	Use     Use    `json:"use"`     // set by SignViewer
	Lease   string `json:"jti"`     // as in CircuitClaims
	Session string `json:"session"` // the visit this lease belongs to
	Host    string `json:"host"`    // the host whose slot it holds
	// Viewer names one browser tab (one visit of one login). Several leases of one session differ in it.
	Viewer string `json:"viewer"`
	Role   Role   `json:"role"`
	// Key is the one that the bearer must prove to hold: the token alone opens nothing.
	Key Confirmation `json:"cnf"`

	NotBefore time.Time `json:"nbf"`
	Expiry    time.Time `json:"exp"`
}
