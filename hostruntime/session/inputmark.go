package session

import "github.com/wavry/fleet/hostruntime/media"

// markSize is how many inputs are remembered: pictures are at most a second late, and mice report 125 times a second after
// coalescing.
const markSize = 256

// inputMark remembers when inputs were applied, to say which of them a picture can show. It is pure.
type inputMark struct {
	ids [markSize]uint32
	at  [markSize]media.Time
	n   int
}

// applied records an input; times never go back.
func (m *inputMark) applied(id uint32, at media.Time) {
	m.ids[m.n%markSize], m.at[m.n%markSize] = id, at
	m.n++
}

// before returns the id of the last input applied at or before t; 0: none that is remembered.
func (m *inputMark) before(t media.Time) uint32 {
	for i := m.n - 1; i >= 0 && i >= m.n-markSize; i-- {
		if m.at[i%markSize] <= t {
			return m.ids[i%markSize]
		}
	}
	return 0
}
