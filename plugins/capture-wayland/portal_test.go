package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// diary is a device that writes down what it is told.
type diary struct {
	lines   []string
	noTouch bool
	broken  error
}

func (d *diary) write(format string, args ...any) error {
	if d.broken == nil {
		d.lines = append(d.lines, fmt.Sprintf(format, args...))
	}
	return d.broken
}

func (d *diary) key(code uint32, down bool) error    { return d.write("key %d %v", code, down) }
func (d *diary) button(code uint32, down bool) error { return d.write("button %d %v", code, down) }
func (d *diary) moveTo(x, y float64) error           { return d.write("to %v %v", x, y) }
func (d *diary) move(dx, dy float64) error           { return d.write("by %v %v", dx, dy) }
func (d *diary) scroll(s *pluginpb.Scroll) error     { return d.write("scroll %v", s.Y) }
func (d *diary) flush(context.Context) error         { return d.broken }

func (d *diary) touch(id uint32, phase pluginpb.Touch_Phase, _, _ float64) error {
	if d.noTouch {
		return errNoDevice
	}
	return d.write("touch %d %v", id, phase)
}

func keyOf(code uint32, down bool) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: code, Down: down}}}
}

func touchOf(id uint32, phase pluginpb.Touch_Phase) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Touch{Touch: &pluginpb.Touch{Id: id, Phase: phase}}}
}

func absolute(x, y float64) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionAbsolute{MotionAbsolute: &pluginpb.MotionAbsolute{X: x, Y: y}}}
}

var releaseAll = &pluginpb.InputEvent{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}}

// TestInjectorLetsGo proves that ReleaseAll releases exactly what is held.
func TestInjectorLetsGo(t *testing.T) {
	d := &diary{}
	i := newInjector(d)
	events := []*pluginpb.InputEvent{
		keyOf(30, true), keyOf(30, false), keyOf(42, true), touchOf(1, pluginpb.Touch_DOWN), touchOf(2, pluginpb.Touch_DOWN),
		touchOf(1, pluginpb.Touch_UP), releaseAll, releaseAll,
	}
	rejected, err := i.inject(t.Context(), events)
	want := []string{"key 30 true", "key 30 false", "key 42 true", "touch 1 DOWN", "touch 2 DOWN", "touch 1 UP", "key 42 false", "touch 2 UP"}
	if err != nil || rejected.Count != 0 || !slices.Equal(d.lines, want) {
		t.Errorf("got %q, %v, %v\nwant %q", d.lines, rejected, err, want)
	}
}

// TestInjectorRejects proves that what a device lacks is counted and does not stop the rest, while a broken connection does.
func TestInjectorRejects(t *testing.T) {
	d := &diary{noTouch: true}
	i := newInjector(d)
	rejected, err := i.inject(t.Context(), []*pluginpb.InputEvent{touchOf(1, pluginpb.Touch_DOWN), {}, keyOf(30, true)})
	if err != nil || rejected.Count != 2 || rejected.Reason == "" || !slices.Equal(d.lines, []string{"key 30 true"}) {
		t.Errorf("%q, %v, %v", d.lines, rejected, err)
	}
	d.broken = errors.New("gone")
	if _, err := i.inject(t.Context(), []*pluginpb.InputEvent{keyOf(31, true)}); !errors.Is(err, d.broken) {
		t.Errorf("error %v", err)
	}
}

// TestInjectorKeepsThePointerOnTheOutput proves that coordinates from outside, and none at all, are harmless.
func TestInjectorKeepsThePointerOnTheOutput(t *testing.T) {
	d := &diary{}
	_, err := newInjector(d).inject(t.Context(), []*pluginpb.InputEvent{absolute(-1, 2), absolute(math.NaN(), math.Inf(1)), absolute(0.25, 1)})
	if want := []string{"to 0 1", "to 0 1", "to 0.25 1"}; err != nil || !slices.Equal(d.lines, want) {
		t.Errorf("%q, %v", d.lines, err)
	}
}

// TestPortalDevices proves when the portal is asked for input, which may raise a dialog.
func TestPortalDevices(t *testing.T) {
	all := portal.DeviceKeyboard | portal.DevicePointer | portal.DeviceTouch
	tests := []struct {
		name    string
		remote  uint32
		options map[string]string
		want    uint32
	}{
		{"restorable", 2, nil, all},
		{"asks each time", 1, nil, 0},
		{"the operator wants the dialog", 1, map[string]string{"portal_input": "ask"}, all},
		{"the operator wants none", 2, map[string]string{"portal_input": "no"}, 0},
		{"no backend", 0, map[string]string{"portal_input": "ask"}, 0},
		{"we answer for the human, which covers the picture only", 2, map[string]string{"portal_preauthorize": "yes"}, 0},
	}
	t.Setenv("WAVRY_DESKTOP_KIND", "")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := &portalMethod{}
			if got := m.devices(portalVersions{4, test.remote}, &pluginpb.StartCaptureRequest{Options: test.options}); got != test.want {
				t.Errorf("devices %d, want %d", got, test.want)
			}
		})
	}
}
