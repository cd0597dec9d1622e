package main

// Modifier bits in the order that every keymap made of xkeyboard-config's rules has them: the eight real modifiers.
const (
	modShift   = 1 << 0
	modLock    = 1 << 1
	modControl = 1 << 2
	modAlt     = 1 << 3 // Mod1
	modNum     = 1 << 4 // Mod2
	modSuper   = 1 << 6 // Mod4
	modLevel3  = 1 << 7 // Mod5: AltGr
)

// evdev codes of the keys that are modifiers.
const (
	keyLeftCtrl   = 29
	keyLeftShift  = 42
	keyRightShift = 54
	keyLeftAlt    = 56
	keyCapsLock   = 58
	keyNumLock    = 69
	keyRightCtrl  = 97
	keyRightAlt   = 100
	keyLeftMeta   = 125
	keyRightMeta  = 126
)

// modifiers follows which modifiers are held and locked, as a keyboard driver would: the compositor does not do it for virtual keyboards.
type modifiers struct {
	// altGr says that the right Alt key is AltGr (ISO_Level3_Shift) in the keymap.
	altGr  bool
	held   map[uint32]uint32 // bit by key that is down
	locked uint32
}

// newModifiers starts with NumLock on: a viewer's keypad means digits.
func newModifiers(altGr bool) *modifiers {
	return &modifiers{altGr: altGr, held: map[uint32]uint32{}, locked: modNum}
}

// key takes a change of a key and reports whether it changed any modifier.
func (m *modifiers) key(code uint32, down bool) (changed bool) {
	if bit := lockBit(code); bit != 0 {
		if down {
			m.locked ^= bit
		}
		return down
	}
	bit := m.bit(code)
	switch {
	case bit == 0:
		return false
	case down:
		m.held[code] = bit
	default:
		delete(m.held, code)
	}
	return true
}

// lock makes the known locks hold that are in on, and reports whether that changed any.
func (m *modifiers) lock(known, on uint32) (changed bool) {
	before := m.locked
	for lock, bit := range map[uint32]uint32{lockCaps: modLock, lockNum: modNum} {
		if known&lock == 0 {
			continue
		}
		m.locked &^= bit
		if on&lock != 0 {
			m.locked |= bit
		}
	}
	return m.locked != before
}

// depressed is the set of held modifiers.
func (m *modifiers) depressed() uint32 {
	var bits uint32
	for _, bit := range m.held {
		bits |= bit
	}
	return bits
}

func lockBit(code uint32) uint32 {
	switch code {
	case keyCapsLock:
		return modLock
	case keyNumLock:
		return modNum
	}
	return 0
}

func (m *modifiers) bit(code uint32) uint32 {
	switch code {
	case keyLeftShift, keyRightShift:
		return modShift
	case keyLeftCtrl, keyRightCtrl:
		return modControl
	case keyLeftAlt:
		return modAlt
	case keyRightAlt:
		if m.altGr {
			return modLevel3
		}
		return modAlt
	case keyLeftMeta, keyRightMeta:
		return modSuper
	}
	return 0
}
