package hostruntime

import (
	"fmt"

	"github.com/wavry/fleet/hostruntime/session"
)

// Desktop is what the sessions of a host show, one after the other.
type Desktop interface {
	// Why is why nobody can be let in now; nil: somebody can.
	Why() error
	// Release gives the desktop back after a session, which has left it. From then on Why is not nil until it is there for the next.
	Release()
}

// NotReadyError is returned for a session when no other has the slot, but the desktop is not there yet. It is an ErrFull.
type NotReadyError struct{ Why error }

func (e *NotReadyError) Error() string   { return "no free slot: " + e.Why.Error() }
func (e *NotReadyError) Unwrap() []error { return []error{ErrFull, e.Why} }

// errSharedDesktop says how to serve several people.
func errSharedDesktop(slots int) error {
	return fmt.Errorf("slots = %d: a desktop is one person's at a time, and a second would see and steer the first one's; "+
		"use slots = 1 and run a host with a desktop of its own for each; others join a session as its watchers", slots)
}

// CheckSlots refuses more slots than the desktop has.
func CheckSlots(slots int, oneDesktop bool) error {
	if slots < 1 || slots > MaxSlots {
		return fmt.Errorf("slots = %d: must be 1 to %d", slots, MaxSlots)
	}
	if slots > 1 && oneDesktop {
		return errSharedDesktop(slots)
	}
	return nil
}

// unready is why no session can begin although the slot is free; nil: one can.
func (h *Host) unready() error {
	if h.cfg.Desktop == nil {
		return nil
	}
	if why := h.cfg.Desktop.Why(); why != nil {
		return &NotReadyError{Why: why}
	}
	return nil
}

// observer frees the slot before anybody hears that a session is over, and gives the desktop back before that.
type observer struct {
	session.Observer
	host *Host
}

func (o observer) SessionEnded(id string, why *session.EndedError) {
	o.host.mu.Lock()
	if o.host.cfg.Desktop != nil {
		o.host.cfg.Desktop.Release()
	}
	delete(o.host.sessions, id)
	o.host.mu.Unlock()
	o.Observer.SessionEnded(id, why)
}
