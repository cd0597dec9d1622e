package main

import (
	"math"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

const (
	// pointerExtent is the resolution of absolute motion: finer than a 16K display's pixels.
	pointerExtent = 1 << 16
	// notchUnits is one wheel click in libinput's units, notchPixels its usual way in pixels (libinput's default of 15 degrees).
	notchUnits  = 120
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
	// part is what is left of whole notches, by axis.
	part [2]int32
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

// scroll plays notches as a wheel and anything else as a smooth device.
func (p *wlrPointer) scroll(s *pluginpb.Scroll, now uint32) {
	if s.NotchX == 0 && s.NotchY == 0 {
		p.device.AxisSource(wlSourceContinuous)
		p.smooth(wlAxisHorizontal, s.Dx, now)
		p.smooth(wlAxisVertical, s.Dy, now)
		return
	}
	p.device.AxisSource(wlSourceWheel)
	p.wheel(wlAxisHorizontal, s.NotchX, now)
	p.wheel(wlAxisVertical, s.NotchY, now)
}

func (p *wlrPointer) smooth(axis uint32, pixels float64, now uint32) {
	if pixels != 0 {
		p.device.Axis(now, axis, pixels)
	}
}

// wheel moves by units of 1/120 notch. Whole notches are told as such; a high-resolution wheel's parts move smoothly until they add up.
func (p *wlrPointer) wheel(axis uint32, units int32, now uint32) {
	if units == 0 {
		return
	}
	p.part[axis] += units
	whole := p.part[axis] / notchUnits
	p.part[axis] -= whole * notchUnits
	pixels := float64(units) * notchPixels / notchUnits
	if whole == 0 {
		p.device.Axis(now, axis, pixels)
		return
	}
	p.device.AxisDiscrete(now, axis, pixels, whole)
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
