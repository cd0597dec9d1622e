package main

import (
	"testing"

	"github.com/wavry/fleet/plugins/internal/capture"
)

// TestChooseMonitor proves: the one asked for, else the primary, else any that is lit.
func TestChooseMonitor(t *testing.T) {
	states := []monitorState{{Spec: monitorSpec{Connector: "A"}}, {Spec: monitorSpec{Connector: "B"}}, {Spec: monitorSpec{Connector: "dark"}}}
	lit := func(primary bool, connector string) logicalMonitor {
		return logicalMonitor{Primary: primary, Monitors: []monitorSpec{{Connector: connector}}}
	}
	tests := []struct {
		name    string
		logical []logicalMonitor
		wish    string
		want    string
	}{
		{"primary", []logicalMonitor{lit(false, "A"), lit(true, "B")}, "", "B"},
		{"asked for", []logicalMonitor{lit(false, "A"), lit(true, "B")}, "A", "A"},
		{"unknown name", []logicalMonitor{lit(false, "A"), lit(true, "B")}, "C", "B"},
		{"dark", []logicalMonitor{lit(true, "A")}, "dark", "A"},
		{"no primary", []logicalMonitor{lit(false, "A"), lit(false, "B")}, "", "A"},
		{"none", nil, "", ""},
		{"stale", []logicalMonitor{lit(true, "gone")}, "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, _ := chooseMonitor(states, test.logical, test.wish)
			if (got == nil) != (test.want == "") || (got != nil && got.Spec.Connector != test.want) {
				t.Errorf("chose %v, want %q", got, test.want)
			}
		})
	}
}

// TestNearestMode proves that size counts before rate.
func TestNearestMode(t *testing.T) {
	modes := []monitorMode{
		{ID: "hd60", Width: 1280, Height: 720, Refresh: 60}, {ID: "fhd30", Width: 1920, Height: 1080, Refresh: 30}, {ID: "fhd60", Width: 1920, Height: 1080, Refresh: 60},
	}
	for wish, want := range map[capture.Size]string{{Width: 1300, Height: 700}: "hd60", {Width: 1900, Height: 1100}: "fhd60", {Width: 9000, Height: 9000}: "fhd60"} {
		if got := nearestMode(modes, wish); got.ID != want {
			t.Errorf("for %v %s, want %s", wish, got.ID, want)
		}
	}
}

// TestMutterScale proves that a monitor gets the scale it has that comes nearest.
func TestMutterScale(t *testing.T) {
	m := monitorMode{Scales: []float64{1, 1.25, 1.5, 2}}
	for wish, want := range map[float64]float64{0: 1, 1: 1, 2: 2, 3: 2, 1.3: 1.25, 0.5: 1} {
		if got := m.scale(wish); got != want {
			t.Errorf("scale(%v) = %v, want %v", wish, got, want)
		}
	}
}

// TestScaled proves that both edges of the output are on it.
func TestScaled(t *testing.T) {
	size := capture.Size{Width: 100, Height: 50}
	for _, test := range [][4]float64{{0, 0, 0, 0}, {1, 1, 99, 49}, {0.5, 0.5, 50, 25}} {
		if x, y := scaled(test[0], test[1], size); x != test[2] || y != test[3] {
			t.Errorf("scaled(%v, %v) = %v, %v", test[0], test[1], x, y)
		}
	}
}

// TestOwnMonitor proves when a session may bring a monitor of its own, and which one that is among those that sessions left or have.
func TestOwnMonitor(t *testing.T) {
	state := func(connector, product string) monitorState {
		return monitorState{Spec: monitorSpec{Connector: connector, Product: product}}
	}
	headless, real := state("Meta-0", headlessProduct), state("DP-1", "DELL")
	left, own := state("Meta-1", streamProduct), state("Meta-2", streamProduct)
	for name, test := range map[string]struct {
		before  []monitorState
		virtual bool
		after   []monitorState
		want    string
	}{
		"headless":            {[]monitorState{headless}, true, []monitorState{headless, own}, "Meta-2"},
		"no encoder yet":      {[]monitorState{headless}, true, []monitorState{headless}, ""},
		"another is still on": {[]monitorState{headless, left}, true, []monitorState{headless, left, own}, "Meta-2"},
		"somebody's monitor":  {[]monitorState{real}, false, []monitorState{real}, ""},
		"one of both":         {[]monitorState{headless, real}, false, []monitorState{headless, real}, ""},
		"none":                {nil, false, nil, ""},
	} {
		before, after := monitors{states: test.before}, monitors{states: test.after}
		if got := before.virtual(); got != test.virtual {
			t.Errorf("%s: virtual %v", name, got)
		}
		if got := after.newcomer(before.connectors()); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
