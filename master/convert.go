package master

import (
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/master/health"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// stamp turns a time of the state into one of the API; never is unset.
func stamp(m state.Millis) *timestamppb.Timestamp {
	if m == 0 {
		return nil
	}
	return timestamppb.New(m.Time())
}

func stampTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// parseAddress reads a viewer's address that was checked before; empty gives the zero address, which means any.
func parseAddress(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

func leaseMessage(l *state.Lease) *masterapi.Lease {
	return &masterapi.Lease{
		LeaseId: l.ID, SessionId: l.Session, ViewerId: l.Viewer, Login: l.Login, HostId: l.Host, RelayId: l.Relay, Circuit: l.Circuit,
		Region: l.Region, Role: l.Role, State: l.State, Issued: stamp(l.Issued), Expiry: stamp(l.Expiry), Renewals: l.Renewals,
		KeyId: l.Key, EndReason: l.Reason, Ended: stamp(l.Ended), ViewerAddress: l.Address, RateLimitBps: l.Rate,
	}
}

// sessionMessage needs the state for the session's leases.
func sessionMessage(s *state.State, session *state.Session) *masterapi.Session {
	m := &masterapi.Session{
		SessionId: session.ID, Login: session.Login, Pool: session.Pool, Region: session.Region, HostId: session.Host,
		State: masterapi.SessionState_SESSION_STATE_ADMITTED, Created: stamp(session.Created), Ended: stamp(session.Ended), EndReason: session.Reason,
	}
	for _, l := range s.LiveLeases(session) {
		if l.State == masterapi.LeaseState_LEASE_STATE_ACTIVE {
			m.State = masterapi.SessionState_SESSION_STATE_ACTIVE
		}
		m.Leases = append(m.Leases, leaseMessage(l))
	}
	if !session.Live() {
		m.State = masterapi.SessionState_SESSION_STATE_ENDED
	}
	return m
}

func relayTransitions(history []state.Transition) []*masterapi.Transition {
	return transitions(history, func(s uint8) string { return state.RelayWord(masterapi.RelayState(s)) })
}

func hostTransitions(history []state.Transition) []*masterapi.Transition {
	return transitions(history, func(s uint8) string { return state.HostWord(masterapi.HostStateWord(s)) })
}

func transitions(history []state.Transition, word func(uint8) string) []*masterapi.Transition {
	list := make([]*masterapi.Transition, 0, len(history))
	for _, t := range history {
		from := word(t.From)
		if t.From == 0 {
			from = ""
		}
		list = append(list, &masterapi.Transition{From: from, To: word(t.To), Reason: t.Reason, Actor: t.Actor, Time: stamp(t.Time)})
	}
	return list
}

func healthMessage(m *health.Machine, stale bool, now time.Time) *masterapi.Health {
	status, source := m.Status(now)
	since := m.Since
	if source == "link" {
		since = m.Changed
	}
	return &masterapi.Health{Status: string(status), Stale: stale && source == "consul", Since: stampTime(since), Linked: m.Linked, Source: source}
}

func capabilities(h *state.Host) *masterapi.HostCapabilities {
	c := &masterapi.HostCapabilities{
		Compositor: h.Compositor, CapturePlugin: h.Capture, EncoderPlugin: h.Encoder, Codecs: h.Codecs, Gpu: h.GPU,
		Attributes: make(map[string]string, len(h.Attributes)),
	}
	for _, a := range h.Attributes {
		c.Attributes[a.Key] = a.Value
	}
	return c
}

func keySetMessage(s *state.State) *masterapi.KeySet {
	set := &masterapi.KeySet{Version: s.KeySetVersion()}
	for _, k := range s.Keys() {
		if k.Published() {
			set.Keys = append(set.Keys, &masterapi.PublicKey{KeyId: k.ID, PublicKey: []byte(k.Public)})
		}
	}
	return set
}

func banMessage(b *state.Ban) *masterapi.Ban {
	return &masterapi.Ban{Kind: b.Kind, Subject: b.Subject, Expiry: stamp(b.Expiry), Reason: b.Reason, Actor: b.Actor, Since: stamp(b.Since)}
}
