package main

import "strings"

// stroke is the key that gives a character, and the modifiers to hold with it.
type stroke struct {
	code         uint32 // evdev
	shift, altGr bool
}

// strokes are the characters that a keyboard layout has. Compositors that take only keys type texts with them.
type strokes map[rune]stroke

const (
	keyEnter = 28
	keyTab   = 15
	keySpace = 57
)

// usStrokes is the us layout, for where the desktop's own is not known.
func usStrokes() strokes {
	s := strokes{'\n': {code: keyEnter}, '\t': {code: keyTab}, ' ': {code: keySpace}}
	for _, row := range []struct {
		first          uint32 // evdev codes of a row follow each other
		plain, shifted string
	}{
		{2, "1234567890-=", "!@#$%^&*()_+"},
		{16, "qwertyuiop[]", "QWERTYUIOP{}"},
		{30, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
		{43, `\zxcvbnm,./`, "|ZXCVBNM<>?"},
	} {
		for i, c := range row.plain {
			s[c] = stroke{code: row.first + uint32(i)}
		}
		for i, c := range row.shifted {
			s[c] = stroke{code: row.first + uint32(i), shift: true}
		}
	}
	return s
}

// play tells of the keys that type c: its modifiers go down before and up after it.
func (s stroke) play(tell func(code uint32, down bool) error) error {
	keys := make([]uint32, 0, 3)
	if s.shift {
		keys = append(keys, keyLeftShift)
	}
	if s.altGr {
		keys = append(keys, keyRightAlt)
	}
	keys = append(keys, s.code)
	for _, k := range keys {
		if err := tell(k, true); err != nil {
			return err
		}
	}
	for i := len(keys) - 1; i >= 0; i-- {
		if err := tell(keys[i], false); err != nil {
			return err
		}
	}
	return nil
}

// lines makes every kind of line end one.
var lines = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n")
