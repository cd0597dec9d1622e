package master

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// fleetAPI serves FleetService.
type fleetAPI struct{ m *Master }

// ListRelays implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) ListRelays(_ context.Context, r *masterapi.ListRelaysRequest) (*masterapi.ListRelaysResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	response := &masterapi.ListRelaysResponse{}
	a.m.read(func(s *state.State) {
		for relay := range s.Relays() {
			if r.GetRegion() == "" || r.GetRegion() == relay.Region {
				response.Relays = append(response.Relays, l.relayMessage(s, relay))
			}
		}
	})
	slices.SortFunc(response.Relays, func(a, b *masterapi.Relay) int { return cmp.Compare(a.GetRelayId(), b.GetRelayId()) })
	return response, nil
}

// GetRelay implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) GetRelay(_ context.Context, r *masterapi.GetRelayRequest) (*masterapi.Relay, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	return a.relay(l, r.GetRelayId())
}

func (a *fleetAPI) relay(l *leader, id string) (m *masterapi.Relay, err error) {
	a.m.read(func(s *state.State) {
		if relay := s.Relay(id); relay != nil {
			m = l.relayMessage(s, relay)
		}
	})
	if m == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_RELAY_UNKNOWN, "relay %s", short(id)))
	}
	return m, nil
}

// relayMessage is called under the state's read lock.
func (l *leader) relayMessage(s *state.State, r *state.Relay) *masterapi.Relay {
	m := &masterapi.Relay{
		RelayId: r.ID, Region: r.Region, Version: r.Version, ControlAddress: r.ControlAddress, MediaAddress: r.MediaAddress, PublicKey: []byte(r.PublicKey),
		CapacityCircuits: r.Capacity, CapacityBps: r.CapacityBits, State: r.State, Reason: r.Reason, Actor: r.Actor, Since: stamp(r.Since),
		History: relayTransitions(r.History), Leases: uint32(s.CircuitsOn(r.ID)), Score: 1,
	}
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	if live := l.fleet.relays[r.ID]; live != nil {
		m.Health = healthMessage(&live.health, l.fleet.stale[catalog.ServiceRelay], l.m.cfg.Now())
		m.Load, m.Score = live.load, float32(live.score())
	}
	return m
}

// SetRelayState implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) SetRelayState(ctx context.Context, r *masterapi.SetRelayStateRequest) (*masterapi.Relay, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	to := r.GetState()
	switch to {
	case masterapi.RelayState_RELAY_STATE_DRAINING, masterapi.RelayState_RELAY_STATE_QUARANTINED, masterapi.RelayState_RELAY_STATE_BANNED:
	case masterapi.RelayState_RELAY_STATE_ACTIVE:
		a.m.read(func(s *state.State) {
			if relay := s.Relay(r.GetRelayId()); relay != nil && relay.State != to {
				to = state.Activation(relay.State)
			}
		})
	default:
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "state %s cannot be asked for: use active, draining, quarantined or banned", state.RelayWord(to)))
	}
	if _, err := l.propose(ctx, &state.SetRelayState{ID: r.GetRelayId(), To: to, Reason: short(r.GetReason()), Actor: actorOf(ctx)}); err != nil {
		return nil, apiError(err)
	}
	return a.relay(l, r.GetRelayId())
}

// ForgetRelay implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) ForgetRelay(ctx context.Context, r *masterapi.ForgetRelayRequest) (*masterapi.ForgetRelayResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if l.relayLink(r.GetRelayId()) != nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "relay %s is linked: stop it first", r.GetRelayId()))
	}
	_, err = l.propose(ctx, &state.ForgetRelay{ID: r.GetRelayId(), Actor: actorOf(ctx)})
	return &masterapi.ForgetRelayResponse{}, apiError(err)
}

// ListHosts implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) ListHosts(_ context.Context, r *masterapi.ListHostsRequest) (*masterapi.ListHostsResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	response := &masterapi.ListHostsResponse{}
	a.m.read(func(s *state.State) {
		for h := range s.Hosts() {
			if (r.GetPool() == "" || r.GetPool() == h.Pool) && (r.GetRegion() == "" || r.GetRegion() == h.Region) {
				response.Hosts = append(response.Hosts, l.hostMessage(s, h))
			}
		}
	})
	slices.SortFunc(response.Hosts, func(a, b *masterapi.Host) int { return cmp.Compare(a.GetHostId(), b.GetHostId()) })
	return response, nil
}

// GetHost implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) GetHost(_ context.Context, r *masterapi.GetHostRequest) (*masterapi.Host, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	return a.host(l, r.GetHostId())
}

func (a *fleetAPI) host(l *leader, id string) (m *masterapi.Host, err error) {
	a.m.read(func(s *state.State) {
		if h := s.Host(id); h != nil {
			m = l.hostMessage(s, h)
		}
	})
	if m == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_HOST_UNKNOWN, "host %s", short(id)))
	}
	return m, nil
}

// hostMessage is called under the state's read lock.
func (l *leader) hostMessage(s *state.State, h *state.Host) *masterapi.Host {
	m := &masterapi.Host{
		HostId: h.ID, Pool: h.Pool, Region: h.Region, Version: h.Version, Identity: []byte(h.Identity), Slots: h.Slots, SlotsUsed: uint32(s.SlotsUsed(h.ID)),
		DirectAddresses: h.Addresses, Capabilities: capabilities(h), State: h.State, Reason: h.Reason, Actor: h.Actor, Since: stamp(h.Since),
		History: hostTransitions(h.History), Rule: h.Rule, Approval: approvalMessage(&h.Approval),
	}
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	if live := l.fleet.hosts[h.ID]; live != nil {
		m.Health = healthMessage(&live.health, l.fleet.stale[catalog.ServiceHost], l.m.cfg.Now())
		m.Load = live.load
	}
	return m
}

// SetHostState implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) SetHostState(ctx context.Context, r *masterapi.SetHostStateRequest) (*masterapi.Host, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	switch r.GetState() {
	case masterapi.HostStateWord_HOST_STATE_ACTIVE, masterapi.HostStateWord_HOST_STATE_DRAINING, masterapi.HostStateWord_HOST_STATE_QUARANTINED:
	default:
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "state %s cannot be asked for: use active, draining or quarantined", state.HostWord(r.GetState())))
	}
	if _, err := l.propose(ctx, &state.SetHostState{ID: r.GetHostId(), To: r.GetState(), Reason: short(r.GetReason()), Actor: actorOf(ctx)}); err != nil {
		return nil, apiError(err)
	}
	return a.host(l, r.GetHostId())
}

// ForgetHost implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) ForgetHost(ctx context.Context, r *masterapi.ForgetHostRequest) (*masterapi.ForgetHostResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	if l.hostLink(r.GetHostId()) != nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_TRANSITION_REFUSED, "host %s is linked: stop it first", r.GetHostId()))
	}
	_, err = l.propose(ctx, &state.ForgetHost{ID: r.GetHostId(), Actor: actorOf(ctx)})
	return &masterapi.ForgetHostResponse{}, apiError(err)
}

// PutBan implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) PutBan(ctx context.Context, r *masterapi.Ban) (*masterapi.PutBanResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	b := state.Ban{Kind: r.GetKind(), Subject: r.GetSubject(), Reason: short(r.GetReason()), Actor: actorOf(ctx)}
	if r.GetExpiry() != nil {
		b.Expiry = state.At(r.GetExpiry().AsTime())
	}
	if err := errors.Join(mayBan(ctx, b.Kind), checkBan(&b)); err != nil {
		return nil, apiError(err)
	}
	_, err = l.propose(ctx, &state.PutBan{Ban: b})
	return &masterapi.PutBanResponse{}, apiError(err)
}

// checkBan brings addresses into one form.
func checkBan(b *state.Ban) error {
	switch b.Kind {
	case masterapi.Ban_KIND_CERTIFICATE, masterapi.Ban_KIND_IDENTITY:
		return checkRevocation(b)
	case masterapi.Ban_KIND_LOGIN:
		return masterapi.CheckID("subject", b.Subject)
	case masterapi.Ban_KIND_ADDRESS:
		if p, err := netip.ParsePrefix(b.Subject); err == nil {
			b.Subject = p.Masked().String()
			return nil
		}
		address, err := netip.ParseAddr(b.Subject)
		if err != nil {
			return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "subject %q is neither an IP address nor a prefix", short(b.Subject))
		}
		b.Subject = address.Unmap().String()
		return nil
	default:
		return masterapi.Refuse(masterapi.Reason_REASON_INVALID_REQUEST, "only logins and addresses are banned here: use wavry relay ban or wavry host drain")
	}
}

// RemoveBan implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) RemoveBan(ctx context.Context, r *masterapi.RemoveBanRequest) (*masterapi.RemoveBanResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	b := state.Ban{Kind: r.GetKind(), Subject: r.GetSubject()}
	if err := errors.Join(mayBan(ctx, b.Kind), checkBan(&b)); err != nil {
		return nil, apiError(err)
	}
	_, err = l.propose(ctx, &state.RemoveBan{Kind: b.Kind, Subject: b.Subject, Actor: actorOf(ctx)})
	return &masterapi.RemoveBanResponse{}, apiError(err)
}

// ListBans implements masterapiconnect.FleetServiceHandler.
func (a *fleetAPI) ListBans(ctx context.Context, _ *masterapi.ListBansRequest) (*masterapi.BanList, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	caller, _ := identity.FromContext(ctx)
	return l.banList(caller.Role == identity.RoleOperator), nil
}
