package desktop

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/godbus/dbus/v5"
)

// busConfig is a dbus-daemon configuration. It takes only its own user: whoever else wants to talk on it acts as that one.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
<type>%s</type>
<listen>unix:path=%s</listen>
<auth>EXTERNAL</auth>
%s
<policy context="default">
<allow own="*"/>
<allow send_type="method_call"/><allow send_type="signal"/><allow send_requested_reply="true"/>
<allow receive_type="method_call"/><allow receive_type="signal"/>
<allow send_type="method_return"/><allow send_type="error"/><allow receive_type="method_return"/><allow receive_type="error"/>
</policy>
</busconfig>
`

// writeBusConfig returns the argument vector of a bus that listens on socket. A session bus activates services, a system bus of ours
// only exists, for gnome-shell gives up without one.
func (d *Desktop) writeBusConfig(kind, socket string) ([]string, error) {
	services := ""
	if kind == "session" {
		services = "<standard_session_servicedirs/>"
	}
	path, err := d.write(kind+"-bus.conf", fmt.Sprintf(busConfig, kind, socket, services))
	if err != nil {
		return nil, err
	}
	return []string{"dbus-daemon", "--config-file=" + path, "--nofork", "--nopidfile"}, nil
}

// busAnswers connects, which includes the bus's own Hello.
func busAnswers(ctx context.Context, socket string) error {
	c, err := connectBus(ctx, socket)
	if err != nil {
		return err
	}
	return c.Close()
}

func connectBus(ctx context.Context, socket string) (*dbus.Conn, error) {
	return dbus.Connect("unix:path="+socket, dbus.WithContext(ctx))
}

// busHasName asks whether someone owns the name.
func busHasName(ctx context.Context, socket, name string) error {
	c, err := connectBus(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	var owned bool
	if err := c.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil {
		return err
	}
	if !owned {
		return fmt.Errorf("nobody owns %s on the bus", name)
	}
	return nil
}

// portalAnswers reads a property of the portal's screen cast interface, which starts portal and backend.
func portalAnswers(ctx context.Context, socket string) error {
	c, err := connectBus(ctx, socket)
	if err != nil {
		return err
	}
	defer c.Close()
	portal := c.Object("org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop")
	var version dbus.Variant
	return portal.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.portal.ScreenCast", "version").Store(&version)
}

// writePortals leaves only this desktop's backend visible; the portal starts every backend that it sees.
func (d *Desktop) writePortals() error {
	for _, name := range d.recipe.portals {
		text, err := readOptional(portalFile(name))
		if err != nil {
			return err
		}
		if text == "" {
			continue // not installed: the desktop works, its portal does not, and the capture probe says so
		}
		if _, err := d.write(filepath.Join("portals", name+".portal"), text); err != nil {
			return err
		}
	}
	return nil
}

// portalsConf names the preferred backend. It is read by xdg-desktop-portal 1.17 and later; earlier ones go by UseIn.
func (d *Desktop) portalsConf() (path, text string) {
	path = ".config/xdg-desktop-portal/" + strings.ToLower(d.recipe.currentDesktop) + "-portals.conf"
	return path, "[preferred]\ndefault=" + strings.Join(d.recipe.portals, ";") + "\n"
}
