package master

import (
	"context"

	"github.com/wavry/fleet/master/hostrule"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// allow notes which rule allows what the host offers. A host says what it would like to be; rules and operators say what it is.
func (l *leader) allow(h *state.Host) {
	h.Rule = l.m.cfg.HostRules.Allow(hostrule.Offer{Host: h.ID, Pool: h.Pool, Region: h.Region, Slots: h.Slots})
}

// ApproveHost implements masterapi.FleetServiceHandler.
func (a *fleetAPI) ApproveHost(ctx context.Context, r *masterapi.ApproveHostRequest) (*masterapi.Host, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	_, err = l.propose(ctx, &state.ApproveHost{
		ID: r.GetHostId(), Pool: r.GetPool(), Region: r.GetRegion(), Slots: r.GetSlots(), Identity: string(r.GetIdentity()), Reason: short(r.GetReason()), Actor: actorOf(ctx),
	})
	if err != nil {
		return nil, apiError(err)
	}
	return a.host(l, r.GetHostId())
}

func approvalMessage(a *state.Approval) *masterapi.Approval {
	if a.Time == 0 {
		return nil
	}
	return &masterapi.Approval{Pool: a.Pool, Region: a.Region, Slots: a.Slots, Identity: []byte(a.Identity), Actor: a.Actor, Time: stamp(a.Time)}
}
