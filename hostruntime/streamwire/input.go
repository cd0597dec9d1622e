package streamwire

import (
	"encoding/binary"
	"fmt"
)

// Input is a message of the input stream.
type Input interface {
	Message
	// InputID is the viewer's id of this input; ids grow by one and wrap, shared with pointer motion.
	InputID() uint32
}

// Key is a key by its evdev code (KEY_*), so that the layout is the desktop's.
type Key struct {
	ID   uint32
	Code uint16
	Down bool
}

func (*Key) messageType() byte { return typeKey }

// InputID implements Input.
func (m *Key) InputID() uint32 { return m.ID }

func (m *Key) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.ID)
	return append(binary.BigEndian.AppendUint16(b, m.Code), boolByte(m.Down))
}

func (m *Key) parseBody(r *reader) error {
	m.ID, m.Code, m.Down = r.u32(), r.u16(), r.u8() != 0
	return nil
}

// Button is a pointer button by its evdev code (BTN_*). Placed buttons carry the position at which they were pressed, because
// pointer motion travels in datagrams and may arrive later or never.
type Button struct {
	ID     uint32
	Code   uint16
	Down   bool
	Placed bool
	X, Y   uint16
}

func (*Button) messageType() byte { return typeButton }

// InputID implements Input.
func (m *Button) InputID() uint32 { return m.ID }

func (m *Button) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.ID)
	b = binary.BigEndian.AppendUint16(b, m.Code)
	return appendSize(append(b, boolByte(m.Down), boolByte(m.Placed)), m.X, m.Y)
}

func (m *Button) parseBody(r *reader) error {
	m.ID, m.Code, m.Down, m.Placed, m.X, m.Y = r.u32(), r.u16(), r.u8() != 0, r.u8() != 0, r.u16(), r.u16()
	return nil
}

// Scroll is a turn of the wheel or a move of two fingers; positive is right and down. It is a distance, whatever the device: its
// clicks are what adds up to whole notches.
type Scroll struct {
	ID   uint32
	X, Y int32 // 1/120 notch
}

func (*Scroll) messageType() byte { return typeScroll }

// InputID implements Input.
func (m *Scroll) InputID() uint32 { return m.ID }

func (m *Scroll) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, m.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(m.X))
	return binary.BigEndian.AppendUint32(b, uint32(m.Y))
}

func (m *Scroll) parseBody(r *reader) error {
	m.ID, m.X, m.Y = r.u32(), int32(r.u32()), int32(r.u32())
	return nil
}

// TouchPhase is what a finger did.
type TouchPhase uint8

// The closed set of phases.
const (
	TouchDown   TouchPhase = 0
	TouchMove   TouchPhase = 1
	TouchUp     TouchPhase = 2
	TouchCancel TouchPhase = 3
)

// Touch is one finger.
type Touch struct {
	ID     uint32
	Finger uint8
	Phase  TouchPhase
	X, Y   uint16
}

func (*Touch) messageType() byte { return typeTouch }

// InputID implements Input.
func (m *Touch) InputID() uint32 { return m.ID }

func (m *Touch) appendBody(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint32(b, m.ID), m.Finger, byte(m.Phase))
	return appendSize(b, m.X, m.Y)
}

func (m *Touch) parseBody(r *reader) error {
	m.ID, m.Finger, m.Phase, m.X, m.Y = r.u32(), r.u8(), TouchPhase(r.u8()), r.u16(), r.u16()
	if m.Phase > TouchCancel {
		return &WireError{Type: typeTouch, Problem: "unknown phase"}
	}
	return nil
}

// ReleaseAll lifts every key, button and finger: the page lost focus.
type ReleaseAll struct{ ID uint32 }

func (*ReleaseAll) messageType() byte { return typeReleaseAll }

// InputID implements Input.
func (m *ReleaseAll) InputID() uint32 { return m.ID }

func (m *ReleaseAll) appendBody(b []byte) []byte { return binary.BigEndian.AppendUint32(b, m.ID) }

func (m *ReleaseAll) parseBody(r *reader) error {
	m.ID = r.u32()
	return nil
}

// Text is characters that no key stands for: of an on-screen keyboard, an input method or a picker. What the desktop cannot type comes
// back as Untyped.
type Text struct {
	ID   uint32
	Text string
}

func (*Text) messageType() byte { return typeText }

// InputID implements Input.
func (m *Text) InputID() uint32 { return m.ID }

func (m *Text) appendBody(b []byte) []byte {
	return appendText(binary.BigEndian.AppendUint32(b, m.ID), m.Text)
}

func (m *Text) parseBody(r *reader) error {
	m.ID, m.Text = r.u32(), r.text()
	if len(m.Text) > MaxText {
		return &WireError{Type: typeText, Problem: fmt.Sprintf("text of %d bytes, at most %d", len(m.Text), MaxText)}
	}
	return nil
}

// The locks of a keyboard, as bits.
const (
	LockCaps   = 1
	LockNum    = 2
	LockScroll = 4
)

// Locks says which locks hold at the viewer's keyboard. Lock keys do not travel as keys: systems disagree on when they tell of one.
type Locks struct {
	ID    uint32
	Known uint8 // locks that On speaks of; the others stay as they are
	On    uint8
}

func (*Locks) messageType() byte { return typeLocks }

// InputID implements Input.
func (m *Locks) InputID() uint32 { return m.ID }

func (m *Locks) appendBody(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, m.ID), m.Known, m.On)
}

func (m *Locks) parseBody(r *reader) error {
	m.ID, m.Known, m.On = r.u32(), r.u8(), r.u8()
	return nil
}
