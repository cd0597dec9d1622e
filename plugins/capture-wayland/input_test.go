package main

import (
	"math"
	"strings"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Modifiers follow the keys: both shifts must be up, locks toggle when pressed, the right Alt key is what the layout says.
func TestModifiers(t *testing.T) {
	type step struct {
		code    uint32
		down    bool
		changed bool
		held    uint32
		locked  uint32
	}
	for name, c := range map[string]struct {
		altGr bool
		steps []step
	}{
		"two shifts": {false, []step{
			{keyLeftShift, true, true, modShift, modNum}, {keyRightShift, true, true, modShift, modNum},
			{keyLeftShift, false, true, modShift, modNum}, {keyRightShift, false, true, 0, modNum},
		}},
		"locks": {false, []step{
			{keyCapsLock, true, true, 0, modNum | modLock}, {keyCapsLock, false, false, 0, modNum | modLock},
			{keyNumLock, true, true, 0, modLock}, {keyNumLock, false, false, 0, modLock}, {keyCapsLock, true, true, 0, 0},
		}},
		"chord": {false, []step{
			{keyLeftCtrl, true, true, modControl, modNum}, {keyLeftAlt, true, true, modControl | modAlt, modNum},
			{keyRightMeta, true, true, modControl | modAlt | modSuper, modNum}, {30, true, false, modControl | modAlt | modSuper, modNum},
		}},
		"right alt":  {false, []step{{keyRightAlt, true, true, modAlt, modNum}}},
		"AltGr":      {true, []step{{keyRightAlt, true, true, modLevel3, modNum}, {keyRightAlt, false, true, 0, modNum}}},
		"plain keys": {false, []step{{30, true, false, 0, modNum}, {30, false, false, 0, modNum}}},
	} {
		m := newModifiers(c.altGr)
		for i, s := range c.steps {
			if got := m.key(s.code, s.down); got != s.changed || m.depressed() != s.held || m.locked != s.locked {
				t.Errorf("%s, step %d: changed %v, held %#x, locked %#x; want %+v", name, i, got, m.depressed(), m.locked, s)
			}
		}
	}
}

// Only the first finger counts, from its DOWN to its UP or CANCEL.
func TestTouchPointer(t *testing.T) {
	var p touchPointer
	for i, s := range []struct {
		id               uint32
		phase            pluginpb.Touch_Phase
		move, button, ok bool
	}{
		{1, pluginpb.Touch_MOVE, false, false, false},
		{1, pluginpb.Touch_DOWN, true, true, true},
		{2, pluginpb.Touch_DOWN, false, false, false},
		{1, pluginpb.Touch_MOVE, true, true, true},
		{2, pluginpb.Touch_UP, false, false, false},
		{1, pluginpb.Touch_CANCEL, false, false, true},
		{2, pluginpb.Touch_MOVE, false, false, false},
		{2, pluginpb.Touch_DOWN, true, true, true},
		{2, pluginpb.Touch_UP, true, false, true},
	} {
		if move, button, ok := p.take(&pluginpb.Touch{Id: s.id, Phase: s.phase}); move != s.move || button != s.button || ok != s.ok {
			t.Errorf("step %d: %v %v %v", i, move, button, ok)
		}
	}
}

// Layout names cannot become keymap text of their own.
func TestLayoutNames(t *testing.T) {
	for _, good := range []string{"", "us", "de", "de(nodeadkeys)", "us(altgr-intl)", "in(tam_tamilnet)", "de,us", "us,de(neo),fr,ru"} {
		if err := checkLayouts(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{`us"`, "us de", "../us", "us(", "us()", "US", strings.Repeat("a", 40), "us+de", "us\n", "us,", ",", "a,b,c,d,e", "us, de"} {
		if checkLayouts(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// The layouts that a session's environment names become groups of the keymap, each with its variant.
func TestSessionLayouts(t *testing.T) {
	for _, c := range []struct{ layouts, variants, want, symbols string }{
		{"de", "", "de", "pc+de+inet(evdev)"},
		{"de", "nodeadkeys", "de(nodeadkeys)", "pc+de(nodeadkeys)+inet(evdev)"},
		{"us,de,ru", ",neo", "us,de(neo),ru", "pc+us+de(neo):2+ru:3+inet(evdev)"},
	} {
		got := layoutsOf(c.layouts, c.variants)
		if got != c.want || checkLayouts(got) != nil {
			t.Errorf("layoutsOf(%q, %q) = %q, want %q", c.layouts, c.variants, got, c.want)
		}
		if !strings.Contains(keymapText(got), `"`+c.symbols+`"`) {
			t.Errorf("keymap %s, want symbols %s", keymapText(got), c.symbols)
		}
	}
	if got := layoutsOf("", "neo"); got != "" {
		t.Errorf("a variant of nothing is %q", got)
	}
}

func TestHasAltGr(t *testing.T) {
	for text, want := range map[string]bool{
		"key <RALT> { type= \"ONE_LEVEL\", symbols[Group1]= [ ISO_Level3_Shift ] };": true,
		"key <RALT> { [ Alt_R, Meta_R ] }; key <LVL3> { [ ISO_Level3_Shift ] };":     false,
		keymapText("de"): false,
		"":               false,
	} {
		if got := hasAltGr(text); got != want {
			t.Errorf("hasAltGr(%q) = %v", text, got)
		}
	}
}

// Absolute motion never leaves the output.
func TestExtent(t *testing.T) {
	for v, want := range map[float64]uint32{0: 0, 1: pointerExtent, -3: 0, 7: pointerExtent, 0.25: pointerExtent / 4, math.Inf(1): pointerExtent} {
		if got := extent(v); got != want {
			t.Errorf("extent(%v) = %d, want %d", v, got, want)
		}
	}
	if extent(math.NaN()) != 0 {
		t.Error("NaN is somewhere")
	}
}
