package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Verify checks that the backup at path can be restored: for SQLite the whole file is checked and read, for PostgreSQL the archive's
// table of contents is read and must name our tables (a full check is a restore into an empty database).
func Verify(ctx context.Context, d Driver, path string) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	report := Report{Path: path, Bytes: info.Size()}
	if d == Postgres {
		err = run(ctx, "", "pg_restore", "--list", "--file="+os.DevNull, path)
	} else {
		err = verifySQLite(ctx, path, &report)
	}
	if err != nil {
		return Report{}, fmt.Errorf("%w: verify %s: %w", ErrBackup, path, err)
	}
	return report, nil
}

func verifySQLite(ctx context.Context, path string, report *Report) (err error) {
	s, err := connect(Config{Driver: SQLite, DSN: path}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	c := conn{ctx, s.db, s.dialect}
	var verdict string
	if err := c.row(`PRAGMA integrity_check`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("integrity check: %s", verdict)
	}
	broken, err := list(c, func(r scanner) (table string, err error) {
		var rowid, parent, fk any
		return table, r.Scan(&table, &rowid, &parent, &fk)
	}, `PRAGMA foreign_key_check`)
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d rows point nowhere, first in table %s", len(broken), broken[0])
	}
	return s.inspect(ctx, report)
}

// inspect fills in what the database holds and refuses a schema this release does not know.
func (s *Store) inspect(ctx context.Context, report *Report) error {
	c := conn{ctx, s.db, s.dialect}
	if _, err := appliedSteps(c, migrations); err != nil {
		return err
	}
	return c.row(`SELECT (SELECT MAX(version) FROM schema_versions), (SELECT COUNT(*) FROM users), (SELECT COUNT(*) FROM audit)`).
		Scan(&report.Schema, &report.Users, &report.Audit)
}

// Restore puts the verified backup at path in place of the (not existing or, for PostgreSQL, empty) database of target, brings
// it to the present schema and reads it back. No gateway may run on the target. ErrExists when there is something already.
func Restore(ctx context.Context, path string, target Config) (Report, error) {
	report, err := Verify(ctx, target.Driver, path)
	if err != nil {
		return Report{}, err
	}
	if target.Driver == Postgres {
		err = restorePostgres(ctx, path, target)
	} else {
		err = restoreSQLite(path, target.DSN)
	}
	if err != nil {
		return Report{}, fmt.Errorf("restore %s: %w", path, err)
	}
	s, err := Open(ctx, target)
	if err != nil {
		return Report{}, fmt.Errorf("open what was restored: %w", err)
	}
	return report, errors.Join(s.inspect(ctx, &report), s.Close())
}

func restoreSQLite(from, to string) error {
	for _, name := range []string{to, to + "-wal", to + "-shm"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: %s; stop the gateway and move it away first", ErrExists, name)
		}
	}
	tmp := to + partial
	defer os.Remove(tmp) // gone already when all went well
	if err := copyFile(from, tmp); err != nil {
		return err
	}
	return settle(tmp, to)
}

func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() // read only: nothing to lose
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func restorePostgres(ctx context.Context, path string, target Config) error {
	s, err := connect(target, false)
	if err != nil {
		return err
	}
	var tables int
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'public'`).Scan(&tables)
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if tables > 0 {
		return fmt.Errorf("%w: the database has %d tables; restore into an empty one", ErrExists, tables)
	}
	dsn, password := splitPassword(target.DSN)
	return run(ctx, password, "pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", "--dbname="+dsn, path)
}
