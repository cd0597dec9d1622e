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
	binaries:       []program{{"kwin_wayland", "kwin-wayland"}},
	currentDesktop: "KDE",
	portals:        []string{"kde"},
	env: func(d *Desktop) []string {
		return []string{"KDE_FULL_SESSION=true", "KDE_SESSION_VERSION=5", "QT_QPA_PLATFORM=wayland"}
	},
	prepare:  prepareKDE,
	settled:  nothing,
	arranged: nothing,
	// The window is maximised: KWin's virtual backend (5.27) gives no frames of a monitor, but does of a window.
	apps: terminal("-m"),
}

// kwinSettings: no animations, see gnomeSettings.
const kwinSettings = `[Compositing]
LatencyPolicy=ExtremelyLow

[Plugins]
blurEnabled=false
contrastEnabled=false
`

const kdeSettings = `[KDE]
AnimationDurationFactor=0
`

func prepareKDE(d *Desktop) (argv, env []string, err error) {
	if err := d.writeOnce(filepath.Join(d.places.home, ".config/kwinrc"), kwinSettings); err != nil {
		return nil, nil, err
	}
	if err := d.writeOnce(filepath.Join(d.places.home, ".config/kdeglobals"), kdeSettings); err != nil {
		return nil, nil, err
	}
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
	return to, d.cfg.User.own(to)
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
