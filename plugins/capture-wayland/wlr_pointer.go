package main

import (
	"math"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

const (
	// pointerExtent is the resolution of absolute motion: finer than a 16K display's pixels.
	pointerExtent = 1 << 16
	// notchPixels is a wheel click's usual way in pixels (libinput's default of 15 degrees).
	notchPixels = 15
	btnLeft     = 0x110
	maxEvdev    = 0x2FF // KEY_MAX
)

// wl_pointer's names.
const (
	wlAxisVertical     = 0
	wlAxisHorizontal   = 1
	wlSourceWheel      = 0
	wlSourceContinuous = 2
	wlReleased         = 0
	wlPressed          = 1
)

// wlrPointer is a virtual pointer that works in the captured output.
type wlrPointer struct {
	device *wayland.VirtualPointer
	down   map[uint32]bool
	wheel  [2]wheelAxis
	// contact is the touch that moves the pointer, wlroots having no virtual touch device.
	contact touchPointer
}

func newWlrPointer(d *wlrDesktop) *wlrPointer {
	p := &wlrPointer{device: &wayland.VirtualPointer{}, down: map[uint32]bool{}}
	if d.pointers.Version() >= 2 {
		d.pointers.CreateVirtualPointerWithOutput(d.seat, &d.output.Output, p.device)
	} else { // absolute motion then spans all outputs, which is the same thing when there is one
		d.pointers.CreateVirtualPointer(d.seat, p.device)
	}
	return p
}

func (p *wlrPointer) play(e any, now uint32) (rejected string) {
	switch e := e.(type) {
	case *pluginpb.InputEvent_MotionAbsolute:
		p.moveTo(e.MotionAbsolute.X, e.MotionAbsolute.Y, now)
	case *pluginpb.InputEvent_MotionRelative:
		p.device.Motion(now, e.MotionRelative.Dx, e.MotionRelative.Dy)
	case *pluginpb.InputEvent_Button:
		if e.Button.Code > maxEvdev {
			return "button code above evdev's"
		}
		p.button(e.Button.Code, e.Button.Down, now)
	case *pluginpb.InputEvent_Scroll:
		p.scroll(e.Scroll, now)
	case *pluginpb.InputEvent_Touch:
		return p.touch(e.Touch, now)
	default:
		return "unknown kind of input event"
	}
	p.device.Frame()
	return ""
}

func (p *wlrPointer) moveTo(x, y float64, now uint32) {
	p.device.MotionAbsolute(now, extent(x), extent(y), pointerExtent, pointerExtent)
}

// extent turns 0..1 into the units of absolute motion; what is outside is cut, NaN is 0.
func extent(v float64) uint32 {
	if math.IsNaN(v) {
		return 0
	}
	return uint32(min(max(v, 0), 1) * pointerExtent)
}

// button sends a change; a repeated state is no change and would confuse the compositor's count.
func (p *wlrPointer) button(code uint32, down bool, now uint32) {
	if p.down[code] == down {
		return
	}
	if down {
		p.down[code] = true
		p.device.Button(now, code, wlPressed)
	} else {
		delete(p.down, code)
		p.device.Button(now, code, wlReleased)
	}
}

// scroll plays clicks as a wheel's, and parts of them as a device's that has none.
func (p *wlrPointer) scroll(s *pluginpb.Scroll, now uint32) {
	const perUnit = float64(notchPixels) / notchUnits
	for axis, units := range [2]int32{wlAxisVertical: s.Y, wlAxisHorizontal: s.X} {
		if units == 0 {
			continue
		}
		if clicks, smooth := p.wheel[axis].turn(units); clicks != 0 {
			p.device.AxisSource(wlSourceWheel)
			p.device.AxisDiscrete(now, uint32(axis), float64(clicks)*notchPixels, clicks)
		} else {
			p.device.AxisSource(wlSourceContinuous)
			p.device.Axis(now, uint32(axis), float64(smooth)*perUnit)
		}
	}
}

func (p *wlrPointer) touch(t *pluginpb.Touch, now uint32) (rejected string) {
	move, button, ok := p.contact.take(t)
	if !ok {
		return "wlroots has no virtual touch device; the first finger moves the pointer, others are ignored"
	}
	if move {
		p.moveTo(t.X, t.Y, now)
		p.device.Frame()
	}
	p.button(btnLeft, button, now)
	p.device.Frame()
	return ""
}

func (p *wlrPointer) releaseAll(now uint32) {
	for code := range p.down {
		p.device.Button(now, code, wlReleased)
	}
	if len(p.down) > 0 {
		p.device.Frame()
	}
	clear(p.down)
	p.contact = touchPointer{}
}
