package state

import (
	"fmt"
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

// PutRelay registers a relay or takes over what it says about itself. A new relay and one that came back as a new process start in probation; a
// successor that took over its predecessor's sockets does not.
type PutRelay struct {
	// Relay is what the relay says; its state, reason, actor, since and history are ignored.
	Relay     Relay
	Successor bool
}

func (*PutRelay) kind() kind { return kindPutRelay }

func (p *PutRelay) fields(c *codec) {
	p.Relay.fields(c)
	c.flag(&p.Successor)
}

func (p *PutRelay) apply(s *State) Result {
	n := p.Relay
	cloneAll(&n.ID, &n.Region, &n.Version, &n.ControlAddress, &n.MediaAddress, &n.PublicKey, &n.Boot)
	n.State, n.Reason, n.Actor, n.Since, n.History = 0, "", "", 0, nil
	old := s.relays[n.ID]
	if old == nil {
		return s.storeRelay(n.moved(probation, "joined", SelfActor, s.now))
	}
	n.State, n.Reason, n.Actor, n.Since, n.History = old.State, old.Reason, old.Actor, old.Since, old.History
	if n.Boot == old.Boot || p.Successor || !returns(old) {
		return s.storeRelay(&n)
	}
	return s.storeRelay(n.moved(probation, "restarted", SelfActor, s.now))
}

// returns reports whether a new process of the relay begins in probation: it was in use, or it drained itself to stop.
func returns(old *Relay) bool {
	return old.Takes() || (old.Actor == SelfActor && (old.State == draining || old.State == drained))
}

func (s *State) storeRelay(n *Relay) Result {
	s.relays[n.ID] = n
	s.emit(Event{Kind: EventRelay, Relay: n})
	return Result{Changed: true}
}

func cloneAll(texts ...*string) {
	for _, t := range texts {
		*t = strings.Clone(*t)
	}
}

// SetRelayState moves a relay along its state machine. An actor other than the master and the relay itself is audited.
type SetRelayState struct {
	ID            string
	To            masterapi.RelayState
	Reason, Actor string
}

func (*SetRelayState) kind() kind { return kindSetRelayState }

func (r *SetRelayState) fields(c *codec) {
	c.str(&r.ID)
	num(c, &r.To)
	c.str(&r.Reason)
	c.str(&r.Actor)
}

// MasterActor is the actor of what the leader does by itself.
const MasterActor = "master"

func administrative(actor string) bool { return actor != MasterActor && actor != SelfActor }

func (r *SetRelayState) apply(s *State) Result {
	old := s.relays[r.ID]
	if old == nil {
		return refuse(masterapi.Reason_REASON_RELAY_UNKNOWN, "relay %s", r.ID)
	}
	if old.State == r.To {
		return Result{}
	}
	if !RelayMoveAllowed(old.State, r.To) {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "relay %s is %s and may become %s, not %s", r.ID, RelayWord(old.State), relayChoices(old.State), RelayWord(r.To))
	}
	cloneAll(&r.Reason, &r.Actor)
	if administrative(r.Actor) {
		s.record(r.Actor, "relay state", old.ID, fmt.Sprintf("%s to %s: %s", RelayWord(old.State), RelayWord(r.To), r.Reason))
	}
	return s.storeRelay(old.moved(r.To, r.Reason, r.Actor, s.now))
}

// ForgetRelay removes a relay without circuits, for one that is gone for good.
type ForgetRelay struct{ ID, Actor string }

func (*ForgetRelay) kind() kind { return kindForgetRelay }

func (f *ForgetRelay) fields(c *codec) {
	c.str(&f.ID)
	c.str(&f.Actor)
}

func (f *ForgetRelay) apply(s *State) Result {
	old := s.relays[f.ID]
	if old == nil {
		return refuse(masterapi.Reason_REASON_RELAY_UNKNOWN, "relay %s", f.ID)
	}
	if n := s.onRelay[f.ID]; n > 0 {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "relay %s has %d live circuits: drain it first", f.ID, n)
	}
	delete(s.relays, f.ID)
	s.record(strings.Clone(f.Actor), "relay forget", old.ID, "")
	s.emit(Event{Kind: EventRelay, Relay: old})
	return Result{Changed: true}
}

// PutHost registers a host or takes over what it says about itself.
type PutHost struct {
	// Host is what the host says, and the rule that allows it; its state, reason, actor, since, history and approval are ignored.
	Host Host
}

func (*PutHost) kind() kind { return kindPutHost }

func (p *PutHost) fields(c *codec) { p.Host.fields(c) }

func (p *PutHost) apply(s *State) Result {
	n := p.Host
	cloneAll(&n.ID, &n.Pool, &n.Region, &n.Version, &n.Identity, &n.Boot, &n.Compositor, &n.Capture, &n.Encoder, &n.GPU, &n.Rule, &n.LinkedBy, &n.Serial)
	for _, list := range [][]string{n.Addresses, n.Codecs} {
		for i := range list {
			cloneAll(&list[i])
		}
	}
	for i := range n.Attributes {
		cloneAll(&n.Attributes[i].Key, &n.Attributes[i].Value)
	}
	n.State, n.Reason, n.Actor, n.Since, n.History, n.Approval = 0, "", "", 0, nil, Approval{}
	old := s.hosts[n.ID]
	if old == nil {
		return s.storeHost(n.moved(hostActive, "joined", SelfActor, s.now).judged(s.now))
	}
	if n.Pool != old.Pool {
		s.movePool(&n)
	}
	n.State, n.Reason, n.Actor, n.Since, n.History, n.Approval = old.State, old.Reason, old.Actor, old.Since, old.History, old.Approval
	selfDrained := old.Actor == SelfActor && (old.State == hostDraining || old.State == hostDrained)
	if n.Boot == old.Boot || !selfDrained {
		return s.storeHost(n.judged(s.now))
	}
	return s.storeHost(n.moved(hostActive, "restarted", SelfActor, s.now).judged(s.now))
}

// movePool takes the sessions of a host along to its pool. Whether their people may use it is the gateways' to decide.
func (s *State) movePool(h *Host) {
	for _, id := range s.onHost[h.ID] {
		n := *s.sessions[id]
		n.Pool = h.Pool
		s.sessions[id] = &n
		s.emit(Event{Kind: EventSessionPool, Session: &n})
	}
}

func (s *State) storeHost(n *Host) Result {
	s.hosts[n.ID] = n
	s.emit(Event{Kind: EventHost, Host: n})
	return Result{Changed: true}
}

// SetHostState moves a host along its state machine.
type SetHostState struct {
	ID            string
	To            masterapi.HostStateWord
	Reason, Actor string
}

func (*SetHostState) kind() kind { return kindSetHostState }

func (h *SetHostState) fields(c *codec) {
	c.str(&h.ID)
	num(c, &h.To)
	c.str(&h.Reason)
	c.str(&h.Actor)
}

func (h *SetHostState) apply(s *State) Result {
	old := s.hosts[h.ID]
	if old == nil {
		return refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", h.ID)
	}
	if old.State == h.To {
		return Result{}
	}
	if h.To == hostActive && !old.Permitted() {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "host %s offers %s, which no rule allows: wavry host approve", h.ID, old.offer())
	}
	if !HostMoveAllowed(old.State, h.To) {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "host %s is %s and may become %s, not %s", h.ID, HostWord(old.State), hostChoices(old.State), HostWord(h.To))
	}
	cloneAll(&h.Reason, &h.Actor)
	if administrative(h.Actor) {
		s.record(h.Actor, "host state", old.ID, fmt.Sprintf("%s to %s: %s", HostWord(old.State), HostWord(h.To), h.Reason))
	}
	return s.storeHost(old.moved(h.To, h.Reason, h.Actor, s.now))
}

// ForgetHost removes a host without sessions, for one that is gone for good.
type ForgetHost struct{ ID, Actor string }

func (*ForgetHost) kind() kind { return kindForgetHost }

func (f *ForgetHost) fields(c *codec) {
	c.str(&f.ID)
	c.str(&f.Actor)
}

func (f *ForgetHost) apply(s *State) Result {
	old := s.hosts[f.ID]
	if old == nil {
		return refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", f.ID)
	}
	if n := len(s.onHost[f.ID]); n > 0 {
		return refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "host %s has %d live sessions: drain it first", f.ID, n)
	}
	delete(s.hosts, f.ID)
	s.record(strings.Clone(f.Actor), "host forget", old.ID, "")
	s.emit(Event{Kind: EventHost, Host: old})
	return Result{Changed: true}
}
