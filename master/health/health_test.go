package health

import (
	"testing"
	"time"
)

// TestEligible proves the rules of the package comment, one by one.
func TestEligible(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	long := start.Add(time.Hour)
	for name, c := range map[string]struct {
		prepare func(*Machine)
		now     time.Time
		elected time.Time
		want    bool
	}{
		"never seen":              {func(*Machine) {}, long, start, false},
		"linked, no consul":       {func(m *Machine) { m.SetLink(true, start) }, long, start, true},
		"link lost, no consul":    {func(m *Machine) { m.SetLink(true, start); m.SetLink(false, long) }, long, start, false},
		"passing and linked":      {func(m *Machine) { m.SetLink(true, start); m.Listed(Passing, start) }, long, start, true},
		"warning and linked":      {func(m *Machine) { m.SetLink(true, start); m.Listed(Warning, start) }, long, start, true},
		"critical though linked":  {func(m *Machine) { m.SetLink(true, start); m.Listed(Critical, start) }, long, start, false},
		"passing, link lost":      {func(m *Machine) { m.Listed(Passing, start) }, long, start, false},
		"passing, fresh leader":   {func(m *Machine) { m.Listed(Passing, start) }, long, long.Add(-LinkGrace + 1), true},
		"passing, leader settled": {func(m *Machine) { m.Listed(Passing, start) }, long, long.Add(-LinkGrace), false},
		"emptied, linked": {func(m *Machine) { m.SetLink(true, start); m.Listed(Passing, start); m.Vanished(long) },
			long.Add(AbsentGrace), start, true},
		"emptied for too long": {func(m *Machine) {
			m.SetLink(true, start)
			m.Listed(Passing, start)
			m.Vanished(long)
			m.Vanished(long.Add(time.Second))
		},
			long.Add(AbsentGrace + 1), start, false},
		"left": {func(m *Machine) { m.Listed(Passing, start); m.Vanished(long) }, long, long, false},
		"came back": {func(m *Machine) {
			m.SetLink(true, start)
			m.Listed(Passing, start)
			m.Vanished(start)
			m.Listed(Passing, long)
		}, long, start, true},
	} {
		m := Machine{}
		c.prepare(&m)
		if got := m.Eligible(c.now, c.elected); got != c.want {
			s, source := m.Status(c.now)
			t.Errorf("%s: %v (%s by %s)", name, got, s, source)
		}
	}
}
