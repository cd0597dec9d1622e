package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sidecars are what SQLite keeps beside a database; they hold what it holds. It makes them with the database's own mode.
var sidecars = []string{"-wal", "-shm", "-journal"}

// keepPrivate makes sure that a SQLite database is its owner's alone, before it is opened: its folder is made 0700 and the file 0600, and
// those that are there are mended. A folder in which others may write is refused, since they could put files in the place of ours, and
// one that holds other things too stays as readable as it is.
func keepPrivate(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of the store: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at folder of the store: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("%w: others may write in %s (mode %04o); keep it in a folder of its own: chmod 0700 %s, or another store_dsn_secret",
			ErrOpenToOthers, dir, mode, dir)
	} else if mode&0o055 != 0 && ownFolder(path) {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("mend folder of the store: %w", err)
		}
	}
	// By path, which nobody else can change now: closing a descriptor of a database would end the locks that this process has on it.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the store: %w", err)
	}
	for _, suffix := range append([]string{""}, sidecars...) {
		if err := mend(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mend takes a file away from everybody but its owner.
func mend(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("%w: %s has mode %04o: %w", ErrOpenToOthers, path, info.Mode().Perm(), err)
	}
	return nil
}

// ownFolder reports whether a database's folder holds nothing but the database.
func ownFolder(path string) bool {
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), filepath.Base(path)) {
			return false
		}
	}
	return err == nil
}
