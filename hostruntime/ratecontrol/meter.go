package ratecontrol

import "time"

const (
	// meterWindow is what the received rate is measured over: long enough for a keyframe not to look like a fast path.
	meterWindow = 500 * time.Millisecond
	// meterSize bounds the units remembered: 144 Hz for the window and slack.
	meterSize = 128
)

// meter measures the received rate over the last meterWindow of viewer time.
type meter struct {
	at    [meterSize]time.Duration
	size  [meterSize]int
	n     int
	first int
}

func (m *meter) add(at time.Duration, size int) {
	if m.n-m.first == meterSize {
		m.first++
	}
	m.at[m.n%meterSize], m.size[m.n%meterSize] = at, size
	m.n++
	for m.first < m.n && at-m.at[m.first%meterSize] > meterWindow {
		m.first++
	}
}

// rate is in bits per second, 0 while too little is known.
func (m *meter) rate() float64 {
	if m.n-m.first < 2 {
		return 0
	}
	span := m.at[(m.n-1)%meterSize] - m.at[m.first%meterSize]
	if span < meterWindow/2 {
		return 0
	}
	bytes := 0
	for i := m.first + 1; i < m.n; i++ { // the first unit's bytes belong to the time before it
		bytes += m.size[i%meterSize]
	}
	return float64(bytes*8) / span.Seconds()
}
