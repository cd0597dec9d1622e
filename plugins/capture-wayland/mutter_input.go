package main

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// mutterDevice injects by org.gnome.Mutter.RemoteDesktop.Session. Calls expect no reply: the bus keeps their order, and a round
// trip would wait for a frame of the compositor each time.
type mutterDevice struct {
	session *mutterSession
	wheel   mutterWheel
	size    func() capture.Size
}

func (d *mutterDevice) notify(method string, args ...any) error {
	return d.session.bus.Object(remoteDesktop, d.session.desktop).
		Go(remoteDesktop+".Session."+method, dbus.FlagNoReplyExpected, nil, args...).Err
}

// wake makes Mutter create the virtual pointer and keyboard, which it does with their first event: a program learns of a seat's new
// device only then, and would miss what is sent at once. The key is one that no layout maps; its release alone would be
// ignored.
func (d *mutterDevice) wake() error {
	const keyUnknown = 240
	if err := d.move(0, 0); err != nil {
		return err
	}
	return errors.Join(d.key(keyUnknown, true), d.key(keyUnknown, false))
}

func (d *mutterDevice) key(code uint32, down bool) error {
	return d.notify("NotifyKeyboardKeycode", code, down)
}

// readLocks asks Mutter. What it does not say stays as it is believed.
func (d *mutterDevice) readLocks() (known, on uint32) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	for name, lock := range map[string]uint32{"CapsLockState": lockCaps, "NumLockState": lockNum} {
		var locked bool
		if d.session.bus.Property(ctx, remoteDesktop, d.session.desktop, remoteDesktop+".Session", name, &locked) != nil {
			continue
		}
		known |= lock
		if locked {
			on |= lock
		}
	}
	return known, on
}

func (d *mutterDevice) button(code uint32, down bool) error {
	return d.notify("NotifyPointerButton", int32(code), down)
}

func (d *mutterDevice) move(dx, dy float64) error {
	return d.notify("NotifyPointerMotionRelative", dx, dy)
}

func (d *mutterDevice) moveTo(x, y float64) error {
	px, py := d.pixels(x, y)
	return d.notify("NotifyPointerMotionAbsolute", string(d.session.stream), px, py)
}

// pixels are of the stream, and its last ones are still inside.
func (d *mutterDevice) pixels(x, y float64) (float64, float64) { return scaled(x, y, d.size()) }

func scaled(x, y float64, size capture.Size) (float64, float64) {
	return min(x*float64(size.Width), float64(size.Width-1)), min(y*float64(size.Height), float64(size.Height-1))
}

// The axes of NotifyPointerAxisDiscrete, and the flag of NotifyPointerAxis that says "a wheel".
const (
	axisVertical    = uint32(0)
	axisHorizontal  = uint32(1)
	axisSourceWheel = uint32(2)
)

func (d *mutterDevice) scroll(s *pluginpb.Scroll) error {
	return d.wheel.turn(s, func(axis uint32, steps int32) error {
		return d.notify("NotifyPointerAxisDiscrete", axis, steps)
	}, func(dx, dy float64) error {
		return d.notify("NotifyPointerAxis", dx, dy, axisSourceWheel)
	})
}

func (d *mutterDevice) touch(id uint32, phase pluginpb.Touch_Phase, x, y float64) error {
	px, py := d.pixels(x, y)
	switch phase {
	case pluginpb.Touch_DOWN:
		return d.notify("NotifyTouchDown", string(d.session.stream), id, px, py)
	case pluginpb.Touch_MOVE:
		return d.notify("NotifyTouchMotion", string(d.session.stream), id, px, py)
	}
	return d.notify("NotifyTouchUp", id)
}

// flush has nothing to do: a message that was sent is in the bus's hands.
func (d *mutterDevice) flush(context.Context) error { return nil }
