package state

import (
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

// Lease is one viewer's right to a session. It is immutable once returned.
type Lease struct {
	ID, Session, Viewer, Login string
	Host, Relay, Region, Key   string // shared with the tables they come from
	Address                    string // of the viewer; empty: any
	ViewerKey                  string // thumbprint of the key that the viewer must prove to hold
	Circuit                    uint64
	Rate                       uint64 // bits per second, 0: the relay's default
	Issued, Expiry, Ended      Millis
	Renewals                   uint32
	Reason                     masterapi.Reason
	State                      masterapi.LeaseState
	Role                       masterapi.ViewerRole
	ForceRelay                 bool
}

// Live reports whether the lease holds its slot and circuit.
func (l *Lease) Live() bool { return l.Ended == 0 }

func (l *Lease) fields(c *codec) {
	c.str(&l.ID)
	c.str(&l.Session)
	c.str(&l.Viewer)
	c.str(&l.Login)
	c.str(&l.Host)
	c.str(&l.Relay)
	c.str(&l.Region)
	c.str(&l.Key)
	c.str(&l.Address)
	num(c, &l.Circuit)
	num(c, &l.Rate)
	num(c, &l.Issued)
	num(c, &l.Expiry)
	num(c, &l.Ended)
	num(c, &l.Renewals)
	num(c, &l.Reason)
	num(c, &l.State)
	num(c, &l.Role)
	c.flag(&l.ForceRelay)
	c.str(&l.ViewerKey)
}

// own gives the lease one string of its own for what is not shared, so that it does not keep the log entry it came from.
func (l *Lease) own() {
	parts := []*string{&l.ID, &l.Session, &l.Viewer, &l.Login, &l.Address, &l.ViewerKey}
	var b strings.Builder
	n := 0
	for _, p := range parts {
		n += len(*p)
	}
	b.Grow(n)
	for _, p := range parts {
		b.WriteString(*p)
	}
	all := b.String()
	for _, p := range parts {
		*p, all = all[:len(*p)], all[len(*p):]
	}
}

// Session is one visit. It is immutable once returned.
type Session struct {
	ID, Login    string
	Pool, Region string
	Host         string
	Created      Millis
	Ended        Millis
	Reason       masterapi.Reason
	Message      string
	// Leases are the ids of its leases, oldest first: live ones, and ended ones that are still remembered.
	Leases []string
}

// Live reports whether the session holds its host slot.
func (s *Session) Live() bool { return s.Ended == 0 }

func (s *Session) fields(c *codec) {
	c.str(&s.ID)
	c.str(&s.Login)
	c.str(&s.Pool)
	c.str(&s.Region)
	c.str(&s.Host)
	num(c, &s.Created)
	num(c, &s.Ended)
	num(c, &s.Reason)
	c.str(&s.Message)
	list(c, &s.Leases, maxSessionLeases, (*codec).str)
}
