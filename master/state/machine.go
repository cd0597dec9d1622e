package state

import "github.com/wavry/fleet/master/masterapi"

// Transition is one change of a machine's state.
type Transition struct {
	From, To      uint8
	Reason, Actor string
	Time          Millis
}

func (t *Transition) fields(c *codec) {
	num(c, &t.From)
	num(c, &t.To)
	c.str(&t.Reason)
	c.str(&t.Actor)
	num(c, &t.Time)
}

// Relay is one relay. It is immutable once returned.
type Relay struct {
	ID, Region, Version          string
	ControlAddress, MediaAddress string
	PublicKey, Boot              string
	Capacity                     uint32 // circuits
	CapacityBits                 uint64 // bits per second; 0: unknown
	State                        masterapi.RelayState
	Reason, Actor                string
	Since                        Millis
	History                      []Transition
}

func (r *Relay) fields(c *codec) {
	c.str(&r.ID)
	c.str(&r.Region)
	c.str(&r.Version)
	c.str(&r.ControlAddress)
	c.str(&r.MediaAddress)
	c.str(&r.PublicKey)
	c.str(&r.Boot)
	num(c, &r.Capacity)
	num(c, &r.CapacityBits)
	num(c, &r.State)
	c.str(&r.Reason)
	c.str(&r.Actor)
	num(c, &r.Since)
	list(c, &r.History, maxHistory, func(c *codec, t *Transition) { t.fields(c) })
}

// Takes reports whether the relay's state allows new circuits.
func (r *Relay) Takes() bool {
	switch r.State {
	case masterapi.RelayState_RELAY_STATE_PROBATION, masterapi.RelayState_RELAY_STATE_ACTIVE, masterapi.RelayState_RELAY_STATE_DEGRADED:
		return true
	default:
		return false
	}
}

// moved returns a copy in the new state with the change in its history.
func (r *Relay) moved(to masterapi.RelayState, reason, actor string, now Millis) *Relay {
	n := *r
	n.History = appendHistory(r.History, Transition{From: uint8(r.State), To: uint8(to), Reason: reason, Actor: actor, Time: now})
	n.State, n.Reason, n.Actor, n.Since = to, reason, actor, now
	return &n
}

// appendHistory never changes the old slice's contents.
func appendHistory(old []Transition, t Transition) []Transition {
	if len(old) >= maxHistory {
		old = old[len(old)-maxHistory+1:]
	}
	return append(append(make([]Transition, 0, len(old)+1), old...), t)
}

// Attribute is one free property of a host.
type Attribute struct{ Key, Value string }

// Host is one machine that runs the host runtime. It is immutable once returned.
type Host struct {
	ID, Pool, Region, Version string
	Identity, Boot            string
	Slots                     uint32
	Addresses                 []string
	Compositor, Capture       string
	Encoder, GPU              string
	Codecs                    []string
	Attributes                []Attribute // sorted by key
	State                     masterapi.HostStateWord
	Reason, Actor             string
	Since                     Millis
	History                   []Transition
	Rule                      string // that allows what it offers; empty: none
	Approval                  Approval
	LinkedBy, Serial          string // the identity that linked it last, and that of its certificate; empty: it showed none
}

func (h *Host) fields(c *codec) {
	c.str(&h.ID)
	c.str(&h.Pool)
	c.str(&h.Region)
	c.str(&h.Version)
	c.str(&h.Identity)
	c.str(&h.Boot)
	num(c, &h.Slots)
	texts(c, &h.Addresses)
	c.str(&h.Compositor)
	c.str(&h.Capture)
	c.str(&h.Encoder)
	c.str(&h.GPU)
	texts(c, &h.Codecs)
	list(c, &h.Attributes, maxList, func(c *codec, a *Attribute) { c.str(&a.Key); c.str(&a.Value) })
	num(c, &h.State)
	c.str(&h.Reason)
	c.str(&h.Actor)
	num(c, &h.Since)
	list(c, &h.History, maxHistory, func(c *codec, t *Transition) { t.fields(c) })
	c.str(&h.Rule)
	h.Approval.fields(c)
	c.str(&h.LinkedBy)
	c.str(&h.Serial)
}

func (h *Host) moved(to masterapi.HostStateWord, reason, actor string, now Millis) *Host {
	n := *h
	n.History = appendHistory(h.History, Transition{From: uint8(h.State), To: uint8(to), Reason: reason, Actor: actor, Time: now})
	n.State, n.Reason, n.Actor, n.Since = to, reason, actor, now
	return &n
}
