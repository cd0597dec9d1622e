package main

import (
	"context"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// portalDevice injects by org.freedesktop.portal.RemoteDesktop. Positions are in the stream's logical size.
type portalDevice struct {
	cast  *portal.Cast
	wheel mutterWheel
}

func (d *portalDevice) key(code uint32, down bool) error {
	if d.cast.Devices&portal.DeviceKeyboard == 0 {
		return errNoDevice
	}
	return d.cast.Notify("NotifyKeyboardKeycode", int32(code), pressed(down))
}

func (d *portalDevice) pointer(method string, args ...any) error {
	if d.cast.Devices&portal.DevicePointer == 0 {
		return errNoDevice
	}
	return d.cast.Notify(method, args...)
}

func (d *portalDevice) button(code uint32, down bool) error {
	return d.pointer("NotifyPointerButton", int32(code), pressed(down))
}

func (d *portalDevice) move(dx, dy float64) error { return d.pointer("NotifyPointerMotion", dx, dy) }

func (d *portalDevice) moveTo(x, y float64) error {
	px, py := d.point(x, y)
	return d.pointer("NotifyPointerMotionAbsolute", d.cast.Node, px, py)
}

func (d *portalDevice) point(x, y float64) (float64, float64) {
	return x * float64(max(d.cast.Width-1, 0)), y * float64(max(d.cast.Height-1, 0))
}

// scroll does as mutterDevice does; GNOME is behind most portals that take input.
func (d *portalDevice) scroll(s *pluginpb.Scroll) error {
	return d.wheel.turn(s, func(axis uint32, steps int32) error {
		return d.pointer("NotifyPointerAxisDiscrete", axis, steps)
	}, func(dx, dy float64) error {
		return d.pointer("NotifyPointerAxis", dx, dy)
	})
}

func (d *portalDevice) touch(id uint32, phase pluginpb.Touch_Phase, x, y float64) error {
	if d.cast.Devices&portal.DeviceTouch == 0 {
		return errNoDevice
	}
	px, py := d.point(x, y)
	switch phase {
	case pluginpb.Touch_DOWN:
		return d.cast.Notify("NotifyTouchDown", d.cast.Node, id, px, py)
	case pluginpb.Touch_MOVE:
		return d.cast.Notify("NotifyTouchMotion", d.cast.Node, id, px, py)
	}
	return d.cast.Notify("NotifyTouchUp", id)
}

// flush has nothing to do: a message that was sent is in the bus's hands.
func (d *portalDevice) flush(context.Context) error { return nil }
