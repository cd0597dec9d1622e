package store

import (
	"context"
	"time"
)

// Part is one viewer's running part in a session with all that its right hangs on.
type Part struct {
	Session
	User     User   // whose part it is
	Owner    string // the id of the account that controls the session; empty: nobody is known to
	SignedIn bool   // whether the login that it came with holds
	Banned   string // the reason of a ban of the account that is in force
}

// Parts pages through the running parts of everybody's sessions, as RunningAfter does.
func (s *Store) Parts(ctx context.Context, now time.Time, after string, limit int) ([]Part, error) {
	return s.parts(ctx, now, `(SELECT DISTINCT id FROM sessions WHERE ended_at = 0 AND id > ? ORDER BY id LIMIT ?)`, after, limit)
}

// PartsOf are the running parts of one session.
func (s *Store) PartsOf(ctx context.Context, now time.Time, id string) ([]Part, error) {
	return s.parts(ctx, now, `(?)`, id)
}

// parts are the running parts of the sessions whose ids a list in SQL has.
func (s *Store) parts(ctx context.Context, now time.Time, ids string, args ...any) (parts []Part, err error) {
	scan := func(r scanner) (p Part, err error) {
		var created, ended, logins int64
		dest, finish := p.User.fields()
		err = r.Scan(append([]any{&p.ID, &p.Viewer, &p.UserID, &p.Login, &p.Pool, &p.Role, &created, &ended, &p.Reason, &p.Message,
			&logins, &p.Owner, &p.Banned}, dest...)...)
		finish()
		p.CreatedAt, p.EndedAt, p.SignedIn = instant(created), instant(ended), logins > 0
		return p, err
	}
	err = s.read(ctx, "list rights", func(c conn) error {
		parts, err = list(c, scan, `SELECT x.id, x.viewer, x.user_id, x.login, x.pool, x.role, x.created_at, x.ended_at, x.reason, x.message,
			(SELECT COUNT(*) FROM logins l WHERE l.id = x.login AND l.user_id = x.user_id AND l.expires_at > ?),
			COALESCE((SELECT MIN(o.user_id) FROM sessions o WHERE o.id = x.id AND o.role = 'control'), ''),
			COALESCE((SELECT MAX(b.reason) FROM bans b WHERE b.user_id = u.id AND (b.expires_at = 0 OR b.expires_at > ?)), ''),
			`+userColumns+`
			FROM sessions x JOIN users u ON u.id = x.user_id WHERE x.ended_at = 0 AND x.id IN
			`+ids+` ORDER BY x.id`, append([]any{stamp(now), stamp(now)}, args...)...)
		return err
	})
	return parts, err
}

// LoginRoles maps the hash of every login that may be used now to the role of its account.
func (s *Store) LoginRoles(ctx context.Context, now time.Time) (map[string]Role, error) {
	roles := map[string]Role{}
	type login struct {
		hash string
		role Role
	}
	err := s.read(ctx, "list logins", func(c conn) error {
		logins, err := list(c, func(r scanner) (l login, err error) { return l, r.Scan(&l.hash, &l.role) },
			`SELECT l.hash, u.role FROM logins l JOIN users u ON u.id = l.user_id WHERE l.expires_at > ? AND u.disabled = 0 AND NOT EXISTS
			(SELECT 1 FROM bans b WHERE b.user_id = u.id AND (b.expires_at = 0 OR b.expires_at > ?))`, stamp(now), stamp(now))
		for _, l := range logins {
			roles[l.hash] = l.role
		}
		return err
	})
	return roles, err
}

// LastAct is the id of the newest entry of the audit log: every change of a right leaves one, whichever process makes it.
func (s *Store) LastAct(ctx context.Context) (id int64, err error) {
	err = s.read(ctx, "look for new acts", func(c conn) error {
		return c.row(`SELECT COALESCE(MAX(id), 0) FROM audit`).Scan(&id)
	})
	return id, err
}

// AdoptPart gives a viewer's part to another login of the same account, which continues it.
func (s *Store) AdoptPart(ctx context.Context, id, viewer, userID, login string) error {
	return s.write(ctx, "adopt session", func(c conn) error {
		return one(c.exec(`UPDATE sessions SET login = ? WHERE id = ? AND viewer = ? AND user_id = ?`, login, id, viewer, userID))
	})
}

// EndPart notes the end of one viewer's part; the session goes on.
func (s *Store) EndPart(ctx context.Context, id, viewer, reason, message string, now time.Time) error {
	return s.write(ctx, "end part in session", func(c conn) error {
		_, err := c.exec(`UPDATE sessions SET ended_at = ?, reason = ?, message = ? WHERE id = ? AND viewer = ? AND ended_at = 0`,
			stamp(now), reason, message, id, viewer)
		return err
	})
}

// SetSessionPool notes that a session's host now belongs to another pool.
func (s *Store) SetSessionPool(ctx context.Context, id, pool string) error {
	return s.write(ctx, "move session to pool", func(c conn) error {
		_, err := c.exec(`UPDATE sessions SET pool = ? WHERE id = ? AND ended_at = 0`, pool, id)
		return err
	})
}
