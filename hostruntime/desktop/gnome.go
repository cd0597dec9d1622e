package desktop

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

var gnomeRecipe = recipe{
	binaries:       []program{{"gnome-shell", "gnome-shell"}},
	currentDesktop: "GNOME",
	portals:        []string{"gnome", "gtk"},
	systemBus:      true,
	env: func(d *Desktop) []string {
		env := []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + d.systemBus(), "GSETTINGS_BACKEND=keyfile"}
		if !hasGPU() {
			env = append(env, "LIBGL_ALWAYS_SOFTWARE=1")
		}
		return env
	},
	prepare: prepareGNOME,
	seeds: map[string]string{
		".config/glib-2.0/settings/keyfile": gnomeSettings,
		// gnome-shell warns once that it has no lock screen, and remembers by this file that it has.
		".local/share/gnome-shell/lock-warning-shown": "",
	},
	settled: func(ctx context.Context, d *Desktop) error {
		return busHasName(ctx, d.sessionBus(), "org.gnome.Mutter.ScreenCast")
	},
	arranged: leaveOverview,
	apps:     terminal("-m"),
}

// gnomeSettings are GSettings in the keyfile backend's form. They are the user's once written. No animations: each costs frames of
// a software renderer and of the encoder. No lock screen, no sleep: nobody sits at the machine.
const gnomeSettings = `[org/gnome/desktop/interface]
enable-animations=false
color-scheme='prefer-dark'
enable-hot-corners=false

[org/gnome/desktop/background]
picture-options='none'
picture-uri=''
picture-uri-dark=''
primary-color='#1f2b38'
color-shading-type='solid'

[org/gnome/desktop/session]
idle-delay=uint32 0

[org/gnome/desktop/screensaver]
lock-enabled=false
idle-activation-enabled=false

[org/gnome/desktop/lockdown]
disable-lock-screen=true

[org/gnome/desktop/wm/preferences]
button-layout='appmenu:minimize,maximize,close'

[org/gnome/shell]
welcome-dialog-last-shown-version='4294967295'
favorite-apps=['foot.desktop']

[org/gnome/settings-daemon/plugins/power]
sleep-inactive-ac-type='nothing'
`

func prepareGNOME(d *Desktop) (argv, env []string, err error) {
	return []string{"gnome-shell", "--headless", "--wayland", "--no-x11", "--virtual-monitor", d.cfg.Size.String(), "--wayland-display", display}, nil, nil
}

// leaveOverview shows the desktop instead of the overview that gnome-shell starts with. The overview comes some time after the shell is
// on the bus, so it is waited for: closing it before is without effect, and a click of a viewer would go to it.
func leaveOverview(ctx context.Context, d *Desktop) error {
	c, err := connectBus(ctx, d.sessionBus())
	if err != nil {
		return err
	}
	defer c.Close()
	shell := c.Object("org.gnome.Shell", "/org/gnome/Shell")
	for until := time.Now().Add(overviewTimeout); time.Now().Before(until); {
		var active bool
		err := shell.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.gnome.Shell", "OverviewActive").Store(&active)
		if err != nil {
			return err
		}
		if active {
			return shell.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Set", 0, "org.gnome.Shell", "OverviewActive", dbus.MakeVariant(false)).Err
		}
		if !sleep(ctx, pollEvery) {
			return ctx.Err()
		}
	}
	return nil // this shell has none
}
