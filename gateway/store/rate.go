package store

import (
	"context"
	"time"
)

// Take takes one of burst tokens of subject, of which one comes back per period every. wait is 0 when there was one, else how long until
// the next. All gateways on the database share the tokens. What is stored is when all of them will be back.
func (s *Store) Take(ctx context.Context, subject string, burst int, every time.Duration, now time.Time) (wait time.Duration, err error) {
	latest := now.Add(time.Duration(burst-1) * every) // there is a token until then
	// Not serializable: the one statement sees and locks its row, and guesses that meet need not be tried again.
	err = s.transact(ctx, "count a try", nil, func(c conn) error {
		n, err := c.exec(`INSERT INTO limits (subject, full_at) VALUES (?, ?) ON CONFLICT (subject) DO UPDATE
			SET full_at = CASE WHEN limits.full_at > ? THEN limits.full_at ELSE ? END + ? WHERE limits.full_at <= ?`,
			subject, stamp(now.Add(every)), stamp(now), stamp(now), every.Microseconds(), stamp(latest))
		if wait = 0; err != nil || n > 0 {
			return err
		}
		var fullAt int64
		err = c.row(`SELECT full_at FROM limits WHERE subject = ?`, subject).Scan(&fullAt)
		wait = max(instant(fullAt).Sub(latest), 1)
		return err
	})
	return wait, err
}
