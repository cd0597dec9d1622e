package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
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
	u := addUser(t, s, "u", RoleViewer)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := s.CountFailure(t.Context(), u.ID, start); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := s.UserByID(t.Context(), u.ID); err != nil || got.Failed != writers*each {
		t.Fatalf("counted %d of %d, %v", got.Failed, writers*each, err)
	}
}

// A backup is taken while writes go on, restores to what was there, and a restore never replaces anything.
func TestSQLiteBackupRestore(t *testing.T) {
	s := openConfig(t, sqliteConfig(t))
	u := addUser(t, s, "u", RoleAdmin)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.CountFailure(context.WithoutCancel(ctx), u.ID, start); err != nil {
				t.Error(err)
			}
		}
	})
	folder := t.TempDir()
	report, err := s.Backup(t.Context(), folder, start)
	cancel()
	wg.Wait()
	must(t, err)
	if report.Users != 1 || report.Schema != len(migrations) || report.Audit != 1 {
		t.Fatalf("report %+v", report)
	}
	target := sqliteConfig(t)
	restored, err := Restore(t.Context(), report.Path, target)
	must(t, err)
	if restored.Users != 1 {
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
