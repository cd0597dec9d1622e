package store

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Placeholders are numbered for PostgreSQL and left alone for SQLite.
func TestBind(t *testing.T) {
	for d, want := range map[Driver]string{SQLite: "a = ? AND b = ?", Postgres: "a = $1 AND b = $2"} {
		dialect, err := dialectOf(d)
		must(t, err)
		if got := dialect.bind("a = ? AND b = ?"); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
	if _, err := dialectOf("oracle"); err == nil {
		t.Error("an unknown database is accepted")
	}
}

// What passes by itself is tried again; what does not is reported at once.
func TestTransient(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&pgconn.PgError{Code: "57P01"}, true}, {&pgconn.PgError{Code: "40001"}, true}, {&pgconn.PgError{Code: "08006"}, true}, {&pgconn.PgError{Code: "53300"}, true},
		{&pgconn.PgError{Code: "23505"}, false}, {&pgconn.PgError{Code: "42P01"}, false}, {&pgconn.PgError{Code: "28P01"}, false}, {&pgconn.PgError{Code: "57014"}, false},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true}, {&pgconn.ConnectError{}, true}, {errors.New("x"), false}, {ErrLinkUsed, false},
	} {
		if got := transient(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// No form of connection string leaves its password in a program's arguments, and none loses anything else.
func TestSplitPassword(t *testing.T) {
	for _, c := range []struct{ dsn, rest, password string }{
		{"postgres://u:s3cret@db:5432/wavry?sslmode=require", "postgres://u@db:5432/wavry?sslmode=require", "s3cret"},
		{"postgresql://db/wavry?user=u&password=s3cret", "postgresql://db/wavry?user=u", "s3cret"},
		{"postgres://u@db/wavry", "postgres://u@db/wavry", ""},
		{"host=db password=s3cret dbname=wavry", "host=db  dbname=wavry", "s3cret"},
		{`password = 's3cret \' x' host=db`, " host=db", "s3cret ' x"},
		{"host=db user=u", "host=db user=u", ""},
	} {
		rest, password := splitPassword(c.dsn)
		if rest != c.rest || password != c.password || strings.Contains(rest, "s3cret") {
			t.Errorf("%s: %q and %q", c.dsn, rest, password)
		}
	}
}
