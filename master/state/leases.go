package state

import (
	"strings"

	"github.com/wavry/fleet/master/masterapi"
)

// IssueLease gives one viewer a lease, on a new session or on a running one. It is idempotent by Lease.ID, which the leader derives from the request.
type IssueLease struct {
	// Lease says everything but its times of end. Circuit is a random number: two equal ones on one relay are as likely as a guessed key.
	Lease Lease
	// Pool is set for a new session and empty for a further viewer.
	Pool string
	// Replace ends the leases of whoever controls the session now.
	Replace bool
}

func (*IssueLease) kind() kind { return kindIssueLease }

func (i *IssueLease) fields(c *codec) {
	i.Lease.fields(c)
	c.str(&i.Pool)
	c.flag(&i.Replace)
}

func (i *IssueLease) apply(s *State) Result {
	if old := s.leases[i.Lease.ID]; old != nil {
		return i.again(old)
	}
	if b := s.Banned(i.Lease.Login, i.Lease.Address, s.now); b != nil {
		return refuse(masterapi.Reason_REASON_BANNED, "%s: %s", b.Subject, b.Reason)
	}
	if k := s.SigningKey(); k == nil || k.ID != i.Lease.Key {
		return refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "key %s does not sign now", i.Lease.Key)
	}
	if r := i.checkRelay(s); r.Refused != 0 {
		return r
	}
	if i.Pool != "" {
		return i.newSession(s)
	}
	return i.furtherViewer(s)
}

// again answers a retry.
func (i *IssueLease) again(old *Lease) Result {
	switch {
	case old.Login != i.Lease.Login || old.Role != i.Lease.Role || old.Session != i.Lease.Session || old.ViewerKey != i.Lease.ViewerKey:
		return refuse(masterapi.Reason_REASON_REQUEST_CONFLICT, "lease %s", old.ID)
	case !old.Live():
		return refuse(masterapi.Reason_REASON_LEASE_ENDED, "lease %s: %s", old.ID, old.Reason.Slug())
	default:
		return Result{Lease: old}
	}
}

func (i *IssueLease) checkRelay(s *State) Result {
	if i.Lease.Relay == "" {
		return Result{}
	}
	r := s.relays[i.Lease.Relay]
	switch {
	case r == nil:
		return refuse(masterapi.Reason_REASON_NO_RELAY, "relay %s is unknown", i.Lease.Relay)
	case !r.Takes():
		return refuse(masterapi.Reason_REASON_NO_RELAY, "relay %s is %s", r.ID, RelayWord(r.State))
	case s.onRelay[r.ID] >= int(r.Capacity):
		return refuse(masterapi.Reason_REASON_NO_RELAY, "relay %s is full", r.ID)
	default:
		return Result{}
	}
}

func (i *IssueLease) newSession(s *State) Result {
	h := s.hosts[i.Lease.Host]
	switch {
	case h == nil:
		return refuse(masterapi.Reason_REASON_NO_FREE_HOST, "host %s is unknown", i.Lease.Host)
	case h.State != hostActive || h.Pool != i.Pool:
		return refuse(masterapi.Reason_REASON_NO_FREE_HOST, "host %s is %s in pool %s", h.ID, HostWord(h.State), h.Pool)
	case s.RevokedHost(h) != nil:
		return refuse(masterapi.Reason_REASON_NO_FREE_HOST, "host %s is revoked", h.ID)
	case len(s.onHost[h.ID]) >= int(h.Slots):
		return refuse(masterapi.Reason_REASON_NO_FREE_HOST, "host %s has no free slot", h.ID)
	case s.sessions[i.Lease.Session] != nil:
		return refuse(masterapi.Reason_REASON_REQUEST_CONFLICT, "session %s exists", i.Lease.Session)
	}
	l := i.put(s, h)
	s.sessions[l.Session] = &Session{
		ID: l.Session, Login: l.Login, Pool: h.Pool, Region: h.Region, Host: h.ID, Created: s.now, Leases: []string{l.ID},
	}
	s.onHost[h.ID] = append(s.onHost[h.ID], l.Session)
	return Result{Changed: true, Lease: l}
}

func (i *IssueLease) furtherViewer(s *State) Result {
	session := s.sessions[i.Lease.Session]
	if session == nil {
		return refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, "session %s", i.Lease.Session)
	}
	if !session.Live() {
		return refuse(masterapi.Reason_REASON_SESSION_ENDED, "session %s: %s", session.ID, session.Reason.Slug())
	}
	if len(session.Leases) >= maxSessionLeases {
		return refuse(masterapi.Reason_REASON_BUSY, "session %s has %d leases, at most %d", session.ID, len(session.Leases), maxSessionLeases)
	}
	if i.Lease.Role == masterapi.ViewerRole_VIEWER_ROLE_CONTROL {
		if r := i.takeControl(s, session); r.Refused != 0 {
			return r
		}
	}
	i.Lease.Host = session.Host
	l := i.put(s, s.hosts[session.Host])
	n := *session
	n.Leases = append(append(make([]string, 0, len(session.Leases)+1), session.Leases...), l.ID)
	s.sessions[n.ID] = &n
	// The controllers that make room go last, so that the session never is without a live lease.
	if i.Replace {
		i.dismiss(s, &n)
	}
	return Result{Changed: true, Lease: l}
}

// takeControl refuses when another viewer controls the session and is not to be replaced.
func (i *IssueLease) takeControl(s *State, session *Session) Result {
	if other := i.otherController(s, session); other != nil && !i.Replace {
		return refuse(masterapi.Reason_REASON_SESSION_HAS_CONTROLLER, "viewer %s", other.Viewer)
	}
	return Result{}
}

func (i *IssueLease) otherController(s *State, session *Session) *Lease {
	for _, l := range s.LiveLeases(session) {
		if l.Role == masterapi.ViewerRole_VIEWER_ROLE_CONTROL && l.Viewer != i.Lease.Viewer {
			return l
		}
	}
	return nil
}

func (i *IssueLease) dismiss(s *State, session *Session) {
	for _, l := range s.LiveLeases(session) {
		if l.Role == masterapi.ViewerRole_VIEWER_ROLE_CONTROL && l.Viewer != i.Lease.Viewer {
			s.endLease(l, masterapi.LeaseState_LEASE_STATE_RELEASED, masterapi.Reason_REASON_MOVED)
		}
	}
}

// put stores the lease, with the strings that other tables have already.
func (i *IssueLease) put(s *State, h *Host) *Lease {
	l := i.Lease
	l.own()
	l.State, l.Issued, l.Ended, l.Renewals, l.Reason = masterapi.LeaseState_LEASE_STATE_ISSUED, s.now, 0, 0, 0
	l.Key = s.SigningKey().ID
	if h != nil {
		l.Host, l.Region = h.ID, h.Region
	} else {
		l.Host, l.Region = strings.Clone(l.Host), strings.Clone(l.Region)
	}
	if r := s.relays[l.Relay]; r != nil {
		l.Relay = r.ID
	}
	s.leases[l.ID] = &l
	s.addLive(&l)
	s.emit(Event{Kind: EventLease, Lease: &l})
	return &l
}

// RenewLease prolongs a live lease until Expiry under the key that signs now.
type RenewLease struct {
	ID, Key string
	Expiry  Millis
}

func (*RenewLease) kind() kind { return kindRenewLease }

func (r *RenewLease) fields(c *codec) {
	c.str(&r.ID)
	c.str(&r.Key)
	num(c, &r.Expiry)
}

func (r *RenewLease) apply(s *State) Result {
	l, refused := s.liveLease(r.ID)
	if l == nil {
		return refused
	}
	k := s.SigningKey()
	if k == nil || k.ID != r.Key {
		return refuse(masterapi.Reason_REASON_NO_SIGNING_KEY, "key %s does not sign now", r.Key)
	}
	n := *l
	s.removeLive(l)
	n.Expiry, n.Key, n.Renewals = max(l.Expiry, r.Expiry), k.ID, l.Renewals+1
	s.addLive(&n)
	s.leases[n.ID] = &n
	s.emit(Event{Kind: EventLease, Lease: &n})
	return Result{Changed: true, Lease: &n}
}

// liveLease returns the lease, or nil and why not.
func (s *State) liveLease(id string) (*Lease, Result) {
	l := s.leases[id]
	if l == nil {
		return nil, refuse(masterapi.Reason_REASON_LEASE_UNKNOWN, "lease %s", id)
	}
	if !l.Live() {
		return nil, refuse(masterapi.Reason_REASON_LEASE_ENDED, "lease %s: %s", id, l.Reason.Slug())
	}
	return l, Result{}
}

// EndLease releases or revokes one lease. Ending an ended lease succeeds.
type EndLease struct {
	ID     string
	State  masterapi.LeaseState // released or revoked
	Reason masterapi.Reason
	Actor  string // set for an administrative act, which is audited
	Detail string
}

func (*EndLease) kind() kind { return kindEndLease }

func (e *EndLease) fields(c *codec) {
	c.str(&e.ID)
	num(c, &e.State)
	num(c, &e.Reason)
	c.str(&e.Actor)
	c.str(&e.Detail)
}

func (e *EndLease) apply(s *State) Result {
	l := s.leases[e.ID]
	if l == nil {
		return refuse(masterapi.Reason_REASON_LEASE_UNKNOWN, "lease %s", e.ID)
	}
	if !l.Live() {
		return Result{Lease: l}
	}
	if e.Actor != "" {
		s.record(e.Actor, "lease "+strings.ToLower(strings.TrimPrefix(e.State.String(), "LEASE_STATE_")), l.ID, strings.Clone(e.Detail))
	}
	n, ended := s.endLease(l, e.State, e.Reason)
	return Result{Changed: true, Lease: n, SessionEnded: ended}
}

// ExpireLeases ends those of the leases whose expiry is not after Before. The leader's timers only propose: a renewal that came first wins.
type ExpireLeases struct {
	Before Millis
	IDs    []string
}

func (*ExpireLeases) kind() kind { return kindExpireLeases }

func (e *ExpireLeases) fields(c *codec) {
	num(c, &e.Before)
	list(c, &e.IDs, maxBatch, (*codec).str)
}

func (e *ExpireLeases) apply(s *State) Result {
	changed := false
	for _, id := range e.IDs {
		if l := s.leases[id]; l != nil && l.Live() && l.Expiry <= e.Before {
			s.endLease(l, masterapi.LeaseState_LEASE_STATE_EXPIRED, masterapi.Reason_REASON_LEASE_EXPIRED)
			changed = true
		}
	}
	return Result{Changed: changed}
}

// ProgressLease moves a live lease forward: issued, presented, active. It never moves it back.
type ProgressLease struct {
	ID    string
	State masterapi.LeaseState
}

func (*ProgressLease) kind() kind { return kindProgressLease }

func (p *ProgressLease) fields(c *codec) {
	c.str(&p.ID)
	num(c, &p.State)
}

func (p *ProgressLease) apply(s *State) Result {
	l, refused := s.liveLease(p.ID)
	if l == nil {
		return refused
	}
	if p.State <= l.State || p.State > masterapi.LeaseState_LEASE_STATE_ACTIVE {
		return Result{Lease: l}
	}
	n := *l
	n.State = p.State
	s.leases[n.ID] = &n
	s.emit(Event{Kind: EventLease, Lease: &n})
	return Result{Changed: true, Lease: &n}
}

// EndSession ends a session with all its leases. Ending an ended session succeeds.
type EndSession struct {
	ID      string
	Reason  masterapi.Reason
	Message string
	Actor   string // set for an administrative act, which is audited
}

func (*EndSession) kind() kind { return kindEndSession }

func (e *EndSession) fields(c *codec) {
	c.str(&e.ID)
	num(c, &e.Reason)
	c.str(&e.Message)
	c.str(&e.Actor)
}

func (e *EndSession) apply(s *State) Result {
	session := s.sessions[e.ID]
	if session == nil {
		return refuse(masterapi.Reason_REASON_SESSION_UNKNOWN, "session %s", e.ID)
	}
	if !session.Live() {
		return Result{}
	}
	if e.Actor != "" {
		s.record(strings.Clone(e.Actor), "session end", session.ID, e.Reason.Slug()+": "+e.Message)
	}
	for _, l := range s.LiveLeases(session) {
		s.endLease(l, masterapi.LeaseState_LEASE_STATE_RELEASED, e.Reason)
	}
	if n := s.sessions[e.ID]; n != nil && !n.Live() && e.Message != "" {
		m := *n
		m.Message = strings.Clone(e.Message)
		s.sessions[e.ID] = &m
		s.replaceEnded(&m)
	}
	return Result{Changed: true, SessionEnded: true}
}

// replaceEnded puts the message into the event that closeSession emitted without it.
func (s *State) replaceEnded(session *Session) {
	for i := range s.events {
		if s.events[i].Kind == EventSessionEnded && s.events[i].Session.ID == session.ID {
			s.events[i].Session = session
		}
	}
}
