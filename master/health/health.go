// Package health turns what Consul says and what the links show into one answer per machine: may it get a new lease. It is pure: time is an argument.
//
// Consul decides while it can be asked. While it cannot, its last word holds and is marked stale. A machine that Consul no longer lists keeps
// its last word for a while as long as its link stands: an emptied catalog must not empty the fleet. A machine Consul never listed is
// judged by its link alone, which is how one process without Consul works.
package health

import "time"

// Status is Consul's word, or the link's.
type Status string

// The closed set of statuses.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
	Unknown  Status = "unknown"
)

const (
	// AbsentGrace is how long a machine that vanished from the catalog keeps its last status while it is linked: registration comes back within seconds.
	AbsentGrace = 60 * time.Second
	// LinkGrace is how long after an election a machine that Consul calls passing needs no link: links come back with backoff of up to 2 s.
	LinkGrace = 5 * time.Second
)

// Machine is the health of one relay or host. The zero value is unknown.
type Machine struct {
	Consul  Status    // last word; empty: never listed
	Since   time.Time // of that word
	Absent  time.Time // since when the catalog does not list it; zero: listed
	Linked  bool
	Changed time.Time // last change of Linked
	// Unusable is the machine's own word over its link that it can serve nobody; it counts while the link stands.
	Unusable bool
}

// Listed notes what the catalog says at now.
func (m *Machine) Listed(s Status, now time.Time) {
	if m.Consul != s || !m.Absent.IsZero() {
		m.Since = now
	}
	m.Consul, m.Absent = s, time.Time{}
}

// Vanished notes that the catalog answered at now and did not list the machine.
func (m *Machine) Vanished(now time.Time) {
	if m.Consul != "" && m.Absent.IsZero() {
		m.Absent = now
	}
}

// SetLink notes that the link came or went.
func (m *Machine) SetLink(up bool, now time.Time) {
	if m.Linked != up {
		m.Linked, m.Changed = up, now
	}
}

// Status is the one answer and where it comes from.
func (m *Machine) Status(now time.Time) (s Status, source string) {
	if m.Linked && m.Unusable {
		return Critical, "link"
	}
	if m.Consul == "" || m.Consul == Unknown {
		if m.Linked {
			return Passing, "link"
		}
		if m.Changed.IsZero() {
			return Unknown, "link"
		}
		return Critical, "link"
	}
	if !m.Absent.IsZero() && (!m.Linked || now.Sub(m.Absent) > AbsentGrace) {
		return Critical, "consul"
	}
	return m.Consul, "consul"
}

// Eligible reports whether the machine may get a new lease at now from a leader elected at elected.
func (m *Machine) Eligible(now, elected time.Time) bool {
	s, _ := m.Status(now)
	if s != Passing && s != Warning {
		return false
	}
	return m.Linked || now.Sub(elected) < LinkGrace
}

// GoneFor is how long the machine has been both unlinked and critical in the catalog at now; 0 when it is not, or was never in one.
func (m *Machine) GoneFor(now time.Time) time.Duration {
	s, source := m.Status(now)
	if m.Linked || s != Critical || source != "consul" {
		return 0
	}
	since := m.Since
	for _, t := range []time.Time{m.Absent, m.Changed} {
		if t.After(since) {
			since = t
		}
	}
	return now.Sub(since)
}
