package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

// instant is a timestamp of the master; zero when it is not set.
func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// word is an enum value for people: HOST_STATE_ACTIVE is active.
func word(enum, prefix string) string { return strings.ToLower(strings.TrimPrefix(enum, prefix)) }

func listSessions(c *call) (any, error) {
	page, err := c.gw.cfg.Master.Sessions().ListSessions(c.Context(), &masterapi.ListSessionsRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	users, err := c.open.store.Users(c.Context())
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, u := range users {
		names[u.ID] = u.Name
	}
	return mapped(page.GetSessions(), func(s *masterapi.Session) signalapi.Session { return sessionOf(s, names) }), nil
}

func sessionOf(m *masterapi.Session, names map[string]string) signalapi.Session {
	s := signalapi.Session{ID: m.GetSessionId(), User: names[m.GetLogin()], Pool: m.GetPool(), Host: m.GetHostId(),
		State: word(m.GetState().String(), "SESSION_STATE_"), StartedAt: instant(m.GetCreated())}
	if s.User == "" {
		s.User = m.GetLogin()
	}
	viewers := map[string]bool{}
	for _, l := range m.GetLeases() {
		viewers[l.GetViewerId()] = true
		if s.Relay == "" {
			s.Relay = l.GetRelayId()
		}
		if e := instant(l.GetExpiry()); e.After(s.ExpiresAt) {
			s.ExpiresAt = e
		}
	}
	s.Viewers = len(viewers)
	return s
}

// cause reads why an operator does something.
func (c *call) cause() (string, error) {
	var cause signalapi.Cause
	if err := c.decode(&cause); err != nil {
		return "", err
	}
	if cause.Reason = strings.TrimSpace(cause.Reason); cause.Reason == "" || len(cause.Reason) > maxReason {
		return "", badRequest("Give a reason of at most %d bytes.", maxReason)
	}
	return cause.Reason, nil
}

// record audits what the master has done for the caller.
func (c *call) record(what, subject, detail string) error {
	return c.open.store.Record(c.Context(), c.act(what, subject, detail))
}

// signed is a reason with who gave it, for the master's own audit, where the actor is this gateway.
func (c *call) signed(reason string) string { return cut(reason+" ("+c.in.User.Name+")", maxReason) }

func endSession(c *call) (any, error) {
	reason, err := c.cause()
	if err != nil {
		return nil, err
	}
	id := c.PathValue("id")
	_, err = c.gw.cfg.Master.Sessions().EndSession(c.Context(), &masterapi.EndSessionRequest{
		SessionId: id, Reason: masterapi.Reason_REASON_OPERATOR_ENDED, Message: reason})
	if err != nil {
		return nil, fromMaster(err)
	}
	return nil, c.record("session.end", id, reason)
}

func healthWord(h *masterapi.Health) string {
	status := h.GetStatus()
	if status == "" {
		status = "unknown"
	}
	if h.GetStale() {
		return "stale_" + status
	}
	return status
}

func hostOf(h *masterapi.Host) signalapi.HostInfo {
	c := h.GetCapabilities()
	return signalapi.HostInfo{ID: h.GetHostId(), Pool: h.GetPool(), Region: h.GetRegion(), State: word(h.GetState().String(), "HOST_STATE_"),
		Health: healthWord(h.GetHealth()), Reason: h.Why(), Compositor: c.GetCompositor(), Capture: c.GetCapturePlugin(),
		Encoder: c.GetEncoderPlugin(), Slots: int(h.GetSlots()), Used: int(h.GetSlotsUsed()), Since: instant(h.GetSince())}
}

func listHosts(c *call) (any, error) {
	hosts, err := c.gw.cfg.Master.Fleet().ListHosts(c.Context(), &masterapi.ListHostsRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	return mapped(hosts.GetHosts(), hostOf), nil
}

func hostState(state masterapi.HostStateWord) endpoint {
	return func(c *call) (any, error) {
		reason, err := c.cause()
		if err != nil {
			return nil, err
		}
		host, err := c.gw.cfg.Master.Fleet().SetHostState(c.Context(), &masterapi.SetHostStateRequest{
			HostId: c.PathValue("id"), State: state, Reason: c.signed(reason)})
		if err != nil {
			return nil, fromMaster(err)
		}
		return hostOf(host), c.record("host."+word(state.String(), "HOST_STATE_"), host.GetHostId(), reason)
	}
}

func relayOf(r *masterapi.Relay) signalapi.RelayInfo {
	return signalapi.RelayInfo{ID: r.GetRelayId(), Region: r.GetRegion(), Address: r.GetControlAddress(),
		State: word(r.GetState().String(), "RELAY_STATE_"), Health: healthWord(r.GetHealth()), Reason: r.GetReason(), Actor: r.GetActor(),
		Since: instant(r.GetSince()), Capacity: int(r.GetCapacityCircuits()), Circuits: int(r.GetLoad().GetCircuits()), Score: float64(r.GetScore())}
}

func listRelays(c *call) (any, error) {
	relays, err := c.gw.cfg.Master.Fleet().ListRelays(c.Context(), &masterapi.ListRelaysRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	return mapped(relays.GetRelays(), relayOf), nil
}

// relayStates are the states that people may ask for.
var relayStates = map[string]masterapi.RelayState{
	"active": masterapi.RelayState_RELAY_STATE_ACTIVE, "draining": masterapi.RelayState_RELAY_STATE_DRAINING,
	"quarantined": masterapi.RelayState_RELAY_STATE_QUARANTINED, "banned": masterapi.RelayState_RELAY_STATE_BANNED,
}

func relayState(c *call) (any, error) {
	var change signalapi.RelayChange
	if err := c.decode(&change); err != nil {
		return nil, err
	}
	state, known := relayStates[change.State]
	if !known {
		return nil, badRequest("A relay is made active, draining, quarantined or banned.")
	}
	if change.Reason = strings.TrimSpace(change.Reason); change.Reason == "" || len(change.Reason) > maxReason {
		return nil, badRequest("Give a reason of at most %d bytes.", maxReason)
	}
	relay, err := c.gw.cfg.Master.Fleet().SetRelayState(c.Context(), &masterapi.SetRelayStateRequest{
		RelayId: c.PathValue("id"), State: state, Reason: c.signed(change.Reason)})
	if err != nil {
		return nil, fromMaster(err)
	}
	return relayOf(relay), c.record("relay."+change.State, relay.GetRelayId(), change.Reason)
}

func keysOf(list *masterapi.ListKeysResponse) []signalapi.KeyInfo {
	return mapped(list.GetKeys(), func(k *masterapi.SigningKey) signalapi.KeyInfo {
		return signalapi.KeyInfo{ID: k.GetKeyId(), State: word(k.GetState().String(), "KEY_STATE_"), CreatedAt: instant(k.GetCreated()),
			SignsFrom: instant(k.GetSigningSince()), EndsAt: instant(k.GetEnded()), Leases: int(k.GetLiveLeases())}
	})
}

func listKeys(c *call) (any, error) {
	keys, err := c.gw.cfg.Master.Keys().ListKeys(c.Context(), &masterapi.ListKeysRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	return keysOf(keys), nil
}

func rotateKey(c *call) (any, error) {
	reason, err := c.cause()
	if err != nil {
		return nil, err
	}
	keys, err := c.gw.cfg.Master.Keys().Rotate(c.Context(), &masterapi.RotateKeyRequest{})
	if err != nil {
		return nil, fromMaster(err)
	}
	return keysOf(keys), c.record("key.rotate", "lease signing key", reason)
}

func revokeKey(c *call) (any, error) {
	reason, err := c.cause()
	if err != nil {
		return nil, err
	}
	id := c.PathValue("id")
	keys, err := c.gw.cfg.Master.Keys().Revoke(c.Context(), &masterapi.RevokeKeyRequest{KeyId: id, Comment: c.signed(reason)})
	if err != nil {
		return nil, fromMaster(err)
	}
	return keysOf(keys), c.record("key.revoke", id, reason)
}

func masterBan(b store.Ban) *masterapi.Ban {
	m := &masterapi.Ban{Kind: masterapi.Ban_KIND_ADDRESS, Subject: b.Address, Reason: b.Reason, Actor: b.Actor, Since: timestamppb.New(b.CreatedAt)}
	if b.UserID != "" {
		m.Kind, m.Subject = masterapi.Ban_KIND_LOGIN, b.UserID
	}
	if !b.ExpiresAt.IsZero() {
		m.Expiry = timestamppb.New(b.ExpiresAt)
	}
	return m
}

// tellBan tells the master of a ban: relays refuse the banned too, and no gateway that is late lets them in.
func (g *Gateway) tellBan(ctx context.Context, b store.Ban) error {
	_, err := g.cfg.Master.Fleet().PutBan(ctx, masterBan(b))
	return fromMaster(err)
}

func (g *Gateway) tellLifted(ctx context.Context, b store.Ban) error {
	m := masterBan(b)
	_, err := g.cfg.Master.Fleet().RemoveBan(ctx, &masterapi.RemoveBanRequest{Kind: m.GetKind(), Subject: m.GetSubject()})
	return fromMaster(err)
}

// tellBans repeats all bans when the master is back: one that it missed comes into force.
func (g *Gateway) tellBans(ctx context.Context) error {
	bans, err := g.open.Load().store.Bans(ctx, g.cfg.Now())
	for _, b := range bans {
		err = errors.Join(err, g.tellBan(ctx, b))
	}
	return err
}
