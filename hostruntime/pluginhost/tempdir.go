package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dirPrefix = "wavry-p"
	lockName  = "lock"
)

// TempDir is a 0700 directory for the sockets of one run. It is locked while its owner lives, so that a later host runtime can
// tell the directories of a killed one and remove them.
type TempDir struct {
	Path string
	lock *os.File
}

// NewTempDir makes a directory below base (empty: the system's) for the given user (nil: the own one). It first removes what
// host runtimes that were killed left there.
func NewTempDir(base string, owner *Credential) (*TempDir, error) {
	if base == "" {
		base = os.TempDir()
	}
	if len(base) > maxTempPath {
		return nil, fmt.Errorf("%w: %q has %d bytes, more than the %d that leave room for a unix socket's name",
			ErrTempDir, base, len(base), maxTempPath)
	}
	sweep(base)
	path, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTempDir, err)
	}
	d := &TempDir{Path: path}
	if err := d.prepare(owner); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrTempDir, err), d.Remove())
	}
	return d, nil
}

func (d *TempDir) prepare(owner *Credential) error {
	lock, err := os.OpenFile(filepath.Join(d.Path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	d.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return own(d.Path, owner)
}

// Remove deletes the directory and everything in it. It is idempotent.
func (d *TempDir) Remove() error {
	err := os.RemoveAll(d.Path)
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
		d.lock = nil
	}
	return err
}

func own(path string, owner *Credential) error {
	if owner == nil {
		return nil
	}
	return os.Chown(path, int(owner.UID), int(owner.GID))
}

// sweep removes directories of ours whose owner is gone. What it cannot remove (another user's) is not ours to report.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), dirPrefix) {
			sweepOne(filepath.Join(base, e.Name()))
		}
	}
}

// sweepAge is how old a directory must be: its owner makes the lock file and locks it within moments, but not at once.
const sweepAge = 10 * time.Second

// sweepOne leaves a young directory alone, and one that has no lock file.
func sweepOne(path string) {
	if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) < sweepAge {
		return
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.RemoveAll(path)
	}
}
