package desktop

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

var kdeRecipe = recipe{
	binaries:       []program{{"kwin_wayland", "kwin-wayland"}, {qtWaylandPlugin(), "qtwayland5"}},
	currentDesktop: "KDE",
	portals:        []string{"kde"},
	env: func(d *Desktop) []string {
		return []string{"KDE_FULL_SESSION=true", "KDE_SESSION_VERSION=5", "QT_QPA_PLATFORM=wayland"}
	},
	prepare:  prepareKDE,
	seeds:    map[string]string{".config/kwinrc": kwinSettings, ".config/kwinrulesrc": kwinRules, ".config/kdeglobals": kdeSettings},
	settled:  nothing,
	arranged: nothing,
	// Not foot, which divides by the width of an output in inches: KWin's virtual output is -1 mm wide (KWin 5.27, foot 1.13).
	apps: [][]string{{"konsole", "--hide-menubar", "--nofork"}},
}

// qtWaylandPlugin is where Qt 5 looks for its Wayland client, without which the portal's backend aborts. kwin-wayland only
// recommends it.
func qtWaylandPlugin() string {
	if found, err := filepath.Glob("/usr/lib/*/qt5/plugins/platforms/libqwayland-generic.so"); err == nil && len(found) > 0 {
		return found[0]
	}
	return "/usr/lib/qt5/plugins/platforms/libqwayland-generic.so"
}

// kwinSettings: no animations, see gnomeSettings.
const kwinSettings = `[Compositing]
LatencyPolicy=ExtremelyLow

[Plugins]
blurEnabled=false
contrastEnabled=false
`

// kwinRules maximises windows as they open. There is no panel to get at others, and KWin's virtual backend (5.27) gives no frames of
// a monitor, but does of a window.
const kwinRules = `[General]
count=1
rules=1

[1]
Description=Maximise
maximizehoriz=true
maximizehorizrule=3
maximizevert=true
maximizevertrule=3
types=1
wmclassmatch=0
`

const kdeSettings = `[KDE]
AnimationDurationFactor=0
`

func prepareKDE(d *Desktop) (argv, env []string, err error) {
	kwin, err := d.withoutCapability("kwin_wayland")
	if err != nil {
		return nil, nil, err
	}
	argv = []string{kwin, "--virtual", "--width", strconv.Itoa(d.cfg.Size.Width), "--height", strconv.Itoa(d.cfg.Size.Height),
		"--no-lockscreen", "--no-kactivities", "--socket", display}
	// Whoever reaches the socket may capture and inject; the socket's directory is the user's alone.
	env = []string{"KWIN_WAYLAND_NO_PERMISSION_CHECKS=1", "KWIN_SCREENSHOT_NO_PERMISSION_CHECKS=1"}
	return argv, env, nil
}

// withoutCapability returns a program that execs everywhere. Debian gives kwin_wayland CAP_SYS_RESOURCE; where that is not in the
// bounding set (containers) exec fails with EPERM, and where it is the kernel clears the parent-death signal. A copy has none.
func (d *Desktop) withoutCapability(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	if n, err := unix.Getxattr(path, "security.capability", nil); err != nil || n == 0 {
		return path, nil
	}
	to := filepath.Join(d.places.conf, name)
	if err := copyProgram(path, to); err != nil {
		return "", fmt.Errorf("copy %s: %w", name, err)
	}
	return to, os.Chmod(to, 0o755)
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
