package state

import (
	"github.com/wavry/fleet/master/masterapi"
)

// State is everything the cluster agrees on.
type State struct {
	now Millis // of the latest command; never goes back

	relays   map[string]*Relay
	hosts    map[string]*Host
	sessions map[string]*Session
	leases   map[string]*Lease
	keys     []*Key // oldest first
	keySet   uint64 // version of the published set; grows with each change of it
	bans     map[banKey]*Ban
	audit    []AuditEntry // oldest first
	ended    []string     // ids of ended leases that are remembered, oldest first

	// The following is derived from the above and is not in snapshots.
	onHost  map[string][]string // live sessions of each host
	onRelay map[string]int      // live circuits of each relay
	byKey   map[string]int      // live leases signed by each key
	live    int                 // live leases

	index  uint64 // of the entry being applied, for the audit
	events []Event
}

type banKey struct {
	kind    masterapi.Ban_Kind
	subject string
}

// New returns the empty state.
func New() *State {
	return &State{
		relays: map[string]*Relay{}, hosts: map[string]*Host{}, sessions: map[string]*Session{}, leases: map[string]*Lease{},
		bans: map[banKey]*Ban{}, onHost: map[string][]string{}, onRelay: map[string]int{}, byKey: map[string]int{},
	}
}

// EventKind is what an Event is about.
type EventKind uint8

// The closed set of event kinds.
const (
	EventLease        EventKind = iota + 1 // a lease was issued, renewed or progressed
	EventLeaseEnded                        // Lease
	EventSessionEnded                      // Session
	EventRelay                             // Relay was added or changed
	EventHost                              // Host was added or changed
	EventKeys                              // the key set or a key's state changed
	EventBans
	EventSessionPool // Session's host, and it with it, has another pool
)

// Event says what an entry changed, for the leader's timers and links. Records in it are immutable.
type Event struct {
	Kind    EventKind
	Lease   *Lease
	Session *Session
	Relay   *Relay
	Host    *Host
}

func (s *State) emit(e Event) { s.events = append(s.events, e) }

// TakeEvents returns the events since the last call.
func (s *State) TakeEvents() []Event {
	e := s.events
	s.events = nil
	return e
}

func (s *State) record(actor, action, subject, detail string) {
	if len(s.audit) >= maxAudit {
		s.audit = append([]AuditEntry(nil), s.audit[maxAudit/10:]...)
	}
	s.audit = append(s.audit, AuditEntry{Time: s.now, Index: s.index, Actor: actor, Action: action, Subject: subject, Detail: detail})
}

// addLive indexes a live lease.
func (s *State) addLive(l *Lease) {
	s.live++
	s.byKey[l.Key]++
	if l.Relay != "" {
		s.onRelay[l.Relay]++
	}
}

func (s *State) removeLive(l *Lease) {
	s.live--
	decrement(s.byKey, l.Key)
	if l.Relay != "" {
		decrement(s.onRelay, l.Relay)
	}
}

func decrement(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// endLease ends a live lease and, when it was the last one, its session.
func (s *State) endLease(l *Lease, state masterapi.LeaseState, reason masterapi.Reason) (ended *Lease, sessionEnded bool) {
	n := *l
	n.State, n.Reason, n.Ended = state, reason, s.now
	s.leases[n.ID] = &n
	s.removeLive(l)
	s.ended = append(s.ended, n.ID)
	s.emit(Event{Kind: EventLeaseEnded, Lease: &n})
	session := s.sessions[n.Session]
	if session == nil || !session.Live() || s.hasLiveLease(session) {
		return &n, false
	}
	s.closeSession(session, reason, "")
	return &n, true
}

func (s *State) hasLiveLease(session *Session) bool {
	for _, id := range session.Leases {
		if l := s.leases[id]; l != nil && l.Live() {
			return true
		}
	}
	return false
}

// closeSession frees the host slot; the session has no live lease any more.
func (s *State) closeSession(session *Session, reason masterapi.Reason, message string) {
	n := *session
	n.Ended, n.Reason, n.Message = s.now, reason, message
	s.sessions[n.ID] = &n
	s.vacate(n.Host, n.ID)
	s.emit(Event{Kind: EventSessionEnded, Session: &n})
}

func (s *State) vacate(host, session string) {
	list := s.onHost[host]
	for i, id := range list {
		if id == session {
			list[i] = list[len(list)-1]
			s.onHost[host] = list[:len(list)-1]
			break
		}
	}
	if len(s.onHost[host]) == 0 {
		delete(s.onHost, host)
	}
}

// forget drops ended leases that are too old or too many, and each session with its last lease.
func (s *State) forget() {
	drop := 0
	for drop < len(s.ended) {
		l := s.leases[s.ended[drop]]
		if len(s.ended)-drop <= maxEnded && s.now < l.Ended.Add(RememberFor) {
			break
		}
		s.dropLease(l)
		drop++
	}
	if drop == 0 {
		return
	}
	s.ended = s.ended[drop:]
	if cap(s.ended) > 2*len(s.ended)+1024 {
		s.ended = append(make([]string, 0, len(s.ended)), s.ended...)
	}
}

func (s *State) dropLease(l *Lease) {
	delete(s.leases, l.ID)
	session := s.sessions[l.Session]
	if session == nil {
		return
	}
	n := *session
	n.Leases = make([]string, 0, len(session.Leases))
	for _, id := range session.Leases {
		if id != l.ID {
			n.Leases = append(n.Leases, id)
		}
	}
	if len(n.Leases) == 0 && !n.Live() {
		delete(s.sessions, n.ID)
		return
	}
	s.sessions[n.ID] = &n
}
