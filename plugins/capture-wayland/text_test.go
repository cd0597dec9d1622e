package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// The same turn is the same distance, whatever parts it comes in: clicks for whole notches, and a smooth way for all else.
func TestWheelAxis(t *testing.T) {
	for name, c := range map[string]struct {
		units  []int32
		clicks int32
		smooth int32
	}{
		"a notch":             {[]int32{120}, 1, 0},
		"three at once":       {[]int32{-360}, -3, 0},
		"halves":              {[]int32{60, 60}, 0, 120},
		"a fine wheel":        {[]int32{15, 15, 15, 15, 15, 15, 15, 15}, 0, 120},
		"a whole one within":  {[]int32{60, 120, 60}, 0, 240},
		"whole after halves":  {[]int32{60, 60, 120}, 1, 120},
		"to and fro":          {[]int32{60, -60, 120}, 1, 0},
		"far beyond a notch":  {[]int32{1 << 30, 1 << 30}, 0, -1 << 31}, // no overflow of the part
		"a touchpad's pieces": {[]int32{7, 7, 7, -21, -120}, -1, 0},
	} {
		var w wheelAxis
		var clicks, smooth int32
		for _, u := range c.units {
			k, s := w.turn(u)
			clicks, smooth = clicks+k, smooth+s
		}
		if clicks != c.clicks || smooth != c.smooth || w.part <= -notchUnits || w.part >= notchUnits {
			t.Errorf("%s: %d clicks and %d units (part %d), want %d and %d", name, clicks, smooth, w.part, c.clicks, c.smooth)
		}
	}
}

// Mutter's clicks and distances add up to what was turned, on both axes.
func TestMutterWheel(t *testing.T) {
	var w mutterWheel
	var got []string
	turn := func(x, y int32) {
		err := w.turn(&pluginpb.Scroll{X: x, Y: y},
			func(axis uint32, steps int32) error {
				got = append(got, fmt.Sprintf("click %d %d", axis, steps))
				return nil
			},
			func(dx, dy float64) error { got = append(got, fmt.Sprintf("smooth %v %v", dx, dy)); return nil })
		if err != nil {
			t.Error(err)
		}
	}
	turn(0, 120)
	turn(0, 60)
	turn(0, 60)
	turn(-240, 0)
	turn(120, 12)
	if want := []string{"click 0 1", "smooth 0 5", "smooth 0 5", "click 1 -2", "click 1 1", "smooth 0 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A desktop that knows only lock keys gets them pressed when a lock is not as wished, and only then. A lock whose state nobody knows is
// taken to be as it is wished first.
func TestLocks(t *testing.T) {
	all := uint32(lockCaps | lockNum | lockScroll)
	for name, c := range map[string]struct {
		learn  func(*locks)
		wishes []*pluginpb.Locks
		want   [][]uint32
	}{
		"caps":                         {nil, []*pluginpb.Locks{{Known: lockCaps, On: lockCaps}, {Known: lockCaps, On: lockCaps}, {Known: lockCaps}}, [][]uint32{{keyCapsLock}, nil, {keyCapsLock}}},
		"num and scroll are not known": {nil, []*pluginpb.Locks{{Known: all, On: lockNum}, {Known: all, On: lockScroll}}, [][]uint32{nil, {keyNumLock, keyScrollLock}}},
		"what is not known stays":      {nil, []*pluginpb.Locks{{Known: lockCaps, On: all}, {Known: lockCaps, On: lockNum}}, [][]uint32{{keyCapsLock}, {keyCapsLock}}},
		"the compositor says": {func(l *locks) { l.learn(lockCaps|lockNum, lockCaps) },
			[]*pluginpb.Locks{{Known: all, On: lockCaps | lockNum}, {Known: all}}, [][]uint32{{keyNumLock}, {keyCapsLock, keyNumLock}}},
	} {
		l := newLocks()
		if c.learn != nil {
			c.learn(&l)
		}
		for i, w := range c.wishes {
			if got := l.wish(w); !slices.Equal(got, c.want[i]) {
				t.Errorf("%s, wish %d: keys %v, want %v", name, i, got, c.want[i])
			}
		}
	}
}

// lockedDiary is a desktop whose Caps Lock somebody else locked.
type lockedDiary struct{ diary }

func (*lockedDiary) readLocks() (known, on uint32) { return lockCaps, lockCaps }

// Where the compositor says what holds, that is believed, but not while it may not have seen our own key yet.
func TestInjectorReadsLocks(t *testing.T) {
	d := &lockedDiary{}
	i := newInjector(d)
	for _, w := range []*pluginpb.InputEvent{locksEvent(lockCaps, lockCaps), locksEvent(lockCaps, 0), locksEvent(lockCaps, 0)} {
		if _, err := i.inject(t.Context(), []*pluginpb.InputEvent{w}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"key 58 true", "key 58 false"}; !slices.Equal(d.lines, want) {
		t.Errorf("%q, want %q", d.lines, want)
	}
}

// A text becomes the strokes of the layout, every line end one Enter, and what no key has is named with the reason.
func TestInjectorTypes(t *testing.T) {
	d := &diary{}
	i := newInjector(d)
	rejected, err := i.inject(t.Context(), []*pluginpb.InputEvent{textEvent("aB\r\né€!😀"), locksEvent(lockCaps, lockCaps)})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split("key 30 true,key 30 false,key 42 true,key 48 true,key 48 false,key 42 false,key 28 true,key 28 false,"+
		"key 42 true,key 2 true,key 2 false,key 42 false,key 58 true,key 58 false", ",")
	if !slices.Equal(d.lines, want) {
		t.Errorf("%q, want %q", d.lines, want)
	}
	if rejected.Untyped != "é€😀" || rejected.UntypedReason == "" || rejected.Count != 0 {
		t.Errorf("%+v", rejected)
	}
}

// Every character of the us layout is there once, with the key that has it.
func TestUSStrokes(t *testing.T) {
	s := usStrokes()
	for c := ' '; c <= '~'; c++ {
		if _, ok := s[c]; !ok {
			t.Errorf("no stroke for %q", c)
		}
	}
	for c, want := range map[rune]stroke{'z': {code: 44}, 'Y': {code: 21, shift: true}, '?': {code: 53, shift: true}, '\\': {code: 43}, '~': {code: 41, shift: true}} {
		if s[c] != want {
			t.Errorf("%q: %+v, want %+v", c, s[c], want)
		}
	}
}

// A keymap of text has a key for each character once, as many as X11 knows; the rest wait for the next one.
func TestTextKeymap(t *testing.T) {
	text, has := textKeymap([]rune("é\n\té😀"))
	for _, want := range []string{"<WVT24> = 24;", "key <WVT24> { [ U00E9 ] };", "key <WVT25> { [ Return ] };", "key <WVT26> { [ Tab ] };", "key <WVT27> { [ U1F600 ] };"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if len(has) != 4 || has['😀'] != 27-evdevOffset {
		t.Errorf("has %v", has)
	}
	var many []rune
	for c := rune(0x4e00); len(many) < 1000; c++ {
		many = append(many, c)
	}
	if _, has := textKeymap(many); len(has) != textKeys {
		t.Errorf("%d keys", len(has))
	}
}
