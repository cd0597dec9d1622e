package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // database/sql driver "pgx"
	"modernc.org/sqlite"
)

// Driver names a database.
type Driver string

// The databases a gateway can keep its accounts in.
const (
	SQLite   Driver = "sqlite"   // one gateway; a file
	Postgres Driver = "postgres" // any number of gateways
)

// dialect is what differs between the two databases; everything else is one text for both.
type dialect struct {
	driver  Driver
	sqlName string // database/sql's name of the driver
	serial  string // column type of an id that the database counts up
}

func dialectOf(d Driver) (dialect, error) {
	switch d {
	case SQLite:
		return dialect{d, "sqlite", "INTEGER PRIMARY KEY AUTOINCREMENT"}, nil
	case Postgres:
		return dialect{d, "pgx", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"}, nil
	}
	return dialect{}, fmt.Errorf("store driver %q is neither %s nor %s", d, SQLite, Postgres)
}

// bind turns the ? of a query into $1, $2, ... where the database wants that. Our queries have no ? in literals.
func (d dialect) bind(query string) string {
	if d.driver != Postgres {
		return query
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(query, "?") {
		if n > 0 {
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// sqliteDSN opens path with a journal that readers do not wait for, durable commits, foreign keys, and write transactions that
// take their lock at the beginning, so that none is refused halfway.
func sqliteDSN(path string, readOnly bool) string {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout("+strconv.FormatInt(busyTimeout.Milliseconds(), 10)+")")
	q.Add("_pragma", "foreign_keys(1)")
	if readOnly {
		q.Set("mode", "ro")
	} else {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "synchronous(FULL)")
		q.Set("_txlock", "immediate")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// transient reports whether the same operation may succeed shortly: the database restarts, is busy, or two transactions met.
func transient(err error) bool {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		const busy, locked = 5, 6 // https://www.sqlite.org/rescode.html; the low byte is the primary code
		return lite.Code()&0xff == busy || lite.Code()&0xff == locked
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return transientPostgres(pg.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// transientPostgres knows the SQLSTATE classes of https://www.postgresql.org/docs/15/errcodes-appendix.html that pass by
// themselves: 08 connection, 40 rollback (serialization, deadlock), 57P operator intervention, 53300 too many connections.
func transientPostgres(code string) bool {
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "40") || strings.HasPrefix(code, "57P") || code == "53300"
}
