package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

const (
	// textKeys is how many characters one keymap gives: xkb codes up to 255 are what X11 programs know, and those below 24 are Escape,
	// digits and Tab to programs that look at the place of a key.
	textKeys     = 255 - firstTextKey
	firstTextKey = 24
	// textKeyName marks our keymaps, which are not the desktop's layout.
	textKeyName = "WVT"
)

// wlrText types characters by a virtual keyboard whose keymap has exactly these: whatever the layout, every character arrives.
type wlrText struct {
	desktop *wlrDesktop
	device  *wayland.VirtualKeyboard // nil until there is something to type: a keyboard without a keymap must not become the seat's
	has     map[rune]uint32          // evdev codes of the present keymap
}

// play types text; now is the time of its keys.
func (w *wlrText) play(text string, now uint32, rejected *capture.Rejected) error {
	characters := make([]rune, 0, len(text))
	for _, c := range lines.Replace(text) {
		if c == unicode.ReplacementChar || (unicode.IsControl(c) && c != '\n' && c != '\t') {
			rejected.Untypable(c, "control characters are no text")
			continue
		}
		characters = append(characters, c)
	}
	for len(characters) > 0 {
		n, err := w.fit(characters)
		if err != nil {
			return err
		}
		for _, c := range characters[:n] {
			w.device.Key(now, w.has[c], wlPressed)
			w.device.Key(now, w.has[c], wlReleased)
		}
		characters = characters[n:]
	}
	return nil
}

// fit gives the keyboard a keymap for as many of the first characters as it holds, and returns how many these are.
func (w *wlrText) fit(characters []rune) (int, error) {
	if n := w.covered(characters); n == len(characters) {
		return n, nil
	}
	if w.device == nil {
		w.device = &wayland.VirtualKeyboard{}
		w.desktop.keyboards.CreateVirtualKeyboard(w.desktop.seat, w.device)
	}
	var text string
	text, w.has = textKeymap(characters)
	if err := sendKeymap(w.device, text); err != nil {
		return 0, err
	}
	return w.covered(characters), nil
}

func (w *wlrText) covered(characters []rune) int {
	for i, c := range characters {
		if _, ok := w.has[c]; !ok {
			return i
		}
	}
	return len(characters)
}

// textKeymap is a keymap with one key for each of the first characters, and their evdev codes.
func textKeymap(characters []rune) (text string, has map[rune]uint32) {
	has = map[rune]uint32{}
	var codes, symbols strings.Builder
	for _, c := range characters {
		if _, ok := has[c]; ok {
			continue
		}
		if len(has) == textKeys {
			break
		}
		xkb := firstTextKey + uint32(len(has))
		has[c] = xkb - evdevOffset
		fmt.Fprintf(&codes, "\t\t<%s%d> = %d;\n", textKeyName, xkb, xkb)
		fmt.Fprintf(&symbols, "\t\tkey <%s%d> { [ %s ] };\n", textKeyName, xkb, keysym(c))
	}
	return `xkb_keymap {
	xkb_keycodes "text" {
		minimum = 8;
		maximum = 255;
` + codes.String() + `	};
	xkb_types "text" { include "complete" };
	xkb_compat "text" { include "complete" };
	xkb_symbols "text" {
` + symbols.String() + `	};
};
`, has
}

// evdevOffset is between an xkb code and its evdev code.
const evdevOffset = 8

// keysym is c's name in a keymap: libxkbcommon takes U and the code point.
func keysym(c rune) string {
	switch c {
	case '\n':
		return "Return"
	case '\t':
		return "Tab"
	}
	return fmt.Sprintf("U%04X", c)
}

func (w *wlrText) close() {
	if w.device != nil {
		w.device.Destroy()
	}
}
