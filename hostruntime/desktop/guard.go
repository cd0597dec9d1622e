package desktop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// orderly is what the guard reads when the desktop ended by itself.
const orderly = "bye"

// startGuard starts Config.Guard with the read end of a pipe as its standard input and the locks of the state directory and of the
// user, so that these stay taken until the guard is done. The returned function dismisses it.
func (d *Desktop) startGuard() (release func(), err error) {
	if len(d.cfg.Guard) == 0 {
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	defer r.Close()
	remove := d.places.run
	if d.cfg.StateDir == "" {
		remove = d.places.state
	}
	alone := User{} // nobody: only what is marked is ended
	if d.alone {
		alone = *d.cfg.User
	}
	cmd := exec.Command(d.cfg.Guard[0], append(slices.Clone(d.cfg.Guard[1:]), d.id, remove, alone.String())...)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	cmd.ExtraFiles = []*os.File{d.places.lock}
	if d.places.uid != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, d.places.uid)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("start guard: %w", err)
	}
	d.guardPID = cmd.Process.Pid
	return func() {
		_, _ = io.WriteString(w, orderly) // a guard that is dead needs no telling
		_ = w.Close()
		_ = cmd.Wait() // its status says nothing about the desktop, which is down already
	}, nil
}

// Guard waits until stdin ends. If the desktop with this id had no time to say that it ended in order, Guard kills all its
// processes, and all of the user that is the desktop's alone (0:0: there is none), and removes the directory. It is the body of the
// command named in Config.Guard.
func Guard(stdin io.Reader, id, remove, alone string) error {
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("desktop id %q: must be 16 hexadecimal digits", id)
	}
	if base := filepath.Base(remove); base != "run" && !strings.HasPrefix(base, "wavry-desktop-") {
		return fmt.Errorf("directory %q: is none that a desktop made", remove)
	}
	user, err := ParseUser(alone)
	if err != nil {
		return err
	}
	said, err := io.ReadAll(stdin)
	if err == nil && string(said) == orderly {
		return nil
	}
	err = errors.Join(err, killMarked(id, guardGrace, func() []int { return nil }, func() {}))
	if user.UID != 0 {
		err = errors.Join(err, killEverythingOf(user, func() {}), sweep(user))
	}
	if filepath.Base(remove) == "run" {
		return errors.Join(err, placesIn(filepath.Dir(remove)).close())
	}
	return errors.Join(err, placesIn(remove).remove())
}
