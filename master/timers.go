package master

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/wavry/fleet/master/choose"
	"github.com/wavry/fleet/master/health"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/raftnode"
	"github.com/wavry/fleet/master/state"
)

// tokenSkew is how long a verifier may take an expired token.
const tokenSkew = lease.Skew

// every calls f at each step until ctx ends.
func every(ctx context.Context, step time.Duration, f func()) error {
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			f()
		}
	}
}

// expireLoop proposes the end of leases nobody renewed. The state decides: a renewal that came first wins.
func (l *leader) expireLoop(ctx context.Context) error {
	return every(ctx, tick, func() {
		now := state.At(l.m.cfg.Now())
		for {
			l.mu.Lock()
			ids := l.timers.Due(int64(now), expireBatch)
			l.mu.Unlock()
			if len(ids) == 0 {
				return
			}
			if _, err := l.propose(ctx, &state.ExpireLeases{Before: now.Add(-expiryGrace), IDs: ids}); err != nil {
				l.putBack(ids, now)
				return
			}
		}
	})
}

// putBack tries the leases again with the next tick.
func (l *leader) putBack(ids []string, now state.Millis) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.timers.Set(id, int64(now))
	}
}

// keepHouse looks after keys, relays on probation and machines that are being emptied.
func (l *leader) keepHouse(ctx context.Context) error {
	l.lookAfterKeys(ctx)
	return every(ctx, housekeeping, func() {
		l.lookAfterKeys(ctx)
		l.judgeRelays()
		l.lookAfterDrains(ctx)
		l.endOnLostHosts()
		l.m.gauge()
	})
}

// keyWork is what the signing keys need now.
type keyWork struct{ add, rotate, retire bool }

// keyWorkAt decides what to do about keys. It is pure.
func keyWorkAt(now time.Time, signing, next *state.Key, rotation, ahead, tokenLife time.Duration, retiring []*state.Key) (w keyWork) {
	w.add = signing == nil || next == nil
	w.rotate = rotation > 0 && signing != nil && next != nil && now.Sub(signing.SigningSince.Time()) >= rotation && now.Sub(next.Created.Time()) >= ahead
	for _, k := range retiring {
		w.retire = w.retire || now.Sub(k.Retired.Time()) >= tokenLife
	}
	return w
}

func (l *leader) lookAfterKeys(ctx context.Context) {
	if l.m.cfg.KEK == nil {
		return // not ready, and readiness says why
	}
	var signing, next *state.Key
	var retiring []*state.Key
	l.m.read(func(s *state.State) {
		signing, next = s.SigningKey(), s.NextKey()
		for _, k := range s.Keys() {
			if k.State == masterapi.KeyState_KEY_STATE_RETIRING && s.LeasesOfKey(k.ID) == 0 {
				retiring = append(retiring, k)
			}
		}
	})
	now, tokenLife := l.m.cfg.Now(), l.m.cfg.LeaseLifetime+tokenSkew
	work := keyWorkAt(now, signing, next, l.m.cfg.KeyRotation, l.m.cfg.KeyPublishAhead, tokenLife, retiring)
	if err := l.doKeyWork(ctx, work, signing, state.At(now.Add(-tokenLife))); err != nil && !errors.Is(err, raftnode.ErrNotLeader) {
		l.log.Error("signing keys", "err", err)
	}
}

func (l *leader) doKeyWork(ctx context.Context, work keyWork, signing *state.Key, before state.Millis) error {
	if work.add {
		if err := l.addKeys(ctx, signing == nil); err != nil {
			return err
		}
	}
	if work.rotate {
		next, err := l.m.keys.make()
		if err != nil {
			return err
		}
		if _, err := l.propose(ctx, &state.RotateKey{From: signing.ID, Next: next, Actor: state.MasterActor}); err != nil {
			return err
		}
		l.log.Info("signing key rotated", "cause", "schedule")
	}
	if work.retire {
		_, err := l.propose(ctx, &state.RetireKeys{Before: before})
		return err
	}
	return nil
}

// addKeys publishes a next key, and a signing one before it in a new cluster.
func (l *leader) addKeys(ctx context.Context, first bool) error {
	n := 1
	if first {
		n = 2
	}
	for range n {
		key, err := l.m.keys.make()
		if err != nil {
			return err
		}
		if _, err := l.propose(ctx, &key); err != nil {
			return err
		}
	}
	return nil
}

// judgeRelays promotes, degrades and sends relays to probation for what their circuits and their health did.
func (l *leader) judgeRelays() {
	now := l.m.cfg.Now()
	for _, r := range l.m.relays() {
		if command := l.judge(r, now); command != nil {
			l.log.Info("relay state", "relay_id", r.ID, "from", state.RelayWord(r.State), "to", state.RelayWord(command.To), "cause", command.Reason)
			l.later(command)
		}
	}
}

func (l *leader) judge(r *state.Relay, now time.Time) *state.SetRelayState {
	l.fleet.mu.Lock()
	defer l.fleet.mu.Unlock()
	live := l.fleet.relays[r.ID]
	if live == nil {
		return nil
	}
	to := func(s masterapi.RelayState, reason string) *state.SetRelayState {
		return &state.SetRelayState{ID: r.ID, To: s, Reason: reason, Actor: state.MasterActor}
	}
	wasLost := live.lost
	if live.health.Eligible(now, l.fleet.elected) {
		live.lost = time.Time{}
	} else if live.lost.IsZero() {
		live.lost = now
	}
	returned := !wasLost.IsZero() && live.lost.IsZero() && now.Sub(wasLost) > relayLost && live.health.Consul != ""
	if returned && (r.State == masterapi.RelayState_RELAY_STATE_ACTIVE || r.State == masterapi.RelayState_RELAY_STATE_DEGRADED) {
		return to(masterapi.RelayState_RELAY_STATE_PROBATION, "healthy again")
	}
	switch choose.Judge(l.m.cfg.Relays, state.RelayWord(r.State), now.Sub(r.Since.Time()), live.record()) {
	case choose.Promote:
		return to(masterapi.RelayState_RELAY_STATE_ACTIVE, "its circuits work")
	case choose.Degrade:
		return to(masterapi.RelayState_RELAY_STATE_DEGRADED, "overloaded or too many circuits fail")
	case choose.Recover:
		return to(masterapi.RelayState_RELAY_STATE_ACTIVE, "recovered")
	default:
		return nil
	}
}

// lookAfterDrains moves viewers off relays that are leaving or lost, and marks machines that are empty.
func (l *leader) lookAfterDrains(ctx context.Context) {
	now := l.m.cfg.Now()
	leave := map[string]masterapi.Reason{}
	for _, r := range l.m.relays() {
		circuits := 0
		l.m.read(func(s *state.State) { circuits = s.CircuitsOn(r.ID) })
		switch {
		case r.State == masterapi.RelayState_RELAY_STATE_DRAINING && circuits == 0:
			l.later(&state.SetRelayState{ID: r.ID, To: masterapi.RelayState_RELAY_STATE_DRAINED, Reason: "empty", Actor: r.Actor})
		case circuits == 0:
		case !r.Takes():
			leave[r.ID] = masterapi.Reason_REASON_DRAINING
		case l.relayIsLost(r.ID, now):
			leave[r.ID] = masterapi.Reason_REASON_RELAY_LOST
		}
	}
	if len(leave) > 0 {
		l.moveOff(ctx, leave, now)
	}
	l.emptyHosts()
}

func (l *leader) relayIsLost(id string, now time.Time) bool {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	live := l.fleet.relays[id]
	if live == nil || live.lost.IsZero() || now.Sub(live.lost) < relayLost || !l.fleet.settled() {
		return false
	}
	// A relay that only lost its link still serves, and one that only turned critical may be overloaded: it is lost when both are so.
	status, _ := live.health.Status(now)
	silent := live.link == nil || now.Sub(live.heard) > relaySilent
	return status == health.Critical && silent
}

func (l *leader) emptyHosts() {
	var empty []*state.Host
	l.m.read(func(s *state.State) {
		for h := range s.Hosts() {
			if h.State == masterapi.HostStateWord_HOST_STATE_DRAINING && s.SlotsUsed(h.ID) == 0 {
				empty = append(empty, h)
			}
		}
	})
	for _, h := range empty {
		l.later(&state.SetHostState{ID: h.ID, To: masterapi.HostStateWord_HOST_STATE_DRAINED, Reason: "empty", Actor: h.Actor})
	}
}

// moveOff moves viewers whose newest lease is on one of the relays.
func (l *leader) moveOff(ctx context.Context, leave map[string]masterapi.Reason, now time.Time) {
	var todo []*state.Lease
	l.m.read(func(s *state.State) {
		for lease := range s.Leases() {
			if _, off := leave[lease.Relay]; off && lease.Live() && newest(s, lease) {
				todo = append(todo, lease)
			}
		}
	})
	for _, lease := range l.claimMoves(todo, now) {
		l.jobs.Go(func() error {
			l.moveOne(ctx, lease, leave[lease.Relay])
			return nil
		})
	}
}

// claimMoves picks those that are not being moved already, up to moverWidth.
func (l *leader) claimMoves(todo []*state.Lease, now time.Time) []*state.Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	var claimed []*state.Lease
	for _, lease := range todo {
		if since, busy := l.moving[lease.ID]; len(claimed) < moverWidth && (!busy || now.Sub(since) >= moveAgain) {
			l.moving[lease.ID] = now
			claimed = append(claimed, lease)
		}
	}
	return claimed
}

func (l *leader) moveOne(ctx context.Context, lease *state.Lease, reason masterapi.Reason) {
	ctx, cancel := context.WithTimeout(ctx, admitTimeout)
	defer cancel()
	request := moveRequest{id: strings.Join([]string{"move", lease.ID, newID()}, "-"), exclude: []string{lease.Relay}, reason: reason, relayNeeded: true}
	if _, err := l.move(ctx, lease, request); err != nil {
		l.log.Warn("viewer could not be moved", "session_id", lease.Session, "lease_id", lease.ID, "relay_id", lease.Relay, "cause", err)
	}
}
