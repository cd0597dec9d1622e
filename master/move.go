package master

import (
	"context"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// moveRequest says how one viewer gets another path.
type moveRequest struct {
	id          string
	exclude     []string
	region      string
	reason      masterapi.Reason
	forceRelay  bool
	relayNeeded bool
	viewerKey   string // of the page that takes over; empty: it stays
}

// move gives the viewer of a live lease a new lease through another relay, prepared at the same host, and tells the gateways. The old lease stays until the
// viewer has switched.
func (l *leader) move(ctx context.Context, old *state.Lease, r moveRequest) (*masterapi.Grant, error) {
	w := &wish{
		request: r.id, session: old.Session, login: old.Login, viewer: old.Viewer, address: old.Address, region: r.region, role: old.Role,
		forceRelay: r.forceRelay || old.ForceRelay, rate: old.Rate, replaces: old.ID, relayNeeded: r.relayNeeded, noRelays: r.exclude,
		viewerKey: r.viewerKey,
	}
	if w.viewerKey == "" {
		w.viewerKey = old.ViewerKey
	}
	if old.Relay != "" {
		w.noRelays = append([]string{old.Relay}, r.exclude...)
	}
	grant, err := l.admit(ctx, w)
	if reason, _ := masterapi.ReasonOf(err); reason == masterapi.Reason_REASON_NO_RELAY && old.Relay != "" && !l.excluded(old.Relay, r) {
		w.noRelays = r.exclude // the present relay is better than none
		grant, err = l.admit(ctx, w)
	}
	if err != nil {
		return nil, err
	}
	l.log.Info("viewer moved", "session_id", old.Session, "relay_id", old.Relay, "lease_id", grant.GetLeaseId(), "cause", r.reason.Slug())
	l.hub.publish(&masterapi.SessionEvent{
		Kind: masterapi.SessionEvent_KIND_MOVED, SessionId: grant.GetSessionId(), ViewerId: grant.GetViewerId(), LeaseId: grant.GetLeaseId(),
		Reason: r.reason, Grant: grant,
	})
	l.m.metrics.moves.WithLabelValues(r.reason.Slug()).Inc()
	return grant, nil
}

func (l *leader) excluded(relay string, r moveRequest) bool {
	for _, id := range r.exclude {
		if id == relay {
			return true
		}
	}
	return false
}

// newest reports whether the lease is its viewer's latest live one: an older one is being left already.
func newest(s *state.State, lease *state.Lease) bool {
	session := s.Session(lease.Session)
	if session == nil {
		return false
	}
	for _, other := range s.LiveLeases(session) {
		if other.Viewer == lease.Viewer {
			return other.ID == lease.ID
		}
	}
	return false
}

// movable returns the newest live lease of each viewer of a session, or of the one named.
func movable(s *state.State, session *state.Session, viewer string) []*state.Lease {
	var list []*state.Lease
	seen := map[string]bool{}
	for _, lease := range s.LiveLeases(session) {
		if seen[lease.Viewer] || (viewer != "" && lease.Viewer != viewer) {
			continue
		}
		seen[lease.Viewer] = true
		if viewer != "" || lease.Relay != "" {
			list = append(list, lease)
		}
	}
	return list
}

// moveFrom moves one viewer for a caller who may repeat the request: a repeated one whose move is done already finds the lease of the first.
func (l *leader) moveFrom(ctx context.Context, newestLease *state.Lease, r moveRequest) (*masterapi.Grant, error) {
	from := newestLease
	l.m.read(func(s *state.State) {
		for attempt := range admitAttempts {
			if newestLease.ID != leaseIDOf(r.id, newestLease.Viewer, attempt) {
				continue
			}
			for _, older := range s.LiveLeases(s.Session(newestLease.Session)) {
				if older.Viewer == newestLease.Viewer && older.ID != newestLease.ID {
					from = older
				}
			}
		}
	})
	return l.move(ctx, from, r)
}
