package store

import (
	"context"
	"time"
)

// Session is one viewer's part in a session: the master knows the session, the store knows whose it is.
type Session struct {
	ID        string
	Viewer    string
	UserID    string
	Login     string // the id of the login that it came with
	Pool      string
	Role      string // control or watch
	CreatedAt time.Time
	EndedAt   time.Time // zero while it runs
	Reason    string    // why it ended, for machines
	Message   string    // why it ended, for people
}

const sessionColumns = `id, viewer, user_id, login, pool, role, created_at, ended_at, reason, message`

func scanSession(r scanner) (x Session, err error) {
	var created, ended int64
	err = r.Scan(&x.ID, &x.Viewer, &x.UserID, &x.Login, &x.Pool, &x.Role, &created, &ended, &x.Reason, &x.Message)
	x.CreatedAt, x.EndedAt = instant(created), instant(ended)
	return x, err
}

// AddSession notes whose session this is; a repeated admission writes the same row.
func (s *Store) AddSession(ctx context.Context, x Session) error {
	return s.write(ctx, "store session", func(c conn) error {
		_, err := c.exec(`INSERT INTO sessions (id, viewer, user_id, login, pool, role, created_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			x.ID, x.Viewer, x.UserID, x.Login, x.Pool, x.Role, stamp(x.CreatedAt))
		return err
	})
}

// SessionPart returns the part of an account in a session as this viewer, or with an empty viewer its newest part.
func (s *Store) SessionPart(ctx context.Context, id, userID, viewer string) (x Session, err error) {
	err = s.read(ctx, "find session", func(c conn) error {
		x, err = scanSession(c.row(`SELECT `+sessionColumns+` FROM sessions WHERE id = ? AND user_id = ? AND (viewer = ? OR ? = '')
			ORDER BY created_at DESC LIMIT 1`, id, userID, viewer, viewer))
		return err
	})
	return x, err
}

// SessionControl returns the part that controls a session: its owner.
func (s *Store) SessionControl(ctx context.Context, id string) (x Session, err error) {
	err = s.read(ctx, "find session owner", func(c conn) error {
		x, err = scanSession(c.row(`SELECT `+sessionColumns+` FROM sessions WHERE id = ? AND role = 'control'
			ORDER BY created_at LIMIT 1`, id))
		return err
	})
	return x, err
}

// RunningSessions lists the sessions of an account that have not ended, newest first, at most MaxList.
func (s *Store) RunningSessions(ctx context.Context, userID string) (sessions []Session, err error) {
	err = s.read(ctx, "list sessions of account", func(c conn) error {
		sessions, err = list(c, scanSession, `SELECT `+sessionColumns+` FROM sessions
			WHERE ended_at = 0 AND user_id = ? ORDER BY created_at DESC LIMIT ?`, userID, MaxList)
		return err
	})
	return sessions, err
}

// RunningAfter pages through everybody's sessions that have not ended: the viewers of at most limit sessions with ids above
// after, in order. The next page begins after the last id of this one; a page without sessions is the end.
func (s *Store) RunningAfter(ctx context.Context, after string, limit int) (sessions []Session, err error) {
	err = s.read(ctx, "list sessions", func(c conn) error {
		sessions, err = list(c, scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE ended_at = 0 AND id IN
			(SELECT DISTINCT id FROM sessions WHERE ended_at = 0 AND id > ? ORDER BY id LIMIT ?) ORDER BY id`, after, limit)
		return err
	})
	return sessions, err
}

// EndSession notes the end of a session for all its viewers and reports whether it was running until now. The first reason stays.
func (s *Store) EndSession(ctx context.Context, id, reason, message string, now time.Time) (ended bool, err error) {
	err = s.write(ctx, "end session", func(c conn) error {
		n, err := c.exec(`UPDATE sessions SET ended_at = ?, reason = ?, message = ? WHERE id = ? AND ended_at = 0`, stamp(now), reason, message, id)
		ended = n > 0
		return err
	})
	return ended, err
}

// Sweep removes what is past its time: ended logins, and after KeepEnded ended sessions, bans and links. It returns the number of rows.
func (s *Store) Sweep(ctx context.Context, now, idleSince time.Time) (removed int64, err error) {
	old := stamp(now.Add(-KeepEnded))
	err = s.write(ctx, "sweep", func(c conn) error {
		removed = 0
		clock, err := c.clock(now) // limits are by it
		if err != nil {
			return err
		}
		for _, q := range []struct {
			text string
			args []any
		}{
			{`DELETE FROM logins WHERE expires_at <= ? OR seen_at <= ?`, []any{stamp(now), stamp(idleSince)}},
			{`DELETE FROM links WHERE expires_at <= ?`, []any{old}},
			{`DELETE FROM bans WHERE expires_at <> 0 AND expires_at <= ?`, []any{old}},
			{`DELETE FROM limits WHERE full_at <= ?`, []any{stamp(clock)}},
			{`DELETE FROM sessions WHERE ended_at <> 0 AND ended_at <= ?`, []any{old}},
		} {
			n, err := c.exec(q.text, q.args...)
			if err != nil {
				return err
			}
			removed += n
		}
		return nil
	})
	return removed, err
}
