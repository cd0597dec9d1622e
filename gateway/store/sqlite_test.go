package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

func sqliteConfig(t *testing.T) Config {
	return Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "gateway ?#%.sqlite")}
}

func openConfig(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// SQLite does what every database must do.
func TestSQLiteConforms(t *testing.T) {
	conform(t, func(t *testing.T) *Store { return openConfig(t, sqliteConfig(t)) })
}

// Every schema ever released migrates to the present one on SQLite.
func TestSQLiteMigrates(t *testing.T) {
	migrateFrom(t, func(t *testing.T) *Store {
		s, err := connect(sqliteConfig(t), false)
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return s
	})
}

// A database is its owner's alone: made so, mended where it was not, with all that SQLite and a backup put beside it; and a folder in which
// others may write is refused.
func TestSQLiteIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	mode := func(path string) fs.FileMode {
		info, err := os.Stat(path)
		must(t, err)
		return info.Mode().Perm()
	}
	dir := filepath.Join(t.TempDir(), "store")
	cfg := Config{Driver: SQLite, DSN: filepath.Join(dir, "gateway.sqlite")}
	for _, spoil := range []fs.FileMode{0o700, 0o755} {
		s, err := Open(t.Context(), cfg)
		must(t, err)
		addUser(t, s, fmt.Sprintf("u%o", spoil), RoleViewer) // so that there is a journal
		names, err := filepath.Glob(cfg.DSN + "*")
		must(t, err)
		if len(names) < 2 || mode(dir) != 0o700 {
			t.Fatalf("folder %o holds %v", mode(dir), names)
		}
		for _, name := range names {
			if mode(name) != 0o600 {
				t.Errorf("%s has mode %o", name, mode(name))
			}
		}
		must(t, s.Close())
		must(t, errors.Join(os.Chmod(dir, spoil), os.Chmod(cfg.DSN, 0o644), os.WriteFile(cfg.DSN+"-journal", nil, 0o666)))
	}
	s, err := Open(t.Context(), cfg)
	must(t, err)
	if mode(cfg.DSN) != 0o600 || mode(cfg.DSN+"-journal") != 0o600 {
		t.Errorf("what was open to others stays so: %o", mode(cfg.DSN))
	}
	folder := filepath.Join(t.TempDir(), "backup")
	report, err := s.Backup(t.Context(), folder, start)
	must(t, err)
	if mode(report.Path) != 0o600 || mode(folder) != 0o700 {
		t.Errorf("backup %o in %o", mode(report.Path), mode(folder))
	}
	must(t, s.Close())
	must(t, os.Chmod(dir, 0o777))
	_, err = Open(t.Context(), cfg)
	want(t, err, ErrOpenToOthers)
	shared := filepath.Join(t.TempDir(), "shared") // somebody else's things are there: readable as it was, and the database is not
	must(t, errors.Join(os.Mkdir(shared, 0o755), os.WriteFile(filepath.Join(shared, "notes"), nil, 0o644)))
	s = openConfig(t, Config{Driver: SQLite, DSN: filepath.Join(shared, "gateway.sqlite")})
	if mode(shared) != 0o755 || mode(s.cfg.DSN) != 0o600 {
		t.Errorf("shared folder %o, database %o", mode(shared), mode(s.cfg.DSN))
	}
}

// What was committed is there after closing and opening again.
func TestSQLiteKeeps(t *testing.T) {
	cfg := sqliteConfig(t)
	s, err := Open(t.Context(), cfg)
	must(t, err)
	addUser(t, s, "u", RoleViewer)
	must(t, s.Close())
	_, err = openConfig(t, cfg).UserByName(t.Context(), "u")
	must(t, err)
}

// Writers do not lose each other's changes nor fail on the lock.
func TestSQLiteConcurrentWriters(t *testing.T) {
	s := openConfig(t, sqliteConfig(t))
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := s.Record(t.Context(), act("write")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := s.Audit(t.Context(), 0, MaxAuditPage); err != nil || len(got) != writers*each {
		t.Fatalf("found %d of %d, %v", len(got), writers*each, err)
	}
}

// A backup is taken while writes go on, restores to what was there, and a restore never replaces anything.
func TestSQLiteBackupRestore(t *testing.T) {
	s := openConfig(t, sqliteConfig(t))
	addUser(t, s, "u", RoleAdmin)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.Record(context.WithoutCancel(ctx), act("write")); err != nil {
				t.Error(err)
			}
		}
	})
	folder := t.TempDir()
	report, err := s.Backup(t.Context(), folder, start)
	cancel()
	wg.Wait()
	must(t, err)
	if report.Users != 1 || report.Schema != len(migrations) || report.Audit < 1 { // the writes go on meanwhile
		t.Fatalf("report %+v", report)
	}
	target := sqliteConfig(t)
	restored, err := Restore(t.Context(), report.Path, target)
	must(t, err)
	if restored.Users != 1 || restored.Audit != report.Audit {
		t.Fatalf("restored %+v", restored)
	}
	got, err := openConfig(t, target).UserByName(t.Context(), "u")
	must(t, err)
	if got.Role != RoleAdmin {
		t.Fatalf("restored account %+v", got)
	}
	_, err = Restore(t.Context(), report.Path, target)
	want(t, err, ErrExists)
}

// A damaged, empty, cut or foreign file is refused as a backup.
func TestSQLiteVerifyRefuses(t *testing.T) {
	s := openConfig(t, sqliteConfig(t))
	for i := range 200 {
		addUser(t, s, fmt.Sprint("user", i), RoleViewer)
	}
	report, err := s.Backup(t.Context(), t.TempDir(), start)
	must(t, err)
	good, err := os.ReadFile(report.Path)
	must(t, err)
	damaged := append([]byte(nil), good...)
	for i := len(damaged) / 2; i < len(damaged)/2+4096; i++ {
		damaged[i] ^= 0xff
	}
	for name, data := range map[string][]byte{"empty": nil, "cut": good[:len(good)/2], "foreign": []byte("not a database at all"), "damaged": damaged} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "backup.sqlite")
			must(t, os.WriteFile(path, data, 0o600))
			_, err := Verify(t.Context(), SQLite, path)
			want(t, err, ErrBackup)
			_, err = Restore(t.Context(), path, sqliteConfig(t))
			want(t, err, ErrBackup)
		})
	}
}

// Retention keeps the newest backups and clears what an interrupted one left.
func TestPrune(t *testing.T) {
	s := openConfig(t, sqliteConfig(t))
	folder := t.TempDir()
	var newest string
	for i := range 4 {
		report, err := s.Backup(t.Context(), folder, start.Add(time.Duration(i)*time.Hour))
		must(t, err)
		newest = report.Path
	}
	must(t, os.WriteFile(filepath.Join(folder, backupPrefix+"x.sqlite"+partial), nil, 0o600))
	removed, err := Prune(folder, SQLite, 2)
	must(t, err)
	left, err := Backups(folder, SQLite)
	must(t, err)
	if len(removed) != 3 || len(left) != 2 || left[1] != newest {
		t.Fatalf("removed %v, left %v", removed, left)
	}
}
