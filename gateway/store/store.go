// Package store keeps what a gateway must not forget: accounts, logins, one-time links, bans, pool rules, the audit log and who
// owns which session. One implementation on database/sql serves SQLite (the default, one gateway) and PostgreSQL (several).
//
// Only the gateway calls it. It knows no passwords and no tokens, only their hashes, and it reads no clock: now is an argument.
//
// Every operation is retried for a while when the database restarts or is busy. A commit whose answer was lost may therefore
// run twice, so each write is built to do no harm the second time: rows have random ids chosen before the first try, and
// whatever can be used once remembers who used it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"
)

// Config says where the data lives.
type Config struct {
	Driver Driver
	// DSN is a file path for SQLite, a connection string or URL for PostgreSQL.
	DSN string
	// MustExist refuses to make a new SQLite file, for tools that work on one that is there.
	MustExist bool
	// RetryFor is how long an operation keeps trying while the database is away. 0: DefaultRetryFor.
	RetryFor time.Duration
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	cfg     Config
	dialect dialect
	db      *sql.DB
}

// Open connects, applies the migrations that are missing and returns the store. The caller closes it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Driver == SQLite && cfg.MustExist {
		if _, err := os.Stat(cfg.DSN); err != nil {
			return nil, fmt.Errorf("open %s store: %w", cfg.Driver, err)
		}
	}
	if cfg.Driver == SQLite {
		if err := keepPrivate(cfg.DSN); err != nil {
			return nil, err
		}
	}
	s, err := connect(cfg, false)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate %s store: %w", cfg.Driver, err), s.Close())
	}
	return s, nil
}

func connect(cfg Config, readOnly bool) (*Store, error) {
	d, err := dialectOf(cfg.Driver)
	if err != nil {
		return nil, err
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = DefaultRetryFor
	}
	dsn := cfg.DSN
	if d.driver == SQLite {
		dsn = sqliteDSN(cfg.DSN, readOnly)
	}
	db, err := sql.Open(d.sqlName, dsn)
	if err != nil {
		return nil, fmt.Errorf("open %s store: %w", cfg.Driver, err)
	}
	db.SetMaxOpenConns(maxConns)
	db.SetConnMaxIdleTime(maxIdleTime)
	return &Store{cfg: cfg, dialect: d, db: db}, nil
}

// Close ends all connections.
func (s *Store) Close() error { return s.db.Close() }

// Driver says which database this is.
func (s *Store) Driver() Driver { return s.dialect.driver }

// Ping says whether the database answers now; it does not retry.
func (s *Store) Ping(ctx context.Context) error { return s.db.PingContext(ctx) }

// querier is a database, a connection or a transaction.
type querier interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// conn runs our queries in the dialect of the database.
type conn struct {
	ctx     context.Context
	q       querier
	dialect dialect
}

// exec returns the number of rows that changed.
func (c conn) exec(query string, args ...any) (int64, error) {
	res, err := c.q.ExecContext(c.ctx, c.dialect.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (c conn) row(query string, args ...any) *sql.Row {
	return c.q.QueryRowContext(c.ctx, c.dialect.bind(query), args...)
}

// list collects the rows of a query, each read by scan.
func list[T any](c conn, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := c.q.QueryContext(c.ctx, c.dialect.bind(query), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	items := []T{}
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

type scanner interface{ Scan(...any) error }

// read runs fn outside a transaction, again while the database is away.
func (s *Store) read(ctx context.Context, what string, fn func(conn) error) error {
	return s.retry(ctx, what, func() error { return fn(conn{ctx, s.db, s.dialect}) })
}

// write runs fn in a transaction that sees and leaves a consistent database, again while the database is away.
func (s *Store) write(ctx context.Context, what string, fn func(conn) error) error {
	if s.dialect.driver == Postgres {
		return s.transact(ctx, what, &sql.TxOptions{Isolation: sql.LevelSerializable}, fn)
	}
	return s.transact(ctx, what, nil, fn) // SQLite has one writer at a time: always serializable
}

func (s *Store) transact(ctx context.Context, what string, options *sql.TxOptions, fn func(conn) error) error {
	return s.retry(ctx, what, func() error {
		tx, err := s.db.BeginTx(ctx, options)
		if err != nil {
			return err
		}
		if err := fn(conn{ctx, tx, s.dialect}); err != nil {
			if back := tx.Rollback(); back != nil && !transient(back) {
				return errors.Join(err, back)
			}
			return err
		}
		return tx.Commit()
	})
}

func (s *Store) retry(ctx context.Context, what string, fn func() error) error {
	deadline := time.Now().Add(s.cfg.RetryFor)
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		err := fn()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("%s: %w", what, ErrNotFound)
		case !transient(err) || time.Now().After(deadline):
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// stamp is how a time is stored.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// instant is the inverse of stamp.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// one turns "no row changed" into ErrNotFound.
func one(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}
