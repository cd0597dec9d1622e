package desktop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// orderly is what the guard reads when the desktop ended by itself.
const orderly = "bye"

// startGuard starts Config.Guard with the read end of a pipe as its standard input and the state directory's lock, so that the
// directory stays taken until the guard is done. The returned function dismisses it.
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
	cmd := exec.Command(d.cfg.Guard[0], append(d.cfg.Guard[1:], d.id, remove)...)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	cmd.ExtraFiles = []*os.File{d.places.lock}
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
// processes and removes the directory. It is the body of the command named in Config.Guard.
func Guard(stdin io.Reader, id, remove string) error {
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("desktop id %q: must be 16 hexadecimal digits", id)
	}
	if base := filepath.Base(remove); base != "run" && !strings.HasPrefix(base, "wavry-desktop-") {
		return fmt.Errorf("directory %q: is none that a desktop made", remove)
	}
	said, err := io.ReadAll(stdin)
	if err == nil && string(said) == orderly {
		return nil
	}
	none := func() []int { return nil }
	return errors.Join(err, killMarked(id, guardGrace, none, func() {}), os.RemoveAll(remove))
}
