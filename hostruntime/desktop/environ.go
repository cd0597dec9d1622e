package desktop

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// markerVar marks every process of a desktop with its id.
const markerVar = "WAVRY_DESKTOP"

// HintVar tells a client that the session is an unattended desktop of ours, and its kind: nobody is there to answer a dialog, and
// the client may authorise itself.
const HintVar = "WAVRY_DESKTOP_KIND"

// UserVar tells a host who the desktop's processes run as, UID:GID, and with that who its plugins must run as.
const UserVar = "WAVRY_DESKTOP_USER"

// display is the Wayland socket's name. It is the first name that sway takes by itself in an empty runtime directory.
const display = "wayland-1"

// keyboardVars name the keyboard layout for every compositor; whoever starts a desktop chooses it with them, as for a session of their own.
var keyboardVars = []string{"XKB_DEFAULT_MODEL", "XKB_DEFAULT_LAYOUT", "XKB_DEFAULT_VARIANT", "XKB_DEFAULT_OPTIONS"}

type environ map[string]string

func (e environ) list() []string {
	list := make([]string, 0, len(e))
	for _, k := range slices.Sorted(maps.Keys(e)) {
		list = append(list, k+"="+e[k])
	}
	return list
}

func (e environ) add(more ...string) {
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		e[k] = v
	}
}

// environment is what every process of the desktop gets. It starts from nothing: what our caller has (tokens, the display of
// another session) must not leak into the desktop.
func (d *Desktop) environment() environ {
	p := d.places
	e := environ{
		"PATH":                     d.path(),
		"LANG":                     cmp.Or(os.Getenv("LANG"), "C.UTF-8"),
		"SHELL":                    shell(),
		"HOME":                     p.home,
		"XDG_RUNTIME_DIR":          p.run,
		"XDG_CONFIG_HOME":          filepath.Join(p.home, ".config"),
		"XDG_CACHE_HOME":           filepath.Join(p.home, ".cache"),
		"XDG_DATA_HOME":            filepath.Join(p.home, ".local/share"),
		"XDG_STATE_HOME":           filepath.Join(p.home, ".local/state"),
		"XDG_SESSION_TYPE":         "wayland",
		"XDG_CURRENT_DESKTOP":      d.recipe.currentDesktop,
		"XDG_DESKTOP_PORTAL_DIR":   filepath.Join(p.conf, "portals"),
		"WAYLAND_DISPLAY":          display,
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + d.sessionBus(),
		"NO_AT_BRIDGE":             "1",
		"GTK_A11Y":                 "none",
		HintVar:                    string(d.cfg.Kind),
		markerVar:                  d.id,
	}
	for _, k := range keyboardVars {
		if v := os.Getenv(k); v != "" {
			e[k] = v
		}
	}
	e.add(d.recipe.env(d)...)
	e.add(d.cfg.Env...)
	return e
}

// path is ours, unless we are root: its directories are often closed to others.
func (d *Desktop) path() string {
	const standard = "/usr/local/bin:/usr/bin:/bin:/usr/games"
	if os.Geteuid() == 0 {
		return standard
	}
	return cmp.Or(os.Getenv("PATH"), standard)
}

func (d *Desktop) sessionBus() string { return filepath.Join(d.places.run, "bus") }
func (d *Desktop) systemBus() string  { return filepath.Join(d.places.run, "system_bus") }
func (d *Desktop) wayland() string    { return filepath.Join(d.places.run, display) }
func (d *Desktop) pipewire() string   { return filepath.Join(d.places.run, "pipewire-0") }

// shell for terminals; the user of a desktop has often none in /etc/passwd.
func shell() string {
	for _, s := range []string{"/bin/bash", "/bin/sh"} {
		if _, err := os.Stat(s); err == nil {
			return s
		}
	}
	return "/bin/sh"
}

// hasGPU says whether there is a DRM render node, so that compositors can use GL on hardware.
func hasGPU() bool {
	nodes, err := filepath.Glob("/dev/dri/renderD*")
	return err == nil && len(nodes) > 0
}
