package desktop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/asroot"
)

// places are the paths of one desktop. The state directory and everything in it are ours, and nobody else can change them, but for
// run and home: these are the user's, and when we are root we make them, move them aside whole and remove them, and touch nothing
// inside: what must be written there is written by a process of the user (seed), and we connect to sockets with the user's rights.
type places struct {
	state string
	run   string // XDG_RUNTIME_DIR
	home  string
	conf  string // our generated files, which the user can only read
	old   string // 0700: what is being removed
	claim string // socket of the supervisor
	used  string // exists while somebody has, or had, the desktop
	found bool   // the home was there before: what is in it is somebody's, whether or not there is a note of that

	lock *os.File // held while the desktop runs
	uid  *os.File // lock of the user, when we are root
}

func placesIn(state string) places {
	in := func(name string) string { return filepath.Join(state, name) }
	return places{state: state, run: in("run"), home: in("home"), conf: in("conf"), old: in("old"), claim: in("claim"), used: in("used")}
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

// openPlaces creates and locks the state directory and finds the user. The returned function removes what does not stay and unlocks.
func (d *Desktop) openPlaces() (func() error, error) {
	temporary := d.cfg.StateDir == ""
	if temporary {
		dir, err := os.MkdirTemp("", "wavry-desktop-")
		if err != nil {
			return nil, fmt.Errorf("create state directory: %w", err)
		}
		d.places = placesIn(dir)
	}
	if err := d.open(); err != nil {
		err = errors.Join(err, d.places.unlock())
		if temporary {
			err = errors.Join(err, os.RemoveAll(d.places.state))
		}
		return nil, err
	}
	return func() error {
		defer d.places.unlock()
		if temporary {
			return d.places.remove()
		}
		return d.places.close()
	}, nil
}

func (d *Desktop) open() error {
	p := &d.places
	if err := asroot.CheckPath(p.state); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(p.state, 0o711); err != nil {
		return fmt.Errorf("create state directory: %w", err)
	}
	var err error
	if p.lock, err = lockFile(filepath.Join(p.state, "lock"), lockPatience); err != nil {
		return fmt.Errorf("%s: %w", p.state, err)
	}
	if err := os.Chmod(p.state, 0o711); err != nil {
		return err
	}
	if err := d.chooseUser(); err != nil {
		return err
	}
	if err := errors.Join(checkReachable(p.state, *d.cfg.User), p.discard(p.run)); err != nil {
		return err
	}
	_, err = os.Lstat(p.home)
	p.found = err == nil
	return p.makeHome(*d.cfg.User)
}

// remove leaves nothing.
func (p places) remove() error {
	return errors.Join(p.discard(p.run), p.discard(p.home), os.RemoveAll(p.state))
}

// close leaves the state directory to nobody but us: its user may be another desktop's next.
func (p places) close() error {
	return errors.Join(p.discard(p.run), os.RemoveAll(p.conf), removeIfThere(p.claim), os.Chmod(p.state, 0o700))
}

func (p *places) unlock() error {
	var err error
	for _, f := range []*os.File{p.lock, p.uid} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// lockFile takes an exclusive lock that ends with the process, and with those that inherit the file.
func lockFile(path string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(patience); ; time.Sleep(pollEvery) {
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

// freshRun makes an empty runtime directory, for sockets of a dead stack would only mislead, and an empty place for our files.
func (p places) freshRun(u User) error {
	if err := errors.Join(p.discard(p.run), os.RemoveAll(p.conf)); err != nil {
		return fmt.Errorf("clear runtime directory: %w", err)
	}
	return errors.Join(makeOwn(p.run, u), makeDir(p.conf))
}

// makeHome makes the user's home unless it is there.
func (p places) makeHome(u User) error {
	info, err := os.Lstat(p.home)
	if errors.Is(err, fs.ErrNotExist) {
		return makeOwn(p.home, u)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() || owner(info) != u.UID {
		return fmt.Errorf("%s: belongs to uid %d, and the desktop runs as %d: remove it, or choose that user with -user", p.home, owner(info), u.UID)
	}
	return nil
}

// discard removes a directory of the user's. It first moves it to where the user cannot follow.
func (p places) discard(dir string) error {
	if err := os.Mkdir(p.old, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(dir, filepath.Join(p.old, newID())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(unmountBelow(p.old), os.RemoveAll(p.old))
}

// markUsed notes that the desktop is somebody's from now on, and whether it will be emptied.
func (p places) markUsed(keep bool) error {
	text := "emptied"
	if keep {
		text = "kept"
	}
	if err := os.WriteFile(p.used, []byte(text+"\n"), 0o600); err != nil {
		return fmt.Errorf("note that the desktop is used: %w", err)
	}
	return nil
}

// wasUsed reads markUsed's note.
func (p places) wasUsed() (used, keep bool) {
	text, err := os.ReadFile(p.used)
	return !errors.Is(err, fs.ErrNotExist), string(text) == "kept\n"
}

// makeOwn makes a directory in one of ours and gives it to the user.
func makeOwn(dir string, u User) error {
	return errors.Join(os.Mkdir(dir, 0o700), u.own(dir))
}

// makeDir makes a directory that everybody may read, whatever our umask.
func makeDir(dir string) error {
	return errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755))
}

// checkReachable finds the directory above dir, or dir itself, that the user may not enter.
func checkReachable(dir string, u User) error {
	if os.Geteuid() != 0 {
		return nil
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

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write puts a generated file below conf, where the user can read it.
func (d *Desktop) write(name, text string) (path string, err error) {
	path = filepath.Join(d.places.conf, name)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
		return "", fmt.Errorf("write desktop configuration: %w", err)
	}
	return path, nil
}
