package master

import (
	"cmp"
	"context"
	"slices"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// sessionAPI serves SessionService.
type sessionAPI struct{ m *Master }

// Admit implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) Admit(ctx context.Context, r *masterapi.AdmitRequest) (*masterapi.Grant, error) {
	w, err := wishOf(r)
	if err != nil {
		return nil, apiError(err)
	}
	return a.m.grantTo(ctx, w)
}

// AddViewer implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) AddViewer(ctx context.Context, r *masterapi.AddViewerRequest) (*masterapi.Grant, error) {
	w, err := wishOfViewer(r)
	if err != nil {
		return nil, apiError(err)
	}
	return a.m.grantTo(ctx, w)
}

// grantTo admits at the leader and counts the outcome.
func (m *Master) grantTo(ctx context.Context, w *wish) (*masterapi.Grant, error) {
	l, err := m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	began := m.cfg.Now()
	grant, err := l.admit(ctx, w)
	result := "granted"
	if err != nil {
		result = "error"
		if reason, ok := masterapi.ReasonOf(apiError(err)); ok {
			result = reason.Slug()
		}
	}
	m.metrics.admissions.WithLabelValues(result).Inc()
	m.metrics.admitTime.Observe(m.cfg.Now().Sub(began).Seconds())
	if err != nil {
		m.log.Info("admission refused", "cause", err)
		return nil, apiError(err)
	}
	m.log.Info("session granted", "session_id", grant.GetSessionId(), "lease_id", grant.GetLeaseId(), "host_id", grant.GetHostId())
	return grant, nil
}

// RemoveViewer implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) RemoveViewer(ctx context.Context, r *masterapi.RemoveViewerRequest) (*masterapi.RemoveViewerResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	session, leases, err := a.live(r.GetSessionId())
	if err != nil {
		return nil, apiError(err)
	}
	if session == nil {
		return &masterapi.RemoveViewerResponse{SessionEnded: true}, nil
	}
	reason := r.GetReason()
	if reason == masterapi.Reason_REASON_UNSPECIFIED {
		reason = masterapi.Reason_REASON_VIEWER_LEFT
	}
	ended := false
	for _, lease := range leases {
		if lease.Viewer != r.GetViewerId() {
			continue
		}
		result, err := l.propose(ctx, &state.EndLease{ID: lease.ID, State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: reason})
		if err != nil {
			return nil, apiError(err)
		}
		ended = result.SessionEnded
	}
	return &masterapi.RemoveViewerResponse{SessionEnded: ended}, nil
}

// live returns a session with its live leases; nil when it has ended.
func (a *sessionAPI) live(id string) (session *state.Session, leases []*state.Lease, err error) {
	a.m.read(func(s *state.State) {
		if session = s.Session(id); session != nil {
			leases = s.LiveLeases(session)
		}
	})
	if session == nil {
		return nil, nil, masterapi.Refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, "session %s", short(id))
	}
	if !session.Live() {
		return nil, nil, nil
	}
	return session, leases, nil
}

// MoveSession implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) MoveSession(ctx context.Context, r *masterapi.MoveSessionRequest) (*masterapi.MoveSessionResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if err := masterapi.CheckID("request_id", r.GetRequestId()); err != nil {
		return nil, apiError(err)
	}
	if key := r.GetViewerKey(); key != "" {
		if r.GetViewerId() == "" {
			return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "viewer_key without viewer_id: a key is one viewer's"))
		}
		if err := lease.CheckThumbprint(key); err != nil {
			return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "viewer_key: %v", err))
		}
	}
	session, _, err := a.live(r.GetSessionId())
	if err != nil {
		return nil, apiError(err)
	}
	if session == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_SESSION_ENDED, "session %s", r.GetSessionId()))
	}
	var todo []*state.Lease
	a.m.read(func(s *state.State) { todo = movable(s, session, r.GetViewerId()) })
	if len(todo) == 0 {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_LEASE_UNKNOWN, "session %s has no viewer %q to move", session.ID, short(r.GetViewerId())))
	}
	response := &masterapi.MoveSessionResponse{}
	for _, lease := range todo {
		request := moveRequest{id: r.GetRequestId(), exclude: r.GetExcludeRelays(), region: r.GetRegion(), reason: r.GetReason(), forceRelay: r.GetForceRelay(), viewerKey: r.GetViewerKey()}
		grant, err := l.moveFrom(ctx, lease, request)
		if err != nil {
			return nil, apiError(err)
		}
		response.Grants = append(response.Grants, grant)
	}
	return response, nil
}

// EndSession implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) EndSession(ctx context.Context, r *masterapi.EndSessionRequest) (*masterapi.EndSessionResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	command := &state.EndSession{ID: r.GetSessionId(), Reason: r.GetReason(), Message: short(r.GetMessage())}
	caller, _ := identity.FromContext(ctx)
	operator := caller.Role == identity.RoleOperator
	if operator {
		command.Actor = caller.String()
	}
	if command.Reason == masterapi.Reason_REASON_UNSPECIFIED {
		command.Reason = masterapi.Reason_REASON_USER_ENDED
		if operator {
			command.Reason = masterapi.Reason_REASON_OPERATOR_ENDED
		}
	}
	if _, err := l.propose(ctx, command); err != nil {
		return nil, apiError(err)
	}
	return &masterapi.EndSessionResponse{}, nil
}

// GetSession implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) GetSession(_ context.Context, r *masterapi.GetSessionRequest) (m *masterapi.Session, err error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	a.m.read(func(s *state.State) {
		if session := s.Session(r.GetSessionId()); session != nil {
			m = sessionMessage(s, session)
		}
	})
	if m == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, "session %s", short(r.GetSessionId())))
	}
	return m, nil
}

// ListSessions implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) ListSessions(_ context.Context, r *masterapi.ListSessionsRequest) (*masterapi.ListSessionsResponse, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	response := &masterapi.ListSessionsResponse{}
	a.m.read(func(s *state.State) {
		var hits []*state.Session
		for session := range s.Sessions() {
			if session.ID > r.GetAfter() && (r.GetIncludeEnded() || session.Live()) && matches(s, session, r) {
				hits = append(hits, session)
			}
		}
		hits, response.NextAfter = page(hits, r.GetLimit(), func(x *state.Session) string { return x.ID })
		for _, session := range hits {
			response.Sessions = append(response.Sessions, sessionMessage(s, session))
		}
	})
	return response, nil
}

func matches(s *state.State, session *state.Session, r *masterapi.ListSessionsRequest) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	if !is(r.GetLogin(), session.Login) || !is(r.GetHostId(), session.Host) || !is(r.GetPool(), session.Pool) {
		return false
	}
	if r.GetRelayId() == "" {
		return true
	}
	return slices.ContainsFunc(s.LiveLeases(session), func(l *state.Lease) bool { return l.Relay == r.GetRelayId() })
}

// page sorts by id and cuts to the limit; next is empty on the last page.
func page[T any](list []T, limit uint32, id func(T) string) (cut []T, next string) {
	n := int(limit)
	if n == 0 {
		n = masterapi.DefaultPage
	}
	n = min(n, masterapi.MaxPage)
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(id(a), id(b)) })
	if len(list) <= n {
		return list, ""
	}
	return list[:n], id(list[n-1])
}

// WatchSessions implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) WatchSessions(ctx context.Context, r *masterapi.WatchSessionsRequest, stream *connect.ServerStream[masterapi.SessionEvent]) error {
	l, err := a.m.streamLeader()
	if err != nil {
		return err
	}
	w := l.hub.add()
	defer l.hub.remove(w)
	if err := stream.Send(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_SYNC}); err != nil {
		return apiError(err)
	}
	l.log.Info("gateway watches sessions", "gateway_id", short(r.GetGatewayId()))
	for {
		select {
		case <-ctx.Done():
			return apiError(whyOver(ctx))
		case <-l.ctx.Done():
			return apiError(errDeposed)
		case <-w.slow:
			return apiError(masterapi.Refuse(masterapi.Reason_REASON_BUSY, "watcher was too slow: synchronise again"))
		case e := <-w.events:
			if err := stream.Send(e); err != nil {
				return apiError(err)
			}
		}
	}
}

// Capacity implements masterapiconnect.SessionServiceHandler.
func (a *sessionAPI) Capacity(_ context.Context, r *masterapi.CapacityRequest) (*masterapi.CapacityResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	pool := cmp.Or(r.GetPool(), "default")
	c := &masterapi.CapacityResponse{}
	a.m.read(func(s *state.State) {
		l.fleet.mu.RLock()
		defer l.fleet.mu.RUnlock()
		now := a.m.cfg.Now()
		for _, id := range l.fleet.pools[pool] {
			h := s.Host(id)
			if h == nil || (r.GetRegion() != "" && h.Region != r.GetRegion()) {
				continue
			}
			c.Hosts++
			c.Slots += h.Slots
			if l.fleet.hostEligible(s, id, now) {
				c.HostsEligible++
				c.SlotsFree += h.Slots - uint32(s.SlotsUsed(id))
			}
		}
		for _, id := range l.fleet.members {
			if l.fleet.relayEligible(s, s.Relay(id), now) {
				c.RelaysEligible++
			}
		}
	})
	return c, nil
}
