package store

import (
	"context"
	"time"
)

// Act is what goes into the audit log, in the same transaction as the change it tells of.
type Act struct {
	// Event is a random name of this act: written twice, it counts once.
	Event   string
	At      time.Time
	Actor   string // an account's name, or "cli"
	Address string
	Act     string // verb.object, such as user.disable
	Subject string
	Detail  string
}

// Entry is a written Act.
type Entry struct {
	ID int64
	Act
}

func (c conn) audit(a Act) error {
	_, err := c.exec(`INSERT INTO audit (event, at, actor, address, act, subject, detail) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		a.Event, stamp(a.At), a.Actor, a.Address, a.Act, a.Subject, a.Detail)
	return err
}

// Record writes an act whose change happened elsewhere, such as at the master.
func (s *Store) Record(ctx context.Context, act Act) error {
	return s.write(ctx, "record "+act.Act, func(c conn) error { return c.audit(act) })
}

// Audit lists at most limit entries older than the entry with id before (0: from the newest), newest first.
func (s *Store) Audit(ctx context.Context, before int64, limit int) (entries []Entry, err error) {
	scan := func(r scanner) (e Entry, err error) {
		var at int64
		err = r.Scan(&e.ID, &e.Event, &at, &e.Actor, &e.Address, &e.Act.Act, &e.Subject, &e.Detail)
		e.At = instant(at)
		return e, err
	}
	if before <= 0 {
		before = 1<<63 - 1
	}
	err = s.read(ctx, "read audit log", func(c conn) error {
		entries, err = list(c, scan, `SELECT id, event, at, actor, address, act, subject, detail FROM audit
			WHERE id < ? ORDER BY id DESC LIMIT ?`, before, min(max(limit, 1), MaxAuditPage))
		return err
	})
	return entries, err
}
