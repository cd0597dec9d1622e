package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/wavry/fleet/plugins/internal/capture"
)

// session is what the environment says about the desktop to capture.
type session struct {
	// Desktop is XDG_CURRENT_DESKTOP, split and in lower case: "sway", "gnome", "kde".
	Desktop []string
	// Display is WAYLAND_DISPLAY, RuntimeDir XDG_RUNTIME_DIR, Bus DBUS_SESSION_BUS_ADDRESS; empty when not set.
	Display, RuntimeDir, Bus string
	// Layouts are the keyboard layouts that its programs are told, as checkLayouts takes them; empty: none.
	Layouts string
}

func sessionFromEnvironment(lookup func(string) (string, bool)) session {
	get := func(key string) string {
		v, _ := lookup(key)
		return v
	}
	split := func(r rune) bool { return r == ':' || r == ';' }
	return session{
		Desktop:    strings.FieldsFunc(strings.ToLower(get("XDG_CURRENT_DESKTOP")), split),
		Display:    get("WAYLAND_DISPLAY"),
		RuntimeDir: get("XDG_RUNTIME_DIR"),
		Bus:        get("DBUS_SESSION_BUS_ADDRESS"),
		Layouts:    layoutsOf(get("XKB_DEFAULT_LAYOUT"), get("XKB_DEFAULT_VARIANT")),
	}
}

// methods returns every method of this plugin, most preferred first for the session. All are always listed, so that a probe can
// say of each why it does not work.
func methods(s session, log *slog.Logger) func(context.Context) []capture.Method {
	return func(context.Context) []capture.Method {
		all := append(portalMethods(s, log), wlrMethods(s, log)...)
		rank := preference(s.Desktop)
		slices.SortStableFunc(all, func(a, b capture.Method) int { return rank(a.Name()) - rank(b.Name()) })
		return all
	}
}

// The orders say what is best where several work: the direct ways of a compositor need no human and no portal, so an unattended
// node never waits for a dialog; ScreenShot2 polls and is last.
var orders = map[string][]string{
	"gnome": {"mutter", "portal"},
	"kde":   {"kwin-screencast", "portal", "kwin-window", "kwin-screenshot"},
	"wlr":   {"wlr-screencopy", "portal"},
}

// preference ranks method names for a desktop; methods that its order does not name come after, in the order listed.
func preference(desktop []string) func(name string) int {
	order := orders["wlr"]
	for _, d := range desktop {
		if o, ok := orders[d]; ok {
			order = o
			break
		}
	}
	return func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
}
