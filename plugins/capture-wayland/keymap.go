package main

import (
	"fmt"
	"regexp"
	"strings"
)

// defaultLayout is used when neither the request nor the seat nor the session's environment names one.
const defaultLayout = "us"

// layoutName is what xkeyboard-config's files and variants look like. It is strict because the name becomes part of a keymap's text.
var layoutName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}(\([a-zA-Z0-9_+-]{1,63}\))?$`)

// maxLayouts is what a keymap has groups for.
const maxLayouts = 4

// checkLayouts takes layouts separated by commas; empty: none.
func checkLayouts(layouts string) error {
	if layouts == "" {
		return nil
	}
	list := strings.Split(layouts, ",")
	if len(list) > maxLayouts {
		return fmt.Errorf("%q has %d layouts, a keymap has at most %d", layouts, len(list), maxLayouts)
	}
	for _, l := range list {
		if !layoutName.MatchString(l) {
			return fmt.Errorf("%q is no layout; write it like us, de, ch(fr) or de,us", layouts)
		}
	}
	return nil
}

// layoutsOf joins XKB_DEFAULT_LAYOUT and XKB_DEFAULT_VARIANT, by which people and desktops name the layout of every compositor that compiles
// keymaps with libxkbcommon. Without a keyboard of its own a compositor never says which it took, so we read what it reads.
func layoutsOf(layouts, variants string) string {
	list, variant := strings.Split(layouts, ","), strings.Split(variants, ",")
	for i := range list {
		if i < len(variant) && variant[i] != "" && list[i] != "" {
			list[i] += "(" + variant[i] + ")"
		}
	}
	return strings.Join(list, ",")
}

// keymapText is an xkb keymap for layouts. It names the compositor's own xkb files (every compositor that takes keymaps compiles them
// with libxkbcommon, which follows includes), so any installed layout works and none is shipped here.
func keymapText(layouts string) string {
	symbols := "pc"
	for i, l := range strings.Split(layouts, ",") {
		symbols += "+" + l
		if i > 0 {
			symbols += fmt.Sprintf(":%d", i+1)
		}
	}
	return `xkb_keymap {
	xkb_keycodes { include "evdev+aliases(qwerty)" };
	xkb_types { include "complete" };
	xkb_compat { include "complete" };
	xkb_symbols { include "` + symbols + `+inet(evdev)" };
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
