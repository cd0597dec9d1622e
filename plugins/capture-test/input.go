package main

import (
	"math"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/capture-test/pattern"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// notch is one wheel click in libinput's units of 1/120.
const notch = 120

// maxContacts at once: two hands. More are shown as motion only.
const maxContacts = 10

// inputState is what the pattern shows of input. It is a value: pure and copied.
type inputState struct {
	inputs       uint16
	key          uint16
	keyDown      bool
	buttons      uint8
	x, y         float64 // 0..1
	notchesFine  int32   // in 1/120
	contactsDown map[uint32]bool
}

func newInputState() *inputState {
	return &inputState{x: 0.5, y: 0.5, contactsDown: map[uint32]bool{}}
}

// apply takes one event. It reports false for an event the pattern does not know.
func (s *inputState) apply(e *pluginpb.InputEvent, size capture.Size) bool {
	switch e := e.Event.(type) {
	case *pluginpb.InputEvent_Key:
		s.setKey(e.Key.Code, e.Key.Down)
	case *pluginpb.InputEvent_MotionAbsolute:
		s.moveTo(e.MotionAbsolute.X, e.MotionAbsolute.Y)
	case *pluginpb.InputEvent_MotionRelative:
		s.moveTo(s.x+e.MotionRelative.Dx/float64(size.Width), s.y+e.MotionRelative.Dy/float64(size.Height))
	case *pluginpb.InputEvent_Button:
		s.setButton(e.Button.Code, e.Button.Down)
	case *pluginpb.InputEvent_Scroll:
		s.notchesFine += e.Scroll.X + e.Scroll.Y
	case *pluginpb.InputEvent_Touch:
		s.touch(e.Touch)
	case *pluginpb.InputEvent_Text:
		for range e.Text.Text { // each is a stroke
			s.inputs++
		}
		return true
	case *pluginpb.InputEvent_Locks: // no picture shows them
	case *pluginpb.InputEvent_ReleaseAll:
		s.keyDown, s.buttons = false, 0
		clear(s.contactsDown)
	default:
		return false
	}
	s.inputs++
	return true
}

func (s *inputState) setKey(code uint32, down bool) {
	s.key, s.keyDown = uint16(code&0x7FFF), down
}

func (s *inputState) moveTo(x, y float64) {
	if math.IsNaN(x) || math.IsNaN(y) {
		return
	}
	s.x, s.y = min(max(x, 0), 1), min(max(y, 0), 1)
}

// btnLeft is evdev's BTN_LEFT; the five buttons follow each other.
const btnLeft = 0x110

func (s *inputState) setButton(code uint32, down bool) {
	if code < btnLeft || code > btnLeft+7 {
		return // counted as an input, but it has no bit
	}
	bit := uint8(1) << (code - btnLeft)
	if down {
		s.buttons |= bit
	} else {
		s.buttons &^= bit
	}
}

// touch shows the contact as the pointer with its left button.
func (s *inputState) touch(t *pluginpb.Touch) {
	s.moveTo(t.X, t.Y)
	switch t.Phase {
	case pluginpb.Touch_DOWN:
		if len(s.contactsDown) < maxContacts {
			s.contactsDown[t.Id] = true
		}
	case pluginpb.Touch_UP, pluginpb.Touch_CANCEL:
		delete(s.contactsDown, t.Id)
	}
	s.setButton(btnLeft, len(s.contactsDown) > 0)
}

func (s *inputState) stamp() pattern.Stamp {
	return pattern.Stamp{
		Inputs: s.inputs, Key: s.key, KeyDown: s.keyDown, Buttons: s.buttons,
		X: uint16(s.x * 65535), Y: uint16(s.y * 65535), Notches: int8(s.notchesFine / notch),
	}
}
