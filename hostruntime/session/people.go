package session

import (
	"slices"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// nameOf is what is known of a viewer's name from any of its leases.
func (s *Session) nameOf(viewer string) string {
	for _, r := range s.rights {
		if r.viewer == viewer && r.name != "" {
			return r.name
		}
	}
	return ""
}

// tellPeople tells every viewer who else is connected, when that has changed. Nobody is watched without knowing it: a viewer that joins
// is announced before the first picture goes to it.
func (s *Session) tellPeople() {
	for v := range s.viewers {
		if now := s.othersOf(v); !slices.Equal(now, v.told) {
			v.told = now
			v.send(&streamwire.People{Others: now})
		}
	}
}

// othersOf are the other viewers in the order in which they came, each once however many connections it has.
func (s *Session) othersOf(v *viewer) (people []streamwire.Person) {
	first := map[string]*viewer{}
	for other := range s.viewers {
		if known := first[other.id()]; !other.leaving && other.id() != v.id() && (known == nil || other.order < known.order) {
			first[other.id()] = other
		}
	}
	others := make([]*viewer, 0, len(first))
	for _, other := range first {
		others = append(others, other)
	}
	slices.SortFunc(others, func(a, b *viewer) int { return int(a.order) - int(b.order) })
	for _, other := range others {
		people = append(people, streamwire.Person{Role: other.wireRole(), Name: other.name})
	}
	return people
}
