package main

import "github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"

// touchPointer turns the first finger into a pointer with its left button, for compositors without virtual touch.
type touchPointer struct {
	active bool
	id     uint32
}

// take says whether to move to the event's place first, and whether the button is down after. ok is false for other fingers.
func (p *touchPointer) take(t *pluginpb.Touch) (move, button, ok bool) {
	if t.Phase == pluginpb.Touch_DOWN && !p.active {
		*p = touchPointer{active: true, id: t.Id}
		return true, true, true
	}
	if !p.active || p.id != t.Id {
		return false, false, false
	}
	switch t.Phase {
	case pluginpb.Touch_UP:
		p.active = false
		return true, false, true
	case pluginpb.Touch_CANCEL:
		p.active = false
		return false, false, true
	}
	return true, true, true
}
