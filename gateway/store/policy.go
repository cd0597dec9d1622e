package store

import (
	"context"
	"time"
)

// Ban keeps an account or an address (a CIDR prefix) out until ExpiresAt; a zero ExpiresAt means until it is lifted.
type Ban struct {
	ID        string
	UserID    string
	User      string // the account's name, when listed
	Address   string
	Reason    string
	Actor     string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// AddBan stores a ban and, for an account, ends its logins.
func (s *Store) AddBan(ctx context.Context, b Ban, act Act) error {
	return s.write(ctx, "add ban", func(c conn) error {
		if _, err := c.exec(`INSERT INTO bans (id, user_id, address, reason, actor, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			b.ID, null(b.UserID), b.Address, b.Reason, b.Actor, stamp(b.CreatedAt), stamp(b.ExpiresAt)); err != nil {
			return err
		}
		if b.UserID != "" {
			if _, err := c.exec(`DELETE FROM logins WHERE user_id = ?`, b.UserID); err != nil {
				return err
			}
		}
		return c.audit(act)
	})
}

// LiftBan ends a ban.
func (s *Store) LiftBan(ctx context.Context, id string, act Act) error {
	return s.write(ctx, "lift ban", func(c conn) error {
		if err := one(c.exec(`DELETE FROM bans WHERE id = ?`, id)); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// Bans lists the bans in force at now, newest first.
func (s *Store) Bans(ctx context.Context, now time.Time) (bans []Ban, err error) {
	scan := func(r scanner) (b Ban, err error) {
		var created, expires int64
		err = r.Scan(&b.ID, &b.UserID, &b.User, &b.Address, &b.Reason, &b.Actor, &created, &expires)
		b.CreatedAt, b.ExpiresAt = instant(created), instant(expires)
		return b, err
	}
	err = s.read(ctx, "list bans", func(c conn) error {
		bans, err = list(c, scan, `SELECT b.id, COALESCE(b.user_id, ''), COALESCE(u.name, ''), b.address, b.reason, b.actor, b.created_at, b.expires_at
			FROM bans b LEFT JOIN users u ON u.id = b.user_id
			WHERE b.expires_at = 0 OR b.expires_at > ? ORDER BY b.created_at DESC LIMIT ?`, stamp(now), MaxList)
		return err
	})
	return bans, err
}

// Effects of a rule.
const (
	Allow = "allow"
	Deny  = "deny"
)

// Rule says that a role, an account or (both empty) everybody may or may not use the pools matching Pool.
type Rule struct {
	ID     string
	Pool   string
	Role   Role
	UserID string
	User   string // the account's name, when listed
	Effect string
}

// AddRule stores a rule.
func (s *Store) AddRule(ctx context.Context, r Rule, act Act) error {
	return s.write(ctx, "add pool rule", func(c conn) error {
		if _, err := c.exec(`INSERT INTO rules (id, pool, role, user_id, effect) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			r.ID, r.Pool, r.Role, null(r.UserID), r.Effect); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// RemoveRule ends a rule.
func (s *Store) RemoveRule(ctx context.Context, id string, act Act) error {
	return s.write(ctx, "remove pool rule", func(c conn) error {
		if err := one(c.exec(`DELETE FROM rules WHERE id = ?`, id)); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// Rules lists all rules.
func (s *Store) Rules(ctx context.Context) (rules []Rule, err error) {
	scan := func(r scanner) (x Rule, err error) {
		return x, r.Scan(&x.ID, &x.Pool, &x.Role, &x.UserID, &x.User, &x.Effect)
	}
	err = s.read(ctx, "list pool rules", func(c conn) error {
		rules, err = list(c, scan, `SELECT r.id, r.pool, r.role, COALESCE(r.user_id, ''), COALESCE(u.name, ''), r.effect
			FROM rules r LEFT JOIN users u ON u.id = r.user_id ORDER BY r.pool, r.id LIMIT ?`, MaxList)
		return err
	})
	return rules, err
}

// SetTitle names a pool for people; an empty title forgets it.
func (s *Store) SetTitle(ctx context.Context, pool, title string, act Act) error {
	return s.write(ctx, "set pool title", func(c conn) error {
		if _, err := c.exec(`DELETE FROM pools WHERE pool = ?`, pool); err != nil {
			return err
		}
		if title != "" {
			if _, err := c.exec(`INSERT INTO pools (pool, title) VALUES (?, ?)`, pool, title); err != nil {
				return err
			}
		}
		return c.audit(act)
	})
}

// Titles maps pools to their titles.
func (s *Store) Titles(ctx context.Context) (map[string]string, error) {
	titles := map[string]string{}
	err := s.read(ctx, "list pool titles", func(c conn) error {
		pairs, err := list(c, func(r scanner) (p [2]string, err error) { return p, r.Scan(&p[0], &p[1]) },
			`SELECT pool, title FROM pools ORDER BY pool LIMIT ?`, MaxList)
		for _, p := range pairs {
			titles[p[0]] = p[1]
		}
		return err
	})
	return titles, err
}
