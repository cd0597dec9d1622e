package main

import "github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"

// notchUnits is one wheel click in libinput's units.
const notchUnits = 120

// mutterNotch is the distance of a notch for NotifyPointerAxis (mutter 43, DISCRETE_SCROLL_STEP).
const mutterNotch = 10.0

// wheelAxis divides the turns of one axis into clicks and what lies between them. Compositors take whole clicks, which move a notch each,
// and distances that are no clicks. A turn of whole notches is clicks. One of parts is the same distance smoothly, and programs count their
// clicks of it themselves; a click within it would count twice, for GTK, Qt and foot let a click stand for a whole notch (read in
// their sources, 2026-12-01).
type wheelAxis struct{ part int32 } // units since the last whole notch

func (w *wheelAxis) turn(units int32) (clicks, smooth int32) {
	if w.part == 0 && units%notchUnits == 0 {
		return units / notchUnits, 0
	}
	w.part = (w.part + units%notchUnits) % notchUnits
	return 0, units
}

// mutterWheel turns by the calls that Mutter and the portal have in common.
type mutterWheel struct{ x, y wheelAxis }

func (w *mutterWheel) turn(s *pluginpb.Scroll, click func(axis uint32, steps int32) error, smooth func(dx, dy float64) error) error {
	stepsX, restX := w.x.turn(s.X)
	stepsY, restY := w.y.turn(s.Y)
	if stepsY != 0 {
		if err := click(axisVertical, stepsY); err != nil {
			return err
		}
	}
	if stepsX != 0 {
		if err := click(axisHorizontal, stepsX); err != nil {
			return err
		}
	}
	if restX != 0 || restY != 0 {
		return smooth(float64(restX)*mutterNotch/notchUnits, float64(restY)*mutterNotch/notchUnits)
	}
	return nil
}
