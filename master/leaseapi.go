package master

import (
	"context"
	"errors"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// leaseAPI serves LeaseService.
type leaseAPI struct{ m *Master }

// Renew implements masterapiconnect.LeaseServiceHandler.
func (a *leaseAPI) Renew(ctx context.Context, r *masterapi.RenewRequest) (*masterapi.RenewResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if err := a.mayTouch(ctx, r.GetLeaseId()); err != nil {
		return nil, apiError(err)
	}
	i, err := l.renew(ctx, r.GetLeaseId())
	if err != nil {
		return nil, apiError(err)
	}
	caller, _ := identity.FromContext(ctx)
	if caller.Role != identity.RoleHost {
		l.sendHost(i.lease.Host, &masterapi.HostCommand{Command: &masterapi.HostCommand_Renewed{Renewed: &masterapi.RenewedLease{
			LeaseId: i.lease.ID, SessionId: i.lease.Session, ViewerToken: i.token, CircuitToken: i.circuitToken, Expiry: stamp(i.lease.Expiry),
		}}})
	}
	l.hub.publish(&masterapi.SessionEvent{
		Kind: masterapi.SessionEvent_KIND_RENEWED, SessionId: i.lease.Session, ViewerId: i.lease.Viewer, LeaseId: i.lease.ID,
		ViewerToken: i.token, Expiry: stamp(i.lease.Expiry),
	})
	answer := &masterapi.RenewResponse{LeaseId: i.lease.ID, ViewerToken: i.token, Expiry: stamp(i.lease.Expiry), RenewAfter: renewAfter(i.lease.Expiry, i.lifetime)}
	if caller.Role == identity.RoleHost {
		answer.CircuitToken = i.circuitToken
	}
	return answer, nil
}

// mayTouch refuses a host that asks for a lease of another host.
func (a *leaseAPI) mayTouch(ctx context.Context, id string) error {
	caller, ok := identity.FromContext(ctx)
	if !ok || caller.Role != identity.RoleHost {
		return nil // the policy has decided about the other roles
	}
	var lease *state.Lease
	a.m.read(func(s *state.State) { lease = s.Lease(id) })
	if lease == nil {
		return masterapi.Refuse(masterapi.Reason_REASON_LEASE_UNKNOWN, "lease %s", short(id))
	}
	return a.m.speaks(ctx, identity.RoleHost, lease.Host)
}

// renew prolongs a lease under the key that signs now; a rotation in between is tried once more.
func (l *leader) renew(ctx context.Context, id string) (*issued, error) {
	for range allocateAttempts {
		var key *state.Key
		l.m.read(func(s *state.State) { key = s.SigningKey() })
		if _, err := l.m.keys.signer(key); err != nil {
			return nil, err
		}
		expiry := state.At(l.m.cfg.Now().Add(l.m.cfg.LeaseLifetime))
		r, err := l.propose(ctx, &state.RenewLease{ID: id, Key: key.ID, Expiry: expiry})
		if reason, _ := masterapi.ReasonOf(err); reason == masterapi.Reason_REASON_NO_SIGNING_KEY {
			continue
		}
		if err != nil {
			return nil, err
		}
		i := &issued{lease: r.Lease, lifetime: l.m.cfg.LeaseLifetime}
		l.m.read(func(s *state.State) { i.host, i.relay = s.Host(r.Lease.Host), s.Relay(r.Lease.Relay) })
		if i.host == nil {
			return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", r.Lease.Host)
		}
		if err := l.sign(i); err != nil {
			return nil, err
		}
		return i, l.signCircuit(i)
	}
	return nil, errors.New("the signing key changed too often")
}

// Release implements masterapiconnect.LeaseServiceHandler.
func (a *leaseAPI) Release(ctx context.Context, r *masterapi.ReleaseRequest) (*masterapi.ReleaseResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if err := a.mayTouch(ctx, r.GetLeaseId()); err != nil {
		return nil, apiError(err)
	}
	reason := r.GetReason()
	if reason == masterapi.Reason_REASON_UNSPECIFIED {
		reason = masterapi.Reason_REASON_USER_ENDED
	}
	result, err := l.propose(ctx, &state.EndLease{ID: r.GetLeaseId(), State: masterapi.LeaseState_LEASE_STATE_RELEASED, Reason: reason})
	if err != nil {
		return nil, apiError(err)
	}
	return &masterapi.ReleaseResponse{SessionEnded: result.SessionEnded}, nil
}

// Revoke implements masterapiconnect.LeaseServiceHandler.
func (a *leaseAPI) Revoke(ctx context.Context, r *masterapi.RevokeRequest) (*masterapi.RevokeResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	end := &state.EndLease{
		ID: r.GetLeaseId(), State: masterapi.LeaseState_LEASE_STATE_REVOKED, Reason: masterapi.Reason_REASON_LEASE_REVOKED,
		Actor: actorOf(ctx), Detail: short(r.GetComment()),
	}
	if _, err := l.propose(ctx, end); err != nil {
		return nil, apiError(err)
	}
	return &masterapi.RevokeResponse{}, nil
}

// actorOf names the caller in the audit.
func actorOf(ctx context.Context) string {
	if caller, ok := identity.FromContext(ctx); ok {
		return caller.String()
	}
	return "unknown"
}

// Get implements masterapiconnect.LeaseServiceHandler.
func (a *leaseAPI) Get(_ context.Context, r *masterapi.GetLeaseRequest) (*masterapi.Lease, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	var lease *state.Lease
	a.m.read(func(s *state.State) { lease = s.Lease(r.GetLeaseId()) })
	if lease == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_LEASE_UNKNOWN, "lease %s", short(r.GetLeaseId())))
	}
	return leaseMessage(lease), nil
}

// List implements masterapiconnect.LeaseServiceHandler.
func (a *leaseAPI) List(_ context.Context, r *masterapi.ListLeasesRequest) (*masterapi.ListLeasesResponse, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	is := func(want, have string) bool { return want == "" || want == have }
	var hits []*state.Lease
	a.m.read(func(s *state.State) {
		for lease := range s.Leases() {
			if lease.ID > r.GetAfter() && (r.GetIncludeEnded() || lease.Live()) && is(r.GetSessionId(), lease.Session) &&
				is(r.GetHostId(), lease.Host) && is(r.GetRelayId(), lease.Relay) {
				hits = append(hits, lease)
			}
		}
	})
	response := &masterapi.ListLeasesResponse{}
	hits, response.NextAfter = page(hits, r.GetLimit(), func(x *state.Lease) string { return x.ID })
	for _, lease := range hits {
		response.Leases = append(response.Leases, leaseMessage(lease))
	}
	return response, nil
}
