package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step of the schema. Steps are never edited after a release: their digest is stored with them.
type migration struct {
	version int
	name    string
	text    string
}

func (m migration) digest() string {
	sum := sha256.Sum256([]byte(m.text))
	return hex.EncodeToString(sum[:])
}

// migrations are all steps in order; versions count 1, 2, 3, ...
var migrations = mustMigrations(migrationFiles)

func mustMigrations(files fs.FS) []migration {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		panic("embedded migrations: " + err.Error())
	}
	list := make([]migration, 0, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic("embedded migrations: " + err.Error())
		}
		base := strings.TrimPrefix(name, "migrations/")
		number, _, _ := strings.Cut(base, "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			panic("embedded migrations: " + base + " is not number " + strconv.Itoa(i+1))
		}
		list = append(list, migration{i + 1, base, string(text)})
	}
	return list
}

// migrationLock is the key of PostgreSQL's advisory lock: gateways that start together migrate one after the other.
const migrationLock = 0x77617672790001

const createVersions = `CREATE TABLE IF NOT EXISTS schema_versions (
	version BIGINT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_at BIGINT NOT NULL)`

// migrate brings the schema to the last of steps. All missing steps are applied in one transaction, or none.
func (s *Store) migrate(ctx context.Context, steps []migration) error {
	// Not serializable: whoever waited for the lock must see what the holder before committed.
	return s.transact(ctx, "apply migrations", nil, func(c conn) error {
		if s.dialect.driver == Postgres {
			if _, err := c.exec(`SELECT pg_advisory_xact_lock(?)`, int64(migrationLock)); err != nil {
				return err
			}
		}
		if _, err := c.exec(createVersions); err != nil {
			return err
		}
		done, err := appliedSteps(c, steps)
		if err != nil {
			return err
		}
		for _, m := range steps[done:] {
			if err := applyStep(c, m); err != nil {
				return fmt.Errorf("migration %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// appliedSteps checks the applied steps against ours and returns how many there are.
func appliedSteps(c conn, steps []migration) (int, error) {
	type applied struct {
		version      int
		name, digest string
	}
	list, err := list(c, func(r scanner) (a applied, err error) {
		return a, r.Scan(&a.version, &a.name, &a.digest)
	}, `SELECT version, name, digest FROM schema_versions ORDER BY version`)
	if err != nil {
		return 0, err
	}
	for i, a := range list {
		if i >= len(steps) {
			return 0, fmt.Errorf("%w: it has %s; run a release that knows it", ErrSchemaNewer, a.name)
		}
		if steps[i].version != a.version || steps[i].digest() != a.digest {
			return 0, fmt.Errorf("%w: %s is not our %s", ErrSchemaChanged, a.name, steps[i].name)
		}
	}
	return len(list), nil
}

func applyStep(c conn, m migration) error {
	for statement := range strings.SplitSeq(strings.ReplaceAll(m.text, "{{serial}}", c.dialect.serial), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := c.exec(statement); err != nil {
			return err
		}
	}
	_, err := c.exec(`INSERT INTO schema_versions (version, name, digest, applied_at) VALUES (?, ?, ?, ?)`,
		m.version, m.name, m.digest(), time.Now().UnixMicro())
	return err
}

// SchemaVersion is the version of the newest applied migration.
func (s *Store) SchemaVersion(ctx context.Context) (int, error) {
	var v sql.NullInt64
	err := s.read(ctx, "read schema version", func(c conn) error {
		return c.row(`SELECT MAX(version) FROM schema_versions`).Scan(&v)
	})
	return int(v.Int64), err
}
