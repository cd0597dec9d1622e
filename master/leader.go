package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/catalog"
	"github.com/wavry/fleet/master/expire"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/state"
)

// leader is everything that exists only while this server leads: timers, links, health, watchers. It is made at an election, learns the rest from
// the state and from hellos, and is thrown away when the leadership is lost.
type leader struct {
	m     *Master
	ctx   context.Context
	log   *slog.Logger
	term  uint64
	inbox *inbox
	fleet *fleet
	hub   *eventHub
	jobs  *errgroup.Group // reports that are being written to Raft

	mu      sync.Mutex // guards the following
	timers  *expire.Queue
	revoked map[string]state.Millis // lease ids that must be refused, until when
	moving  map[string]time.Time    // leases whose viewers are being moved, since when
}

func newLeader(ctx context.Context, m *Master, term uint64) *leader {
	l := &leader{
		m: m, ctx: ctx, log: m.log, term: term, inbox: newInbox(), fleet: newFleet(m.cfg.Now(), m.cfg.Now), hub: newEventHub(),
		jobs: new(errgroup.Group), timers: expire.New(), revoked: map[string]state.Millis{}, moving: map[string]time.Time{},
	}
	l.jobs.SetLimit(background)
	return l
}

// lead runs until the leadership is lost (nil) or ctx ends (nil). The server answers for the cluster once it has applied everything its predecessors
// committed.
func (m *Master) lead(ctx context.Context) error {
	l := newLeader(ctx, m, m.term())
	m.inbox.Store(l.inbox)
	defer m.inbox.Store(nil)
	if err := m.node.Barrier(10 * time.Second); err != nil {
		m.log.Warn("leadership ended before it began", "cause", err)
		return nil
	}
	l.rebuild()
	m.leader.Store(l)
	m.metrics.leader.Set(1)
	m.log.Info("leading", "term", l.term, "leases", l.timers.Len())
	defer func() {
		m.leader.Store(nil)
		m.metrics.leader.Set(0)
		_ = l.jobs.Wait() // jobs report their own errors and never return one
		m.log.Info("leading no more", "term", l.term)
	}()
	group, ctx := errgroup.WithContext(ctx)
	l.ctx = ctx
	group.Go(func() error { return l.follow(ctx) })
	group.Go(func() error { return l.expireLoop(ctx) })
	group.Go(func() error { return l.keepHouse(ctx) })
	group.Go(func() error { return l.autopilot(ctx) })
	if c := m.cfg.Catalog; c != nil {
		for _, service := range []string{catalog.ServiceRelay, catalog.ServiceHost} {
			group.Go(func() error { return c.Watch(ctx, service, l.catalogUpdate(service)) })
		}
	}
	err := group.Wait()
	if ctx.Err() != nil || errors.Is(err, errDeposed) {
		return nil
	}
	return err
}

// rebuild makes timers and tables from the state.
func (l *leader) rebuild() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timers, l.revoked = expire.New(), map[string]state.Millis{}
	l.m.read(func(s *state.State) {
		for lease := range s.Leases() {
			l.noteLocked(lease)
		}
		l.fleet.load(s)
	})
}

// noteLocked keeps timers and revocations in step with one lease.
func (l *leader) noteLocked(lease *state.Lease) {
	if lease.Live() {
		l.timers.Set(lease.ID, int64(lease.Expiry.Add(expiryGrace)))
		return
	}
	l.timers.Remove(lease.ID)
	delete(l.moving, lease.ID)
	// Leases of a revoked key need no entry: the key leaves the key set.
	if lease.State == masterapi.LeaseState_LEASE_STATE_REVOKED && lease.Reason != masterapi.Reason_REASON_KEY_REVOKED {
		l.revoked[lease.ID] = lease.Expiry.Add(2 * tokenSkew)
	}
}

// follow reacts to what was applied.
func (l *leader) follow(ctx context.Context) error {
	l.endBanned() // of bans that a predecessor did not get round to
	for _, c := range l.m.farewell(ctx, l) {
		l.later(c)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.inbox.signal:
			events, restored := l.inbox.take()
			if restored {
				l.restored()
			}
			l.react(events)
		}
	}
}

// restored cuts every link: after a restore nothing that was said before holds, and hellos say it anew.
func (l *leader) restored() {
	l.rebuild()
	l.m.keys.forget(func(string) bool { return false })
	for _, h := range l.hostLinks() {
		h.end(errors.New("the state was restored from a snapshot"))
	}
	for _, r := range l.relayLinks() {
		r.end(errors.New("the state was restored from a snapshot"))
	}
}

func (l *leader) react(events []state.Event) {
	keys, bans, revoked := false, false, false
	for _, e := range events {
		switch e.Kind {
		case state.EventLease:
			l.note(e.Lease)
		case state.EventLeaseEnded:
			revoked = l.leaseEnded(e.Lease) || revoked
		case state.EventSessionEnded:
			l.sessionEnded(e.Session)
		case state.EventRelay:
			l.relayChanged(e.Relay)
		case state.EventHost:
			l.hostChanged(e.Host)
		case state.EventKeys:
			keys = true
		case state.EventBans:
			bans = true
		case state.EventSessionPool:
			l.hub.publish(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_POOL, SessionId: e.Session.ID, Pool: e.Session.Pool})
		}
	}
	if keys {
		l.publishKeys()
	}
	if revoked {
		l.publishRevocations()
	}
	if bans {
		l.publishBans()
		l.endBanned()
	}
}

func (l *leader) note(lease *state.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(lease)
}

// leaseEnded tells the host and, when the session goes on, the gateways. It reports whether the list of revocations changed.
func (l *leader) leaseEnded(lease *state.Lease) bool {
	l.note(lease)
	l.m.metrics.ended.WithLabelValues(lease.Reason.Slug()).Inc()
	session, others := l.m.otherLeases(lease)
	if session == nil || !session.Live() {
		return revocation(lease) // sessionEnded says it
	}
	l.sendHost(lease.Host, &masterapi.HostCommand{Command: &masterapi.HostCommand_EndLease{EndLease: &masterapi.EndLease{
		LeaseId: lease.ID, SessionId: lease.Session, ViewerId: lease.Viewer, Reason: lease.Reason,
	}}})
	if !others {
		l.hub.publish(&masterapi.SessionEvent{
			Kind: masterapi.SessionEvent_KIND_VIEWER_REMOVED, SessionId: lease.Session, ViewerId: lease.Viewer, LeaseId: lease.ID, Reason: lease.Reason,
		})
	}
	return revocation(lease)
}

func revocation(lease *state.Lease) bool {
	return lease.State == masterapi.LeaseState_LEASE_STATE_REVOKED && lease.Reason != masterapi.Reason_REASON_KEY_REVOKED
}

func (l *leader) sessionEnded(session *state.Session) {
	l.log.Info("session ended", "session_id", session.ID, "host_id", session.Host, "cause", session.Reason.Slug())
	l.sendHost(session.Host, &masterapi.HostCommand{Command: &masterapi.HostCommand_End{End: &masterapi.EndHostSession{
		SessionId: session.ID, Reason: session.Reason, Message: session.Message,
	}}})
	l.hub.publish(&masterapi.SessionEvent{Kind: masterapi.SessionEvent_KIND_ENDED, SessionId: session.ID, Reason: session.Reason, Message: session.Message})
	l.fleet.mu.Lock()
	l.fleet.wakeLocked() // a slot is free
	l.fleet.mu.Unlock()
}

func (l *leader) relayChanged(r *state.Relay) {
	known := false
	l.m.read(func(s *state.State) {
		if now := s.Relay(r.ID); now != nil {
			r, known = now, true
		}
	})
	l.fleet.relayChanged(r, known)
	link := l.relayLink(r.ID)
	if !known || link == nil {
		return
	}
	if r.Takes() {
		link.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Activate{Activate: &masterapi.ActivateCommand{State: state.RelayWord(r.State)}}})
		return
	}
	link.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Drain{Drain: &masterapi.DrainCommand{Reason: state.RelayWord(r.State) + ": " + r.Reason}}})
}

func (l *leader) hostChanged(h *state.Host) {
	known := false
	l.m.read(func(s *state.State) {
		if now := s.Host(h.ID); now != nil {
			h, known = now, true
		}
	})
	l.fleet.hostChanged(h, known)
	if !known {
		return
	}
	if h.State == masterapi.HostStateWord_HOST_STATE_PENDING {
		l.endOnForbidden(h)
	}
	if h.State == masterapi.HostStateWord_HOST_STATE_ACTIVE {
		l.sendHost(h.ID, &masterapi.HostCommand{Command: &masterapi.HostCommand_Activate{Activate: &masterapi.ActivateCommand{State: state.HostWord(h.State)}}})
		return
	}
	l.sendHost(h.ID, &masterapi.HostCommand{Command: &masterapi.HostCommand_Drain{Drain: &masterapi.DrainCommand{Reason: h.Reason}}})
}

// endOnForbidden ends the sessions of a host that may not offer any more what it offers: its right to show desktops has ended.
func (l *leader) endOnForbidden(h *state.Host) {
	var sessions []string
	l.m.read(func(s *state.State) { sessions = s.SessionsOn(h.ID) })
	for _, id := range sessions {
		l.later(outOfService(id))
	}
}

// outOfService ends a session whose host has lost its right to run it. People are offered another desktop.
func outOfService(session string) *state.EndSession {
	return &state.EndSession{ID: session, Reason: masterapi.Reason_REASON_HOST_DRAINED, Message: "The machine that ran this desktop may not offer it any more."}
}

func (l *leader) publishKeys() {
	var set *masterapi.KeySet
	signing := map[string]bool{}
	l.m.read(func(s *state.State) {
		set = keySetMessage(s)
		for _, k := range s.Keys() {
			signing[k.ID] = k.State == masterapi.KeyState_KEY_STATE_SIGNING || k.State == masterapi.KeyState_KEY_STATE_NEXT
		}
	})
	l.m.keys.forget(func(id string) bool { return signing[id] })
	l.log.Info("key set published", "version", set.GetVersion(), "keys", len(set.GetKeys()))
	for _, h := range l.hostLinks() {
		h.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_KeySet{KeySet: set}})
	}
	for _, r := range l.relayLinks() {
		r.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_KeySet{KeySet: set}})
	}
}

func (l *leader) publishRevocations() {
	list := l.revocations()
	for _, h := range l.hostLinks() {
		h.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_Revocations{Revocations: list}})
	}
	for _, r := range l.relayLinks() {
		r.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Revocations{Revocations: list}})
	}
}

// revocations is the present list, without what no token can be valid for any more.
func (l *leader) revocations() *masterapi.Revocations {
	now := state.At(l.m.cfg.Now())
	list := &masterapi.Revocations{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, until := range l.revoked {
		if until < now {
			delete(l.revoked, id)
			continue
		}
		list.LeaseIds = append(list.LeaseIds, id)
	}
	return list
}

func (l *leader) publishBans() {
	list := l.banList(false)
	for _, r := range l.relayLinks() {
		r.send(&masterapi.RelayCommand{Command: &masterapi.RelayCommand_Bans{Bans: list}})
	}
}

// endBanned ends what the banned have: the session of one who controls it, the lease of one who watches.
func (l *leader) endBanned() {
	var commands []state.Command
	l.m.read(func(s *state.State) {
		now := state.At(l.m.cfg.Now())
		if len(s.Bans(now)) == 0 {
			return
		}
		for lease := range s.Leases() {
			if !lease.Live() {
				continue
			}
			if b := s.Banned(lease.Login, lease.Address, now); b != nil {
				commands = append(commands, endOfBanned(lease, b))
			}
		}
	})
	for _, c := range commands {
		l.later(c)
	}
}

func endOfBanned(lease *state.Lease, b *state.Ban) state.Command {
	if lease.Role == masterapi.ViewerRole_VIEWER_ROLE_CONTROL {
		return &state.EndSession{ID: lease.Session, Reason: masterapi.Reason_REASON_BANNED, Message: short("banned: " + b.Reason)}
	}
	return &state.EndLease{ID: lease.ID, State: masterapi.LeaseState_LEASE_STATE_REVOKED, Reason: masterapi.Reason_REASON_BANNED}
}

// banList are the bans of people, and for operators also the revoked credentials of services.
func (l *leader) banList(revocations bool) *masterapi.BanList {
	list := &masterapi.BanList{}
	l.m.read(func(s *state.State) {
		for _, b := range s.Bans(state.At(l.m.cfg.Now())) {
			if revocations || !forRevocation(b.Kind) {
				list.Bans = append(list.Bans, banMessage(b))
			}
		}
	})
	return list
}

// sendHost sends to a host that is linked; one that is not learns everything from its next hello.
func (l *leader) sendHost(id string, command *masterapi.HostCommand) {
	if link := l.hostLink(id); link != nil {
		link.send(command)
	}
}

func (l *leader) hostLink(id string) *hostLink {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	if h := l.fleet.hosts[id]; h != nil {
		return h.link
	}
	return nil
}

func (l *leader) relayLink(id string) *relayLink {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	if r := l.fleet.relays[id]; r != nil {
		return r.link
	}
	return nil
}

func (l *leader) hostLinks() []*hostLink {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	var list []*hostLink
	for _, h := range l.fleet.hosts {
		if h.link != nil {
			list = append(list, h.link)
		}
	}
	return list
}

func (l *leader) relayLinks() []*relayLink {
	l.fleet.mu.RLock()
	defer l.fleet.mu.RUnlock()
	var list []*relayLink
	for _, r := range l.fleet.relays {
		if r.link != nil {
			list = append(list, r.link)
		}
	}
	return list
}

func (l *leader) catalogUpdate(service string) func(catalog.Update) {
	var was error
	return func(u catalog.Update) {
		if (u.Err != nil) != (was != nil) {
			if u.Err != nil {
				l.log.Warn("catalog unreachable: last known health is used", "service", service, "err", u.Err)
			} else {
				l.log.Info("catalog reachable again", "service", service)
			}
		}
		was = u.Err
		l.fleet.observe(service, u)
	}
}

// propose commits a command for the leader itself.
func (l *leader) propose(ctx context.Context, command state.Command) (state.Result, error) {
	r, err := l.m.node.Propose(ctx, command)
	if err != nil {
		return r, fmt.Errorf("commit %T: %w", command, err)
	}
	return r, r.Err()
}

// later commits a command in the background; a failure is logged, and whoever caused it repeats it in its own time. It blocks when too many wait.
func (l *leader) later(command state.Command) {
	l.jobs.Go(func() error {
		if _, err := l.propose(l.ctx, command); err != nil && l.ctx.Err() == nil {
			l.log.Debug("background command", "command", fmt.Sprintf("%T", command), "err", err)
		}
		return nil
	})
}
