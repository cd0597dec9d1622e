package store

import (
	"context"
	"time"
)

// Take takes one of burst tokens of subject, of which one comes back per period every. wait is 0 when there was one, else how long until
// the next, which is never more than one period. All gateways on the database share the tokens. What is stored is when all of them will be back.
func (s *Store) Take(ctx context.Context, subject string, burst int, every time.Duration, now time.Time) (wait time.Duration, err error) {
	// Not serializable: the one statement sees and locks its row, and guesses that meet need not be tried again.
	err = s.transact(ctx, "count a try", nil, func(c conn) error {
		now, err := c.clock(now)
		if err != nil {
			return err
		}
		latest := now.Add(time.Duration(burst-1) * every) // there is a token until then
		n, err := c.exec(`INSERT INTO limits (subject, full_at) VALUES (?, ?) ON CONFLICT (subject) DO UPDATE
			SET full_at = CASE WHEN limits.full_at > ? THEN limits.full_at ELSE ? END + ? WHERE limits.full_at <= ?`,
			subject, stamp(now.Add(every)), stamp(now), stamp(now), every.Microseconds(), stamp(latest))
		if wait = 0; err != nil || n > 0 {
			return err
		}
		// A clock that was ahead once must not make anybody wait until then:
		// all tokens are used up, and come back from now on.
		full := now.Add(time.Duration(burst) * every)
		if _, err = c.exec(`UPDATE limits SET full_at = ? WHERE subject = ? AND full_at > ?`, stamp(full), subject, stamp(full)); err != nil {
			return err
		}
		var fullAt int64
		err = c.row(`SELECT full_at FROM limits WHERE subject = ?`, subject).Scan(&fullAt)
		wait = max(instant(fullAt).Sub(latest), 1)
		return err
	})
	return wait, err
}

// clock is the time that several gateways share: PostgreSQL's. Else one whose clock is ahead would keep people out at the others, and two
// that differ would give tries away. With SQLite there is one gateway, whose clock now is.
func (c conn) clock(now time.Time) (time.Time, error) {
	if c.dialect.driver != Postgres {
		return now, nil
	}
	var us int64
	err := c.row(`SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT`).Scan(&us)
	return instant(us), err
}

// Clock is the database's time; SQLite has none of its own and returns now.
func (s *Store) Clock(ctx context.Context, now time.Time) (at time.Time, err error) {
	err = s.read(ctx, "read the database's clock", func(c conn) error {
		at, err = c.clock(now)
		return err
	})
	return at, err
}
