package main

import (
	"fmt"
	"regexp"
	"strings"
)

// defaultLayout is used when neither the request nor the seat names one.
const defaultLayout = "us"

// layoutName is what xkeyboard-config's files and variants look like. It is strict because the name becomes part of a keymap's text.
var layoutName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}(\([a-zA-Z0-9_+-]{1,63}\))?$`)

func checkLayoutName(layout string) error {
	if layout == "" || layoutName.MatchString(layout) {
		return nil
	}
	return fmt.Errorf("option xkb_layout = %q is no layout; write it like us, de or ch(fr)", layout)
}

// keymapText is an xkb keymap for layout. It names the compositor's own xkb files (every compositor that takes keymaps compiles them
// with libxkbcommon, which follows includes), so any installed layout works and none is shipped here.
func keymapText(layout string) string {
	return `xkb_keymap {
	xkb_keycodes { include "evdev+aliases(qwerty)" };
	xkb_types { include "complete" };
	xkb_compat { include "complete" };
	xkb_symbols { include "pc+` + layout + `+inet(evdev)" };
};
`
}

// hasAltGr looks into a compiled keymap's text for what the right Alt key does.
func hasAltGr(keymap string) bool {
	_, rest, ok := strings.Cut(keymap, "key <RALT>")
	if !ok {
		return false
	}
	definition, _, _ := strings.Cut(rest, ";")
	return strings.Contains(definition, "ISO_Level3_Shift")
}
