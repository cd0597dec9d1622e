package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Kinds of one-time links.
const (
	LinkInvite     = "invite"      // for the owner of a new account, or of one whose password is lost
	LinkSignIn     = "sign_in"     // signs in once, nothing more
	LinkFirstAdmin = "first_admin" // makes the first admin; worthless once there is one
)

// Link is a one-time link. Hash is the hex SHA-256 of its token; UserID is empty for LinkFirstAdmin until it is used.
type Link struct {
	Hash      string
	ID        string
	Kind      string
	UserID    string
	User      string // the account's name, when listed
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// CreateLink stores a link. Unused invites of the same account end: only the newest link of a person works.
func (s *Store) CreateLink(ctx context.Context, l Link, act Act) error {
	return s.write(ctx, "store one-time link", func(c conn) error {
		if l.Kind == LinkInvite {
			if _, err := c.exec(`DELETE FROM links WHERE user_id = ? AND kind = ? AND used_at = 0 AND hash <> ?`, l.UserID, l.Kind, l.Hash); err != nil {
				return err
			}
		}
		if _, err := c.exec(`INSERT INTO links (hash, id, kind, user_id, created_by, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			l.Hash, l.ID, l.Kind, null(l.UserID), l.CreatedBy, stamp(l.CreatedAt), stamp(l.ExpiresAt)); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// PendingLinks lists the links nobody has used yet, newest first.
func (s *Store) PendingLinks(ctx context.Context, now time.Time) (links []Link, err error) {
	scan := func(r scanner) (l Link, err error) {
		var created, expires int64
		err = r.Scan(&l.ID, &l.Kind, &l.UserID, &l.User, &l.CreatedBy, &created, &expires)
		l.CreatedAt, l.ExpiresAt = instant(created), instant(expires)
		return l, err
	}
	err = s.read(ctx, "list one-time links", func(c conn) error {
		links, err = list(c, scan, `SELECT l.id, l.kind, COALESCE(l.user_id, ''), COALESCE(u.name, ''), l.created_by, l.created_at, l.expires_at
			FROM links l LEFT JOIN users u ON u.id = l.user_id
			WHERE l.used_at = 0 AND l.expires_at > ? ORDER BY l.created_at DESC LIMIT ?`, stamp(now), MaxList)
		return err
	})
	return links, err
}

// RevokeLink ends a link that nobody has used yet.
func (s *Store) RevokeLink(ctx context.Context, id string, act Act) error {
	return s.write(ctx, "revoke one-time link", func(c conn) error {
		if err := one(c.exec(`DELETE FROM links WHERE id = ? AND used_at = 0`, id)); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// LinkUse is one attempt to use a one-time link.
type LinkUse struct {
	Hash string
	// Try is a random name of this attempt: the same attempt may run twice, another one is refused.
	Try string
	// Admin is the account that LinkFirstAdmin creates; its Role is set here.
	Admin User
	// Password, when not empty, becomes the account's password hash (not for LinkSignIn).
	Password string
	// Login is the login that the link opens; its UserID is set here.
	Login Login
	// Act is audited with the account's name as actor and subject.
	Act Act
}

// LinkAccount returns the kind of a link and whose it is, before it is used: the zero User for LinkFirstAdmin. ErrLinkUsed when it is not good (any
// more).
func (s *Store) LinkAccount(ctx context.Context, hash string, now time.Time) (kind string, u User, err error) {
	err = s.read(ctx, "find one-time link", func(c conn) error {
		var userID string
		err := c.row(`SELECT kind, COALESCE(user_id, '') FROM links WHERE hash = ? AND used_at = 0 AND expires_at > ?`, hash, stamp(now)).Scan(&kind, &userID)
		if err == nil && userID != "" {
			u, err = scanUser(c.row(`SELECT `+userColumns+` FROM users u WHERE u.id = ? AND u.disabled = 0`, userID))
		}
		if errors.Is(err, sql.ErrNoRows) {
			return ErrLinkUsed
		}
		return err
	})
	return kind, u, err
}

// UseLink consumes a link and signs its person in, all or nothing. ErrLinkUsed when the link is not good (any more).
func (s *Store) UseLink(ctx context.Context, use LinkUse, now time.Time) (u User, err error) {
	err = s.write(ctx, "use one-time link", func(c conn) error {
		kind, userID, err := consume(c, use, now)
		if err != nil {
			return err
		}
		if kind == LinkFirstAdmin {
			if userID, err = firstAdmin(c, use); err != nil {
				return err
			}
		}
		if use.Password != "" && kind != LinkSignIn {
			if _, err := c.exec(`UPDATE users SET password = ? WHERE id = ?`, use.Password, userID); err != nil {
				return err
			}
			// A new password ends what an old one, or whoever had it, has opened.
			if _, err := c.exec(`DELETE FROM logins WHERE user_id = ? AND hash <> ?`, userID, use.Login.Hash); err != nil {
				return err
			}
		}
		u, err = scanUser(c.row(`SELECT `+userColumns+` FROM users u WHERE u.id = ? AND u.disabled = 0`, userID))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrLinkUsed
		} else if err != nil {
			return err
		}
		login, act := use.Login, use.Act
		login.UserID, act.Actor, act.Subject = u.ID, u.Name, u.Name
		if err := insertLogin(c, login); err != nil {
			return err
		}
		return c.audit(act)
	})
	return u, err
}

func consume(c conn, use LinkUse, now time.Time) (kind, userID string, err error) {
	n, err := c.exec(`UPDATE links SET used_at = ?, used_by = ? WHERE hash = ? AND expires_at > ? AND (used_at = 0 OR used_by = ?)`,
		stamp(now), use.Try, use.Hash, stamp(now), use.Try)
	if err != nil {
		return "", "", err
	}
	if n == 0 {
		return "", "", ErrLinkUsed
	}
	err = c.row(`SELECT kind, COALESCE(user_id, '') FROM links WHERE hash = ?`, use.Hash).Scan(&kind, &userID)
	return kind, userID, err
}

// firstAdmin creates the first admin, unless there is one: then the link is worthless.
func firstAdmin(c conn, use LinkUse) (string, error) {
	var other int
	if err := c.row(`SELECT COUNT(*) FROM users WHERE role = ? AND disabled = 0 AND id <> ?`, RoleAdmin, use.Admin.ID).Scan(&other); err != nil {
		return "", err
	}
	if other > 0 {
		return "", ErrLinkUsed
	}
	admin := use.Admin
	admin.Role = RoleAdmin
	if err := insertUser(c, admin); err != nil {
		return "", err
	}
	_, err := c.exec(`UPDATE links SET user_id = ? WHERE hash = ?`, admin.ID, use.Hash)
	return admin.ID, err
}

// null stores an empty reference as NULL.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
