package pluginhost

import (
	"os"
	"slices"
	"strings"
)

// Names, and beginnings of names, of the variables that plugins get. Everything else stays with the host runtime: among it are tokens of
// Consul, Nomad and Vault.
var (
	// everyPlugin: language, logging, how the fake of tests behaves, and the knobs of drivers and GStreamer.
	everyPlugin = []string{
		"PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "LD_LIBRARY_PATH", "G_MESSAGES_DEBUG", "G_DEBUG",
		"WAVRY_LOG_LEVEL", "WAVRY_LOG_FORMAT", "WAVRY_FAKE", "GST_*", "ORC_*", "PIPEWIRE_DEBUG", "LIBVA_*", "LIBGL_*", "MESA_*", "GALLIUM_*", "EGL_*", "VK_*",
		"RADV_*", "AMD_*", "INTEL_*", "ANV_*", "DRI_*", "__GL*", "__NV*", "__EGL*", "NVIDIA_*", "CUDA_*",
	}
	// desktopPlugin: how to find the desktop.
	desktopPlugin = []string{
		"HOME", "USER", "LOGNAME", "SHELL", "XDG_*", "WAYLAND_DISPLAY", "DISPLAY", "XAUTHORITY", "DBUS_*", "PIPEWIRE_*", "PULSE_*", "SWAYSOCK",
		"WAVRY_DESKTOP_KIND", "DESKTOP_SESSION", "KDE_*", "KWIN_*", "GNOME_*", "MUTTER_*", "XKB_*", "XCURSOR_*", "WLR_*",
	}
)

// Environ is what a plugin of a role gets of environ (nil: ours).
func Environ(role Role, environ []string) []string {
	if environ == nil {
		environ = os.Environ()
	}
	allowed := everyPlugin
	if role == RoleCapture {
		allowed = slices.Concat(everyPlugin, desktopPlugin)
	}
	out := []string{} // not nil, which would be all of ours
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(allowed, func(a string) bool { return matches(a, name) }) {
			out = append(out, kv)
		}
	}
	return out
}

func matches(allowed, name string) bool {
	if prefix, ok := strings.CutSuffix(allowed, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return allowed == name
}

// searched are variables that name directories from which an encoder's libraries and drivers come.
var searched = []string{"LD_LIBRARY_PATH", "GST_PLUGIN_PATH", "GST_PLUGIN_PATH_1_0", "GST_PLUGIN_SYSTEM_PATH", "GST_PLUGIN_SYSTEM_PATH_1_0",
	"LIBVA_DRIVERS_PATH", "LIBGL_DRIVERS_PATH"}

// readable are the directories that environ names.
func readable(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !slices.Contains(searched, name) {
			continue
		}
		for dir := range strings.SplitSeq(value, ":") {
			if dir != "" {
				out = append(out, dir)
			}
		}
	}
	return out
}
