package desktop

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// program is what a desktop needs and where it comes from.
type program struct {
	name string // looked up in PATH, or a file's absolute path
	pkg  string // Debian package
}

func commonBinaries() []program {
	return []program{{"dbus-daemon", "dbus-daemon"}, {"pipewire", "pipewire"}, {"wireplumber", "wireplumber"}, {"tar", "tar"}, {"getent", "libc-bin"}}
}

func checkBinaries(list []program) error {
	var problems []error
	for _, b := range list {
		if !installed(b.name) {
			problems = append(problems, &MissingBinaryError{Binary: filepath.Base(b.name), Package: b.pkg})
		}
	}
	return errors.Join(problems...)
}

func installed(name string) bool {
	if filepath.IsAbs(name) {
		info, err := os.Stat(name)
		return err == nil && info.Mode().IsRegular()
	}
	_, err := exec.LookPath(name)
	return err == nil
}

// portalFile is where Debian's portal backends describe themselves.
func portalFile(name string) string {
	return "/usr/share/xdg-desktop-portal/portals/" + name + ".portal"
}
