package session

import (
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// right is what one lease allows here, and until when. A token only proves that its bearer is the viewer of a lease; what the lease is
// worth now is written here. So a token that was shown once, and is good by its own clock, opens nothing after its lease has ended.
type right struct {
	viewer string
	role   lease.Role
	expiry time.Time
	name   string // of the person, for the others
}

func rightOf(c lease.ViewerClaims, name string) right {
	return right{viewer: c.Viewer, role: c.Role, expiry: c.Expiry, name: name}
}

// Grant lets the viewer of a lease in, until the lease expires or is ended. The name is the person's; empty: as told before.
func (s *Session) Grant(c lease.ViewerClaims, name string) {
	s.loop.do(func() { s.grant(c.Lease, rightOf(c, name)) })
}

// Renew prolongs the right of a lease; its role may have become a lesser or a greater one. ErrNoLease when the lease has ended here.
func (s *Session) Renew(c lease.ViewerClaims) error {
	known := false
	err := s.loop.call(func() {
		if _, known = s.rights[c.Lease]; known {
			s.grant(c.Lease, rightOf(c, ""))
		}
	})
	if err == nil && !known {
		err = ErrNoLease
	}
	return err
}

// textReplaced is what a viewer reads whose place another one took.
const textReplaced = "This desktop was opened somewhere else."

// EndLease takes the right of one lease away: its connections are told goodbye and cut, those of other leases go on. A viewer that has
// moved to another of its leases may show pictures over the old path until those of the new one are there.
func (s *Session) EndLease(id string, code streamwire.Code, text string) {
	s.loop.do(func() { s.endLease(id, code, text) })
}

func (s *Session) grant(id string, r right) {
	old, known := s.rights[id]
	if known && r.expiry.Before(old.expiry) {
		r.expiry = old.expiry // an older token came late
	}
	if r.name == "" {
		r.name = s.nameOf(r.viewer)
	}
	s.rights[id] = r
	for v := range s.viewers {
		if v.lease == id && v.role != r.role {
			s.setRole(v, r.role)
		}
	}
}

func (s *Session) endLease(id string, code streamwire.Code, text string) {
	r, known := s.rights[id]
	if !known {
		return
	}
	delete(s.rights, id)
	var after time.Duration
	switch {
	case code == streamwire.CodeMoved && s.holdsAnother(r.viewer):
		after = replaceAfter
	case code == streamwire.CodeMoved: // it was another viewer who took over
		code, text = streamwire.CodeReplaced, textReplaced
	}
	for v := range s.viewers {
		if v.lease != id {
			continue
		}
		if after == 0 {
			s.dismiss(v, code, text)
			continue
		}
		time.AfterFunc(after, func() { // ends with itself; a loop that is over ignores it
			s.loop.do(func() { s.dismiss(v, code, text) })
		})
	}
}

// holdsAnother reports whether a viewer has a right by any lease that is left.
func (s *Session) holdsAnother(viewer string) bool {
	for _, r := range s.rights {
		if r.viewer == viewer {
			return true
		}
	}
	return false
}

// dismiss ends one connection: nothing of it counts from now on, and nothing is sent to it but the goodbye.
func (s *Session) dismiss(v *viewer, code streamwire.Code, text string) {
	if v.leaving {
		return
	}
	if v.controls() {
		s.in.releaseAll()
	}
	v.bye(code, text)
	s.tellPeople()
}

// setRole makes a connection's right another one while it runs.
func (s *Session) setRole(v *viewer, role lease.Role) {
	s.log.Info("viewer's role changed", "remote", v.conn.Remote().String(), "from", string(v.role), "to", string(role))
	if v.controls() {
		s.in.releaseAll()
	}
	v.setRole(role)
	s.countControllers()
	s.welcome(v)
	s.tellPeople()
	s.follow()
}

// countControllers begins or ends the time that the session waits for somebody in control.
func (s *Session) countControllers() {
	for v := range s.viewers {
		if v.controls() {
			s.aloneFrom = 0
			return
		}
	}
	if s.aloneFrom == 0 {
		s.aloneFrom = media.Now()
	}
}

// checkRights ends what nobody renewed in time, with the allowance that tokens have for clocks. Without any right the session is over:
// a host that lost its masters ends what nobody pays for.
func (s *Session) checkRights() {
	at := s.cfg.Now().Add(-lease.Skew)
	for id, r := range s.rights {
		if at.After(r.expiry) {
			s.endLease(id, streamwire.CodeLease, "Your lease of this session has ended. Connect again.")
		}
	}
	if len(s.rights) == 0 {
		s.finish(streamwire.CodeLease, "The lease of this session has ended. Connect again.")
	}
}
