package state

import (
	"fmt"

	"github.com/wavry/fleet/master/masterapi"
)

// Approval is what an operator allows a host that no rule allows: this pool and region, so many slots, from the machine that has this key.
type Approval struct {
	Pool, Region string
	Slots        uint32
	Identity     string
	Actor        string
	Time         Millis // 0: there is none
}

func (a *Approval) fields(c *codec) {
	c.str(&a.Pool)
	c.str(&a.Region)
	num(c, &a.Slots)
	c.str(&a.Identity)
	c.str(&a.Actor)
	num(c, &a.Time)
}

// Permitted reports whether the host may offer what it offers. Only then it may be active.
func (h *Host) Permitted() bool {
	a := &h.Approval
	return h.Rule != "" || a.Time != 0 && a.Pool == h.Pool && a.Region == h.Region && h.Slots <= a.Slots && a.Identity == h.Identity
}

// offer says for people what the host offers.
func (h *Host) offer() string {
	text := fmt.Sprintf("pool %s, %d slots", h.Pool, h.Slots)
	if h.Region != "" {
		text += ", region " + h.Region
	}
	return text
}

// judged returns the host in the state that what it offers allows.
func (h *Host) judged(now Millis) *Host {
	switch {
	case h.Permitted() && h.State == hostPending && h.Rule != "":
		return h.moved(hostActive, "allowed by the rule "+h.Rule, MasterActor, now)
	case h.Permitted() && h.State == hostPending:
		return h.moved(hostActive, "approved: "+h.offer(), h.Approval.Actor, now)
	case h.Permitted() || h.State != hostActive && h.State != hostPending:
		return h
	}
	why := h.offer() + ": no rule of host_rules allows that; wavry host approve, or write a rule"
	if h.State == hostPending && h.Reason == why {
		return h
	}
	return h.moved(hostPending, why, MasterActor, now)
}

// ApproveHost lets a host take sessions for what it offers. It names what the operator has seen, and is refused when that is another by now.
type ApproveHost struct {
	ID, Pool, Region string
	Slots            uint32
	Identity         string
	Reason, Actor    string
}

func (*ApproveHost) kind() kind { return kindApproveHost }

func (a *ApproveHost) fields(c *codec) {
	c.str(&a.ID)
	c.str(&a.Pool)
	c.str(&a.Region)
	num(c, &a.Slots)
	c.str(&a.Identity)
	c.str(&a.Reason)
	c.str(&a.Actor)
}

func (a *ApproveHost) apply(s *State) Result {
	old := s.hosts[a.ID]
	if old == nil {
		return refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", a.ID)
	}
	if old.Pool != a.Pool || old.Region != a.Region || old.Slots != a.Slots || old.Identity != a.Identity {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "host %s has changed since you looked: it offers %s; look at it again (wavry host show) and approve that", a.ID, old.offer())
	}
	cloneAll(&a.Actor, &a.Reason)
	n := *old
	n.Approval = Approval{Pool: old.Pool, Region: old.Region, Slots: old.Slots, Identity: old.Identity, Actor: a.Actor, Time: max(s.now, 1)}
	s.record(a.Actor, "host approve", old.ID, old.offer()+": "+a.Reason)
	return s.storeHost(n.judged(s.now))
}
