package state

import "github.com/wavry/fleet/master/masterapi"

// Key is one signing key. Sealed is its private half, encrypted; this package never sees it open.
type Key struct {
	ID, Public, Sealed             string
	State                          masterapi.KeyState
	Created, SigningSince, Retired Millis
	Ended                          Millis
}

func (k *Key) fields(c *codec) {
	c.str(&k.ID)
	c.str(&k.Public)
	c.str(&k.Sealed)
	num(c, &k.State)
	num(c, &k.Created)
	num(c, &k.SigningSince)
	num(c, &k.Retired)
	num(c, &k.Ended)
}

// Published reports whether verifiers may use the key.
func (k *Key) Published() bool {
	switch k.State {
	case masterapi.KeyState_KEY_STATE_NEXT, masterapi.KeyState_KEY_STATE_SIGNING, masterapi.KeyState_KEY_STATE_RETIRING:
		return true
	default:
		return false
	}
}

// Ban keeps a login or an address out.
type Ban struct {
	Kind          masterapi.Ban_Kind
	Subject       string
	Expiry, Since Millis // Expiry 0: for good
	Reason, Actor string
}

func (b *Ban) fields(c *codec) {
	num(c, &b.Kind)
	c.str(&b.Subject)
	num(c, &b.Expiry)
	num(c, &b.Since)
	c.str(&b.Reason)
	c.str(&b.Actor)
}

func (b *Ban) holds(now Millis) bool { return b.Expiry == 0 || now < b.Expiry }

// AuditEntry is one administrative change.
type AuditEntry struct {
	Time                           Millis
	Index                          uint64
	Actor, Action, Subject, Detail string
}

func (a *AuditEntry) fields(c *codec) {
	num(c, &a.Time)
	num(c, &a.Index)
	c.str(&a.Actor)
	c.str(&a.Action)
	c.str(&a.Subject)
	c.str(&a.Detail)
}
