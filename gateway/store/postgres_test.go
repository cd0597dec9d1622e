//go:build integration

package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/store/pgtest"
)

var databases atomic.Int64

func postgresConfig(t *testing.T, pg *pgtest.Server) Config {
	return Config{Driver: Postgres, DSN: pg.Create(t, fmt.Sprint("db", databases.Add(1))), RetryFor: time.Minute}
}

// PostgreSQL does what every database must do, from every released schema on.
func TestPostgresConforms(t *testing.T) {
	pg := pgtest.Start(t)
	conform(t, func(t *testing.T) *Store { return openConfig(t, postgresConfig(t, pg)) })
	migrateFrom(t, func(t *testing.T) *Store {
		s, err := connect(postgresConfig(t, pg), false)
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		return s
	})
}

// Gateways that start together on an empty database migrate it once.
func TestPostgresMigratesOnce(t *testing.T) {
	cfg := postgresConfig(t, pgtest.Start(t))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Writes that meet a restart of PostgreSQL are done exactly as often as they were acknowledged.
func TestPostgresRestart(t *testing.T) {
	pg := pgtest.Start(t)
	s := openConfig(t, postgresConfig(t, pg))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var done atomic.Int64
	wg.Go(func() {
		for ctx.Err() == nil {
			u := User{ID: fmt.Sprint("u", done.Load()), Name: fmt.Sprint("user", done.Load()), Role: RoleViewer, CreatedAt: start}
			if err := s.CreateUser(context.WithoutCancel(ctx), u, act("user.create")); err != nil {
				t.Error(err)
				return
			}
			done.Add(1)
		}
	})
	for range 2 {
		before := done.Load()
		must(t, pg.Down())
		must(t, pg.Up())
		waitFor(t, func() bool { return done.Load() > before+10 })
	}
	cancel()
	wg.Wait()
	users, err := s.Users(t.Context())
	must(t, err)
	entries, err := s.Audit(t.Context(), 0, 1)
	must(t, err)
	if int64(len(users)) != done.Load() || len(entries) != 1 {
		t.Fatalf("%d accounts of %d acknowledged", len(users), done.Load())
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatal("not within a minute")
		case <-tick.C:
		}
	}
}

// pg_dump and pg_restore carry everything to an empty database; a full one is refused.
func TestPostgresBackupRestore(t *testing.T) {
	pg := pgtest.Start(t)
	s := openConfig(t, postgresConfig(t, pg))
	addUser(t, s, "u", RoleAdmin)
	report, err := s.Backup(t.Context(), t.TempDir(), start)
	must(t, err)
	target := postgresConfig(t, pg)
	restored, err := Restore(t.Context(), report.Path, target)
	must(t, err)
	if restored.Users != 1 || restored.Schema != len(migrations) {
		t.Fatalf("restored %+v", restored)
	}
	must(t, openConfig(t, target).SetRole(t.Context(), "u-u", RoleAdmin, act("user.role")))
	_, err = Restore(t.Context(), report.Path, target)
	want(t, err, ErrExists)
}
