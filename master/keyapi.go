package master

import (
	"context"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// keyAPI serves KeyService.
type keyAPI struct{ m *Master }

// GetKeySet implements masterapiconnect.KeyServiceHandler. Any server answers from its own copy.
func (a *keyAPI) GetKeySet(context.Context, *masterapi.GetKeySetRequest) (set *masterapi.KeySet, err error) {
	a.m.read(func(s *state.State) { set = keySetMessage(s) })
	if len(set.GetKeys()) == 0 {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "the cluster has no signing key yet").After(retrySoon))
	}
	return set, nil
}

// ListKeys implements masterapiconnect.KeyServiceHandler.
func (a *keyAPI) ListKeys(context.Context, *masterapi.ListKeysRequest) (*masterapi.ListKeysResponse, error) {
	if _, err := a.m.leading(); err != nil {
		return nil, apiError(err)
	}
	return a.list(), nil
}

func (a *keyAPI) list() *masterapi.ListKeysResponse {
	r := &masterapi.ListKeysResponse{}
	a.m.read(func(s *state.State) {
		r.KeySetVersion = s.KeySetVersion()
		for _, k := range s.Keys() {
			r.Keys = append(r.Keys, &masterapi.SigningKey{
				KeyId: k.ID, PublicKey: []byte(k.Public), State: k.State, Created: stamp(k.Created), SigningSince: stamp(k.SigningSince),
				Ended: stamp(k.Ended), LiveLeases: uint32(s.LeasesOfKey(k.ID)),
			})
		}
		if k := s.SigningKey(); k != nil && a.m.cfg.KeyRotation > 0 {
			r.NextRotation = stamp(k.SigningSince.Add(a.m.cfg.KeyRotation))
		}
	})
	return r
}

// Rotate implements masterapiconnect.KeyServiceHandler.
func (a *keyAPI) Rotate(ctx context.Context, _ *masterapi.RotateKeyRequest) (*masterapi.ListKeysResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	var signing, next *state.Key
	a.m.read(func(s *state.State) { signing, next = s.SigningKey(), s.NextKey() })
	if signing == nil || next == nil {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "there is no next key yet").After(retrySoon))
	}
	if age := a.m.cfg.Now().Sub(next.Created.Time()); age < a.m.cfg.KeyPublishAhead {
		return nil, apiError(masterapi.Refuse(masterapi.Reason_REASON_TRANSITION_REFUSED,
			"the next key was published %s ago; verifiers get %s to learn of it", age.Round(retrySoon), a.m.cfg.KeyPublishAhead).After(a.m.cfg.KeyPublishAhead - age))
	}
	fresh, err := a.m.keys.make()
	if err != nil {
		return nil, apiError(err)
	}
	if _, err := l.propose(ctx, &state.RotateKey{From: signing.ID, Next: fresh, Actor: actorOf(ctx)}); err != nil {
		return nil, apiError(err)
	}
	return a.list(), nil
}

// Revoke implements masterapiconnect.KeyServiceHandler.
func (a *keyAPI) Revoke(ctx context.Context, r *masterapi.RevokeKeyRequest) (*masterapi.ListKeysResponse, error) {
	l, err := a.m.leading()
	if err != nil {
		return nil, apiError(err)
	}
	fresh, err := a.m.keys.make()
	if err != nil {
		return nil, apiError(err)
	}
	if _, err := l.propose(ctx, &state.RevokeKey{ID: r.GetKeyId(), Next: fresh, Actor: actorOf(ctx), Note: short(r.GetComment())}); err != nil {
		return nil, apiError(err)
	}
	return a.list(), nil
}
