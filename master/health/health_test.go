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
		"never seen":               {func(*Machine) {}, long, start, false},
		"linked, no consul":        {func(m *Machine) { m.SetLink(true, start) }, long, start, true},
		"link lost, no consul":     {func(m *Machine) { m.SetLink(true, start); m.SetLink(false, long) }, long, start, false},
		"passing and linked":       {func(m *Machine) { m.SetLink(true, start); m.Listed(Passing, start) }, long, start, true},
		"warning and linked":       {func(m *Machine) { m.SetLink(true, start); m.Listed(Warning, start) }, long, start, true},
		"critical though linked":   {func(m *Machine) { m.SetLink(true, start); m.Listed(Critical, start) }, long, start, false},
		"unusable by its own word": {func(m *Machine) { m.SetLink(true, start); m.Listed(Passing, start); m.Unusable = true }, long, start, false},
		"unusable, no consul":      {func(m *Machine) { m.SetLink(true, start); m.Unusable = true }, long, start, false},
		"passing, link lost":       {func(m *Machine) { m.Listed(Passing, start) }, long, start, false},
		"passing, fresh leader":    {func(m *Machine) { m.Listed(Passing, start) }, long, long.Add(-LinkGrace + 1), true},
		"passing, leader settled":  {func(m *Machine) { m.Listed(Passing, start) }, long, long.Add(-LinkGrace), false},
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

// A machine is gone only when neither catalog nor link knows it, and counts from the later of the two.
func TestGoneFor(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		do   func(*Machine)
		want time.Duration
	}{
		"passing":             {func(m *Machine) { m.Listed(Passing, start) }, 0},
		"critical but linked": {func(m *Machine) { m.SetLink(true, start); m.Listed(Critical, start) }, 0},
		"never in a catalog":  {func(m *Machine) { m.SetLink(true, start); m.SetLink(false, start) }, 0},
		"critical, then unlinked": {func(m *Machine) {
			m.SetLink(true, start)
			m.Listed(Critical, start)
			m.SetLink(false, start.Add(time.Second))
		}, 9 * time.Second},
		"unlinked, then critical": {func(m *Machine) {
			m.SetLink(true, start)
			m.Listed(Passing, start)
			m.SetLink(false, start)
			m.Listed(Critical, start.Add(2*time.Second))
		}, 8 * time.Second},
	} {
		var m Machine
		c.do(&m)
		if got := m.GoneFor(start.Add(10 * time.Second)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
