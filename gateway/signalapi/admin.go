package signalapi

import "time"

// Paths of the admin page. Admins may use all of them; operators those of sessions, hosts, relays and (reading) keys and audit.
// Lists are GET and return a JSON array, changes are POST or DELETE with CSRFHeader and answer with the changed object or
// with an empty object. {id} stands for the id of one object.
const (
	PathAdminUsers    = "/v1/admin/users"    // GET -> []User; POST NewUser -> Invite
	PathAdminUser     = "/v1/admin/users/"   // + {id}: GET -> User; POST UserChange -> User; + {id}/invite: POST -> Invite; + {id}/signout: POST; + {id}/totp: DELETE
	PathAdminInvites  = "/v1/admin/invites"  // GET -> []PendingInvite; DELETE PathAdminInvites/{id}
	PathAdminBans     = "/v1/admin/bans"     // GET -> []Ban; POST NewBan -> Ban; DELETE PathAdminBans/{id}
	PathAdminRules    = "/v1/admin/rules"    // GET -> []Rule; POST Rule -> Rule; DELETE PathAdminRules/{id}
	PathAdminPools    = "/v1/admin/pools"    // GET -> []Pool; POST Pool -> Pool (title)
	PathAdminAudit    = "/v1/admin/audit"    // GET ?before={id}&limit={1..500} -> []AuditEntry, newest first
	PathAdminSessions = "/v1/admin/sessions" // GET -> []Session; POST PathAdminSessions/{id}/end Cause
	PathAdminHosts    = "/v1/admin/hosts"    // GET -> []HostInfo; POST PathAdminHosts/{id}/drain Cause; + {id}/activate
	PathAdminRelays   = "/v1/admin/relays"   // GET -> []RelayInfo; POST PathAdminRelays/{id}/state RelayChange
	PathAdminKeys     = "/v1/admin/keys"     // GET -> []KeyInfo; POST PathAdminKeys/rotate Cause; POST PathAdminKeys/{id}/revoke Cause
)

// Cause is why an operator does it; it goes into the audit log and, where a viewer is concerned, to the viewer.
type Cause struct {
	Reason string `json:"reason"`
}

// User is an account.
type User struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Role     string `json:"role"` // admin, operator or viewer
	Disabled bool   `json:"disabled"`
	TOTP     bool   `json:"totp"`
	// Password is false as long as an invited person has not set one.
	Password   bool      `json:"password"`
	OIDC       bool      `json:"oidc"` // bound to an identity of the OIDC provider
	CreatedAt  time.Time `json:"created_at"`
	LastSignIn time.Time `json:"last_sign_in,omitzero"`
}

// NewUser creates an account without a password and a one-time link for its owner.
type NewUser struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// UserChange changes the fields that are present.
type UserChange struct {
	Role     *string `json:"role,omitempty"`
	Disabled *bool   `json:"disabled,omitempty"`
}

// Invite is a one-time link, shown once.
type Invite struct {
	User      User      `json:"user"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// PendingInvite is a one-time link that nobody has used yet.
type PendingInvite struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // invite, sign_in or first_admin
	User      string    `json:"user"` // the account's name
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewBan bans an account by name or an address by IP or CIDR. Exactly one of User and Address is set.
type NewBan struct {
	User    string `json:"user,omitempty"`
	Address string `json:"address,omitempty"`
	Reason  string `json:"reason"`
	// Seconds is how long; 0 means until it is lifted.
	Seconds int `json:"seconds,omitempty"`
}

// Ban is a ban in force.
type Ban struct {
	ID        string    `json:"id"`
	User      string    `json:"user,omitempty"`
	Address   string    `json:"address,omitempty"`
	Reason    string    `json:"reason"`
	Actor     string    `json:"actor"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Rule says who may use which pools. A deny wins over every allow; without a matching allow the answer is no.
type Rule struct {
	ID     string `json:"id,omitempty"`
	Pool   string `json:"pool"`           // a pool's name, or a pattern with * as in path.Match
	Role   string `json:"role,omitempty"` // a role, or empty
	User   string `json:"user,omitempty"` // an account's name, or empty; with both empty the rule is for everybody
	Effect string `json:"effect"`         // allow or deny
}

// Pool gives a pool a title for people.
type Pool struct {
	Pool  string `json:"pool"`
	Title string `json:"title"`
}

// AuditEntry is one administrative act or sign-in.
type AuditEntry struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Address string    `json:"address,omitempty"`
	Act     string    `json:"act"`
	Subject string    `json:"subject"`
	Detail  string    `json:"detail,omitempty"`
}

// Session is a running session as operators see it.
type Session struct {
	ID        string    `json:"id"`
	User      string    `json:"user"` // the account's name; its id when the account is gone
	Pool      string    `json:"pool"`
	Host      string    `json:"host"`
	Relay     string    `json:"relay,omitempty"`
	State     string    `json:"state"`
	Viewers   int       `json:"viewers"`
	StartedAt time.Time `json:"started_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// HostInfo is a host as the master knows it.
type HostInfo struct {
	ID         string    `json:"id"`
	Pool       string    `json:"pool"`
	Region     string    `json:"region"`
	State      string    `json:"state"`
	Health     string    `json:"health"` // passing, warning, critical; stale_ before it when Consul is away
	Reason     string    `json:"reason,omitempty"`
	Compositor string    `json:"compositor,omitempty"`
	Capture    string    `json:"capture,omitempty"`
	Encoder    string    `json:"encoder,omitempty"`
	Slots      int       `json:"slots"`
	Used       int       `json:"used"`
	Since      time.Time `json:"since,omitzero"`
}

// RelayInfo is a relay as the master knows it.
type RelayInfo struct {
	ID       string    `json:"id"`
	Region   string    `json:"region"`
	Address  string    `json:"address"`
	State    string    `json:"state"` // probation, active, degraded, draining, drained, quarantined or banned
	Health   string    `json:"health"`
	Reason   string    `json:"reason,omitempty"`
	Actor    string    `json:"actor,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Capacity int       `json:"capacity"`
	Circuits int       `json:"circuits"`
	Score    float64   `json:"score"`
}

// RelayChange asks for another state of a relay; which changes are possible is the master's decision.
type RelayChange struct {
	State  string `json:"state"` // active, draining, quarantined or banned
	Reason string `json:"reason"`
}

// KeyInfo is one lease signing key.
type KeyInfo struct {
	ID        string    `json:"id"`
	State     string    `json:"state"` // next, signing, verifying, revoked
	CreatedAt time.Time `json:"created_at"`
	SignsFrom time.Time `json:"signs_from,omitzero"`
	EndsAt    time.Time `json:"ends_at,omitzero"`
	Leases    int       `json:"leases"` // running leases that only this key verifies
}
