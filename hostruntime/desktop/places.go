package desktop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// places are the paths of one desktop.
type places struct {
	state string
	run   string // XDG_RUNTIME_DIR
	home  string
	conf  string // our generated files, below run

	lock *os.File // held while the desktop runs
}

func placesIn(state string) places {
	run := filepath.Join(state, "run")
	return places{state: state, run: run, home: filepath.Join(state, "home"), conf: filepath.Join(run, "wavry")}
}

// plainPath keeps paths free of characters that D-Bus addresses, sway's configuration or environment files would need escaped.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9/._+@-]*$`)

func validateStateDir(dir string) error {
	switch {
	case dir == "":
		return nil
	case !plainPath.MatchString(dir):
		return fmt.Errorf("state directory %q: must be an absolute path of letters, digits and / . _ + @ -", dir)
	case len(dir) > MaxStateDir:
		return fmt.Errorf("state directory %q: has %d bytes, and at most %d leave room for socket names", dir, len(dir), MaxStateDir)
	}
	return nil
}

// openPlaces creates and locks the state directory. The returned function removes what does not stay and unlocks.
func (d *Desktop) openPlaces() (func() error, error) {
	temporary := d.cfg.StateDir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "wavry-desktop-")
		if err != nil {
			return nil, fmt.Errorf("create state directory: %w", err)
		}
		d.places = placesIn(dir)
	}
	if err := d.places.open(*d.cfg.User); err != nil {
		if temporary {
			err = errors.Join(err, os.RemoveAll(d.places.state))
		}
		return nil, err
	}
	return func() error {
		defer d.places.lock.Close()
		if temporary {
			return os.RemoveAll(d.places.state)
		}
		return os.RemoveAll(d.places.run)
	}, nil
}

func (p *places) open(u User) error {
	if err := os.MkdirAll(p.state, 0o711); err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(p.state, "lock"))
	if err != nil {
		return fmt.Errorf("%s: %w", p.state, err)
	}
	if err := errors.Join(checkReachable(p.state, u), makeOwn(p.home, u)); err != nil {
		_ = lock.Close()
		return err
	}
	p.lock = lock
	return nil
}

// lockFile takes an exclusive lock that ends with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(lockPatience); ; time.Sleep(pollEvery) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(until) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// freshRun makes an empty runtime directory; sockets of a dead stack would only mislead.
func (p places) freshRun(u User) error {
	if err := os.RemoveAll(p.run); err != nil {
		return fmt.Errorf("clear runtime directory: %w", err)
	}
	return errors.Join(makeOwn(p.run, u), makeOwn(p.conf, u))
}

func makeOwn(dir string, u User) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Chmod(dir, 0o700), u.own(dir))
}

// checkReachable finds the directory above dir, or dir itself, that the user may not enter. It makes dir itself enterable.
func checkReachable(dir string, u User) error {
	if os.Geteuid() != 0 {
		return nil
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 && owner(info) == 0 {
		if err := u.own(dir); err != nil {
			return err
		}
	}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		if mode := info.Mode().Perm(); mode&0o001 == 0 && !(owner(info) == u.UID && mode&0o100 != 0) {
			return fmt.Errorf("state directory %s: user %d may not enter %s (mode %04o): choose another place or chmod o+x it", dir, u.UID, at, mode)
		}
	}
	return nil
}

func owner(info os.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// write puts a generated file below the desktop's directories and gives it to the user, with the directories on the way.
func (d *Desktop) write(path, text string, mode os.FileMode) error {
	if err := d.mkdirs(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return fmt.Errorf("write desktop configuration: %w", err)
	}
	return d.cfg.User.own(path)
}

// writeOnce is write for files that belong to the user once they exist.
func (d *Desktop) writeOnce(path, text string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return d.write(path, text, 0o600)
}

func (d *Desktop) mkdirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := d.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	return makeOwn(dir, *d.cfg.User)
}
