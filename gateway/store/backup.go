package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	backupPrefix = "wavry-gateway-"
	backupTime   = "20060102T150405Z"
	// partial marks a backup that is being written; a crash leaves only such files behind.
	partial = ".partial"
)

func (d Driver) backupSuffix() string {
	if d == Postgres {
		return ".pgdump"
	}
	return ".sqlite"
}

// Report says what a verified backup holds.
type Report struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Schema int    `json:"schema"`
	Users  int    `json:"users"`
	Audit  int    `json:"audit"`
}

// Backup writes a consistent copy into folder while the store is in use, verifies it and returns what it holds. The file
// appears under its final name only when it is complete and verified. PostgreSQL needs pg_dump on this machine (ErrNoTool).
func (s *Store) Backup(ctx context.Context, folder string, now time.Time) (Report, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Report{}, fmt.Errorf("make backup folder: %w", err)
	}
	final := filepath.Join(folder, backupPrefix+now.UTC().Format(backupTime)+s.Driver().backupSuffix())
	tmp := final + partial
	defer os.Remove(tmp) // gone already when all went well
	if err := s.copyTo(ctx, tmp); err != nil {
		return Report{}, fmt.Errorf("back up to %s: %w", final, err)
	}
	report, err := Verify(ctx, s.Driver(), tmp)
	if err != nil {
		return Report{}, err
	}
	if err := settle(tmp, final); err != nil {
		return Report{}, fmt.Errorf("keep backup: %w", err)
	}
	report.Path = final
	return report, nil
}

func (s *Store) copyTo(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// An empty file of ours is in the copy's place from its first moment, so that no other user ever reads it.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.Driver() == Postgres {
		dsn, password := splitPassword(s.cfg.DSN)
		return run(ctx, password, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--file="+path, "--dbname="+dsn)
	}
	// VACUUM INTO reads one snapshot and lets writers go on: https://www.sqlite.org/lang_vacuum.html
	_, err = s.db.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// settle makes a finished file durable under its final name.
func settle(tmp, final string) error {
	for _, step := range []func() error{
		func() error { return syncPath(tmp) },
		func() error { return os.Rename(tmp, final) },
		func() error { return syncPath(filepath.Dir(final)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Prune removes all but the newest keep backups of this kind in folder and whatever an interrupted backup left there.
func Prune(folder string, d Driver, keep int) (removed []string, err error) {
	files, err := Backups(folder, d)
	if err != nil {
		return nil, err
	}
	stale, err := filepath.Glob(filepath.Join(folder, backupPrefix+"*"+d.backupSuffix()+partial))
	if err != nil {
		return nil, err
	}
	for _, path := range append(files[:max(len(files)-keep, 0)], stale...) {
		if err := os.Remove(path); err != nil {
			return removed, fmt.Errorf("remove old backup: %w", err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// Backups lists the finished backups in folder, oldest first.
func Backups(folder string, d Driver) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(folder, backupPrefix+"*"+d.backupSuffix()))
	slices.Sort(files) // the time in the name sorts
	return files, err
}

// keywordPassword is password=... in a connection string of keywords and values, quoted or not
// (https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING).
var keywordPassword = regexp.MustCompile(`(^|\s)password\s*=\s*('(?:\\.|[^'\\])*'|(?:\\.|[^\s\\])*)`)

// splitPassword takes the password out of a connection string: everybody on the machine can read a program's arguments.
func splitPassword(dsn string) (rest, password string) {
	if config, err := pgconn.ParseConfig(dsn); err == nil {
		password = config.Password
	}
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return keywordPassword.ReplaceAllString(dsn, "$1"), password
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String(), password
}

// run starts a PostgreSQL client program and returns what it complained about.
func run(ctx context.Context, password, name string, args ...string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return fmt.Errorf("%w: %s is missing; install postgresql-client, or back the database up with its own means", ErrNoTool, name)
	}
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &complaints
	cmd.Env = os.Environ()
	if password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+password)
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(complaints.String()))
	}
	return nil
}
