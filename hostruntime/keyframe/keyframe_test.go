package keyframe

import (
	"testing"
	"time"
)

// At most one request per round trip goes out, and an early one is not forgotten.
func TestOnePerRoundTrip(t *testing.T) {
	var l Limiter
	const rtt = 200 * time.Millisecond
	if !l.Ask(0, rtt) {
		t.Fatal("first request held back")
	}
	if l.Ask(rtt-1, rtt) {
		t.Fatal("second request within a round trip")
	}
	if !l.Due(rtt, rtt) {
		t.Fatal("early request forgotten")
	}
	if l.Due(3*rtt, rtt) {
		t.Fatal("one request asked twice")
	}
}

// The interval never falls below MinInterval nor rises above maxInterval.
func TestIntervalBounds(t *testing.T) {
	for _, c := range []struct{ rtt, want time.Duration }{
		{0, MinInterval}, {MinInterval - 1, MinInterval}, {MinInterval + 1, MinInterval + 1}, {time.Minute, maxInterval},
	} {
		var l Limiter
		l.Ask(0, c.rtt)
		if l.Ask(c.want-1, c.rtt) || !l.Due(c.want, c.rtt) {
			t.Errorf("rtt %v: interval is not %v", c.rtt, c.want)
		}
	}
}

// A keyframe that came on its own satisfies who was waiting.
func TestSeenCancels(t *testing.T) {
	var l Limiter
	l.Ask(0, 0)
	l.Ask(1, 0)
	l.Seen()
	if l.Due(time.Hour, 0) {
		t.Fatal("asked although a keyframe came")
	}
}
