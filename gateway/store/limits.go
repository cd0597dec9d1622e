package store

import "time"

const (
	// DefaultRetryFor is how long an operation outlives a database that restarts: PostgreSQL is back within a few seconds, and a
	// person at the sign-in page waits about that long.
	DefaultRetryFor = 8 * time.Second
	// retryFirst and retryMost bound the pause between two tries; the first is shorter than a PostgreSQL restart on fast disks.
	retryFirst = 20 * time.Millisecond
	retryMost  = 500 * time.Millisecond
	// busyTimeout is how long SQLite waits for the writer before it says busy; writes here take milliseconds.
	busyTimeout = 5 * time.Second
	// maxConns bounds connections to the database; beyond it callers wait. PostgreSQL's default of 100 serves ten gateways.
	maxConns = 10
	// maxIdleTime closes idle connections, so that a gateway at night holds none open.
	maxIdleTime = 5 * time.Minute
	// MaxList bounds every list that has no paging; a fleet with more accounts needs a search, not a longer page.
	MaxList = 10_000
	// MaxAuditPage bounds one page of the audit log.
	MaxAuditPage = 500
	// KeepEnded is how long ended sessions, used links and ended bans stay for people to look at.
	KeepEnded = 30 * 24 * time.Hour
)
