// Package lease holds the signed lease token: what it says, how the master signs it and how relays and hosts verify it offline.
//
// A lease is the time-limited right of one session to one host slot and, when it is relayed, to one circuit of one relay. The
// token is PASETO v4.public (Ed25519). The footer carries only the key id (`kid`), so that a verifier can pick the key before it
// checks the signature. The package imports nothing of ours, opens nothing and reads no clock: time is an argument.
//
// The master signs (Signer); relay and host verify (KeySet), each with the key set the master publishes.
package lease

import (
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

// Claims is what a lease says. Ids are opaque strings of at most 64 bytes.
type Claims struct {
	Lease   string `json:"jti"`               // unique per issue; a renewed lease keeps it
	Session string `json:"session"`           // the visit this lease belongs to
	Host    string `json:"host"`              // the host whose slot it holds
	Relay   string `json:"relay,omitempty"`   // the relay it may use; empty: direct only
	Circuit uint64 `json:"circuit,omitempty"` // the circuit on that relay and the tag in the host's connection ids; 0 when direct only
	Region  string `json:"region,omitempty"`

	HostLeg   HostLeg   `json:"host_leg"`
	ViewerLeg ViewerLeg `json:"viewer_leg"`

	NotBefore time.Time `json:"nbf"`
	Expiry    time.Time `json:"exp"`
	// RateLimit is in bits per second, both directions together; 0 means the relay's default.
	RateLimit uint64 `json:"rate,omitempty"`
}

// HostLeg identifies the host end of a circuit.
type HostLeg struct {
	// Identity is the host's long-lived Ed25519 public key, 32 bytes.
	Identity []byte `json:"identity,omitempty"`
}

// ViewerLeg identifies the viewer end.
type ViewerLeg struct {
	// Viewer names one browser tab (one visit of one login). Several leases of one session differ in it.
	Viewer string `json:"viewer"`
	Role   Role   `json:"role"`
	// Address is where the gateway saw the viewer. The zero value allows any address to pin the viewer leg.
	Address netip.Addr `json:"address,omitzero"`
}
