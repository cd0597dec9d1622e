package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/asroot"
)

const (
	dirPrefix   = "wavry-p"
	cachePrefix = "wavry-cache" // of the one that encoders of a host share, see Users
	lockName    = "lock"
	workName    = "work"
)

// TempDir is a directory of ours with one directory of a plugin's user in it. Only we can change what stands beside Work, so nobody
// can put something else in Work's place; what is in it belongs to that user, and we follow no name there. It is locked while its owner
// lives, so that a later host runtime can tell the directories of a killed one and remove them.
type TempDir struct {
	Path string
	Work string // 0700, the user's
	base *os.Root
	root *os.Root // Path
	lock *os.File
}

// NewTempDir makes a directory below base (empty: the system's) for the given user (nil: the own one). It first removes what
// host runtimes that were killed left there.
func NewTempDir(base string, user *Credential) (*TempDir, error) {
	return newTempDir(base, dirPrefix, user)
}

func newTempDir(base, prefix string, user *Credential) (*TempDir, error) {
	if base == "" {
		base = os.TempDir()
	}
	if len(base) > maxTempPath {
		return nil, fmt.Errorf("%w: %q has %d bytes, more than the %d that leave room for a unix socket's name",
			ErrTempDir, base, len(base), maxTempPath)
	}
	d := &TempDir{}
	if err := d.make(base, prefix, user); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrTempDir, err), d.Remove())
	}
	return d, nil
}

func (d *TempDir) make(base, prefix string, user *Credential) (err error) {
	if err := asroot.CheckPath(base); err != nil {
		return err
	}
	if d.base, err = os.OpenRoot(base); err != nil {
		return err
	}
	sweep(d.base)
	if d.Path, err = os.MkdirTemp(base, prefix); err != nil {
		return err
	}
	if d.root, err = d.base.OpenRoot(filepath.Base(d.Path)); err != nil {
		return err
	}
	if d.lock, err = d.root.OpenFile(lockName, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	d.Work = filepath.Join(d.Path, workName)
	if err := d.root.Mkdir(workName, 0o700); err != nil || user == nil {
		return err
	}
	// Others pass through to what they know, and list nothing.
	return errors.Join(d.root.Lchown(workName, int(user.UID), int(user.GID)), d.root.Chmod(".", 0o711))
}

// Remove deletes the directory and everything in it, by descriptors and without following a link. It is idempotent.
func (d *TempDir) Remove() error {
	var problems []error
	if d.root != nil {
		problems = append(problems, clearDir(d.root), d.root.Close(), d.base.Remove(filepath.Base(d.Path)))
		d.root = nil
	}
	if d.lock != nil {
		problems = append(problems, d.lock.Close())
		d.lock = nil
	}
	if d.base != nil {
		problems = append(problems, d.base.Close())
		d.base = nil
	}
	return errors.Join(problems...)
}

// clearDir removes all that is in a directory of ours: what its user made with that user's rights, what is left then without following a link.
func clearDir(dir *os.Root) error {
	if work, err := dir.OpenRoot(workName); err == nil { // else it is gone or was never made
		if info, err := work.Stat("."); err == nil {
			if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() {
				_ = asroot.AsUser(st.Uid, st.Gid, func() error { return empty(work) })
			}
		}
		_ = work.Close() // nothing was written
	}
	return empty(dir)
}

// empty removes all that is in dir. It starts no goroutine.
func empty(dir *os.Root) error {
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	problems := []error{err, f.Close()}
	for _, name := range names {
		problems = append(problems, dir.RemoveAll(name))
	}
	return errors.Join(problems...)
}

// sweep removes directories of ours whose owner is gone. What it cannot remove is not ours to report.
func sweep(base *os.Root) {
	f, err := base.Open(".")
	if err != nil {
		return
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && (strings.HasPrefix(e.Name(), dirPrefix) || strings.HasPrefix(e.Name(), cachePrefix)) {
			sweepOne(base, e.Name())
		}
	}
}

// sweepAge is how old a directory must be: its owner makes the lock file and locks it within moments, but not at once.
const sweepAge = 10 * time.Second

// sweepOne leaves a young directory alone, one that has no lock file, and one that is not ours: anybody can make that name in /tmp.
func sweepOne(base *os.Root, name string) {
	dir, err := base.OpenRoot(name)
	if err != nil {
		return
	}
	defer dir.Close()
	info, err := dir.Stat(".")
	if err != nil || time.Since(info.ModTime()) < sweepAge || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return
	}
	if named, err := base.Lstat(name); err != nil || !os.SameFile(info, named) {
		return // a link to a directory of ours
	}
	lock, err := dir.OpenFile(lockName, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = errors.Join(clearDir(dir), base.Remove(name))
	}
}
