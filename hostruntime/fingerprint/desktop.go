package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// compositor connects to the Wayland display and judges what it offers for capture.
func (n *node) compositor(ctx context.Context, r *Result) Check {
	display := n.env["WAYLAND_DISPLAY"]
	if display == "" {
		return fail(checkCompositor, "start a Wayland session (`wavry dev` starts a headless one) and export WAYLAND_DISPLAY", "WAYLAND_DISPLAY is not set")
	}
	if !filepath.IsAbs(display) {
		display = filepath.Join(n.env["XDG_RUNTIME_DIR"], display)
	}
	globals, err := listGlobals(ctx, n.dial, n.path(display))
	if err != nil {
		return fail(checkCompositor, "check that the compositor runs and that WAYLAND_DISPLAY names its socket", "%v", err)
	}
	kind := compositorKind(globals, n.env["XDG_CURRENT_DESKTOP"])
	var ways []string
	for _, way := range captureGlobals {
		if v, offered := globals[way]; offered {
			ways = append(ways, fmt.Sprintf("%s v%d", way, v))
		}
	}
	return ok(checkCompositor, "%s with %d globals; for capture and input: %s", kind, len(globals), cmpOr(strings.Join(ways, ", "), "through portal and D-Bus only"))
}

// captureGlobals are the Wayland interfaces that our capture methods use.
var captureGlobals = []string{
	"zwlr_screencopy_manager_v1", "zwlr_virtual_pointer_manager_v1", "zwp_virtual_keyboard_manager_v1", "zkde_screencast_unstable_v1",
	"org_kde_kwin_fake_input", "zwp_linux_dmabuf_v1",
}

// compositorKind is told by private globals, which unlike an environment variable cannot be stale.
func compositorKind(globals map[string]uint32, desktop string) string {
	for _, k := range []struct{ global, kind string }{
		{"gtk_shell1", "gnome"}, {"org_kde_plasma_shell", "kde"}, {"org_kde_kwin_fake_input", "kde"}, {"zkde_screencast_unstable_v1", "kde"},
		{"zwlr_screencopy_manager_v1", "wlroots"}, {"weston_capture_v1", "weston"},
	} {
		if _, found := globals[k.global]; found {
			return k.kind
		}
	}
	return cmpOr(strings.ToLower(desktop), "unknown")
}

func cmpOr(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func (n *node) bus(ctx context.Context, _ *Result) Check {
	const name = "session_bus"
	conn, err := n.connectBus(ctx)
	if err != nil {
		return fail(name, "start the desktop under dbus-run-session or a user session, and export DBUS_SESSION_BUS_ADDRESS", "%v", err)
	}
	defer conn.Close()
	return ok(name, "%s", n.env["DBUS_SESSION_BUS_ADDRESS"])
}

func (n *node) connectBus(ctx context.Context) (*dbus.Conn, error) {
	address := n.env["DBUS_SESSION_BUS_ADDRESS"]
	if address == "" {
		return nil, errors.New("DBUS_SESSION_BUS_ADDRESS is not set")
	}
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	var conn *dbus.Conn
	err := n.as(func() (err error) {
		conn, err = dbus.Connect(address, dbus.WithContext(ctx))
		return err
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to the session bus: %w", err)
	}
	context.AfterFunc(conn.Context(), cancel)
	return conn, nil
}

const portalName = "org.freedesktop.portal.Desktop"

// portal asks the running portal for its interfaces; it says which backend implements them.
func (n *node) portal(ctx context.Context, r *Result) Check {
	const name = "portal"
	install := "install xdg-desktop-portal and the backend of the desktop (xdg-desktop-portal-gnome, -kde or -wlr); direct capture methods work without"
	conn, err := n.connectBus(ctx)
	if err != nil {
		return warn(name, "see session_bus", "no session bus to look for it")
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	var parts []string
	object := conn.Object(portalName, "/org/freedesktop/portal/desktop")
	for _, iface := range []string{"ScreenCast", "RemoteDesktop"} {
		var v dbus.Variant
		err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.portal."+iface, "version").Store(&v)
		if err != nil {
			return warn(name, install, "%s is not offered: %v", iface, err)
		}
		parts = append(parts, fmt.Sprintf("%s v%v", iface, v.Value()))
		r.Versions["portal/"+iface] = fmt.Sprint(v.Value())
	}
	return ok(name, "%s, backend %s", strings.Join(parts, ", "), cmpOr(strings.Join(backends(ctx, conn), ", "), "unknown"))
}

// backends are the portal implementations that run.
func backends(ctx context.Context, conn *dbus.Conn) []string {
	var names, list []string
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ListNames", 0).Store(&names); err != nil {
		return nil
	}
	for _, n := range names {
		if b, isBackend := strings.CutPrefix(n, "org.freedesktop.impl.portal.desktop."); isBackend {
			list = append(list, b)
		}
	}
	slices.Sort(list)
	return list
}

// pipewire connects to the daemon's socket and asks for its version where the tool is there.
func (n *node) pipewire(ctx context.Context, r *Result) Check {
	const name = "pipewire"
	remedy := "start pipewire and wireplumber in the session; wlr-screencopy works without"
	remote := cmpOr(n.env["PIPEWIRE_REMOTE"], "pipewire-0")
	if !filepath.IsAbs(remote) {
		remote = filepath.Join(cmpOr(n.env["PIPEWIRE_RUNTIME_DIR"], n.env["XDG_RUNTIME_DIR"]), remote)
	}
	c, err := n.dial("unix", n.path(remote))
	if err != nil {
		return warn(name, remedy, "no daemon: %v", err)
	}
	_ = c.Close()
	out, err := n.output(ctx, "pw-cli", "info", "0")
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return ok(name, "%s answers; install pipewire-bin to see its version", remote)
		}
		return warn(name, remedy, "%s accepts connections but does not answer: %v", remote, err)
	}
	version := quoted(out, "version:")
	if version != "" {
		r.Versions["pipewire"] = version
	}
	return ok(name, "%s, version %s", remote, cmpOr(version, "unknown"))
}

// quoted finds `key "value"` in a tool's output.
func quoted(out, key string) string {
	for line := range strings.Lines(out) {
		_, after, found := strings.Cut(line, key)
		if value := strings.Trim(strings.TrimSpace(after), `"`); found && value != "" {
			return value
		}
	}
	return ""
}

func (n *node) gstreamer(ctx context.Context, r *Result) Check {
	out, err := n.output(ctx, "gst-inspect-1.0", "--version")
	if err != nil {
		return warn(checkGStreamer, "install gstreamer1.0-tools to see the elements here; the plugins report what they miss themselves", "gst-inspect-1.0: %v", err)
	}
	for line := range strings.Lines(out) {
		if v, found := strings.CutPrefix(strings.TrimSpace(line), "GStreamer "); found {
			r.Versions["gstreamer"] = v
			return ok(checkGStreamer, "%s", v)
		}
	}
	return warn(checkGStreamer, "reinstall gstreamer1.0-tools", "gst-inspect-1.0 --version says %q", out)
}

// elementSet is what the plugins build pipelines from, with the package that has it.
var elementSet = []struct{ element, pkg, use string }{
	{"pipewiresrc", "gstreamer1.0-pipewire", "capture over PipeWire"},
	{"videoconvert", "gstreamer1.0-plugins-base", "encode-software"},
	{"x264enc", "gstreamer1.0-plugins-ugly", "encode-software"},
	{"openh264enc", "gstreamer1.0-plugins-bad", "encode-software"},
	{"h264parse", "gstreamer1.0-plugins-bad", "every encoder"},
	{"vah264enc", "gstreamer1.0-plugins-bad and a VA driver", "encode-vaapi"},
	{"nvh264enc", "gstreamer1.0-plugins-bad and NVIDIA's driver", "encode-nvenc"},
	{"opusenc", "gstreamer1.0-plugins-base", "audio"},
}

func (n *node) elements(ctx context.Context, _ *Result) Check {
	const name = "gstreamer_elements"
	var present, missing, packages []string
	for _, e := range elementSet {
		// Without a lowest version it wants GStreamer's own, which PipeWire's plugin does not have.
		_, err := n.output(ctx, "gst-inspect-1.0", "--exists", "--atleast-version=0.0", e.element)
		switch {
		case errors.Is(err, exec.ErrNotFound):
			return warn(name, "install gstreamer1.0-tools", "gst-inspect-1.0 is not installed")
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s (%s)", e.element, e.use))
			packages = append(packages, e.pkg)
		default:
			present = append(present, e.element)
		}
	}
	if len(missing) == 0 {
		return ok(name, "%s", strings.Join(present, ", "))
	}
	slices.Sort(packages)
	return warn(name, "for those that you want: "+strings.Join(slices.Compact(packages), "; "),
		"missing %s; present %s", strings.Join(missing, ", "), strings.Join(present, ", "))
}
