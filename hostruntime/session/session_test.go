package session

import (
	"testing"

	"github.com/wavry/fleet/hostruntime/ratecontrol"
)

// The encoder is told what matters: the first target, another frame rate, and a bitrate that moved by more than a few percent.
func TestWorthAdjusting(t *testing.T) {
	told := ratecontrol.Target{Bitrate: 1_000_000, FPS: 60}
	for _, c := range []struct {
		name   string
		told   ratecontrol.Target
		wanted ratecontrol.Target
		want   bool
	}{
		{"first", ratecontrol.Target{}, told, true},
		{"same", told, told, false},
		{"a little more", told, ratecontrol.Target{Bitrate: 1_030_000, FPS: 60}, false},
		{"a little less", told, ratecontrol.Target{Bitrate: 970_000, FPS: 60}, false},
		{"more", told, ratecontrol.Target{Bitrate: 1_030_001, FPS: 60}, true},
		{"less", told, ratecontrol.Target{Bitrate: 969_999, FPS: 60}, true},
		{"frame rate", told, ratecontrol.Target{Bitrate: 1_000_000, FPS: 30}, true},
	} {
		if got := worthAdjusting(c.told, c.wanted); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A rate that rises slowly is followed in steps, not at every tick.
func TestAdjustmentsAreFew(t *testing.T) {
	var told ratecontrol.Target
	calls := 0
	for rate := 6_000_000.0; rate < 12_000_000; rate *= 1.004 { // 8 % per second at 20 ticks per second
		if wanted := (ratecontrol.Target{Bitrate: int(rate), FPS: 60}); worthAdjusting(told, wanted) {
			told = wanted
			calls++
		}
	}
	if calls > 25 || told.Bitrate < 11_600_000 {
		t.Errorf("%d calls, last with %d bit/s", calls, told.Bitrate)
	}
}
