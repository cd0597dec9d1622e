package store

import (
	"context"
	"time"
)

// How a login came about.
const (
	MethodPassword = "password"
	MethodLink     = "link"
	MethodOIDC     = "oidc"
)

// Login is one signed-in browser. Hash is the hex SHA-256 of its token, which is not stored; ID names it to people.
type Login struct {
	Hash      string
	ID        string
	UserID    string
	Method    string
	Address   string
	Agent     string
	CreatedAt time.Time
	SeenAt    time.Time
	ExpiresAt time.Time
}

// SignedIn is a login together with its account, as every request needs it.
type SignedIn struct {
	Login Login
	User  User
	// Banned is the reason of a ban of the account that is in force, empty when there is none.
	Banned string
}

const loginColumns = `l.hash, l.id, l.user_id, l.method, l.address, l.agent, l.created_at, l.seen_at, l.expires_at`

func (l *Login) fields() (dest []any, finish func()) {
	var created, seen, expires int64
	dest = []any{&l.Hash, &l.ID, &l.UserID, &l.Method, &l.Address, &l.Agent, &created, &seen, &expires}
	return dest, func() {
		l.CreatedAt, l.SeenAt, l.ExpiresAt = instant(created), instant(seen), instant(expires)
	}
}

func scanLogin(r scanner) (Login, error) {
	var l Login
	dest, finish := l.fields()
	err := r.Scan(dest...)
	finish()
	return l, err
}

// CreateLogin stores a login and notes the sign-in.
func (s *Store) CreateLogin(ctx context.Context, l Login, act Act) error {
	return s.write(ctx, "store login", func(c conn) error {
		if err := insertLogin(c, l); err != nil {
			return err
		}
		return c.audit(act)
	})
}

func insertLogin(c conn, l Login) error {
	if _, err := c.exec(`INSERT INTO logins (hash, id, user_id, method, address, agent, created_at, seen_at, expires_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, l.Hash, l.ID, l.UserID, l.Method, l.Address, l.Agent,
		stamp(l.CreatedAt), stamp(l.SeenAt), stamp(l.ExpiresAt)); err != nil {
		return err
	}
	return one(c.exec(`UPDATE users SET last_sign_in = ? WHERE id = ?`, stamp(l.CreatedAt), l.UserID))
}

// FindLogin returns the login with this hash if it is valid at now, was seen after idleSince and its account is enabled.
func (s *Store) FindLogin(ctx context.Context, hash string, now, idleSince time.Time) (in SignedIn, err error) {
	err = s.read(ctx, "find login", func(c conn) error {
		loginDest, finishLogin := in.Login.fields()
		userDest, finishUser := in.User.fields()
		err := c.row(`SELECT `+loginColumns+`, `+userColumns+`, COALESCE((SELECT MAX(b.reason) FROM bans b
				WHERE b.user_id = u.id AND (b.expires_at = 0 OR b.expires_at > ?)), '')
			FROM logins l JOIN users u ON u.id = l.user_id
			WHERE l.hash = ? AND l.expires_at > ? AND l.seen_at > ? AND u.disabled = 0`,
			stamp(now), hash, stamp(now), stamp(idleSince)).Scan(append(append(loginDest, userDest...), &in.Banned)...)
		finishLogin()
		finishUser()
		return err
	})
	return in, err
}

// TouchLogin notes that a login was used.
func (s *Store) TouchLogin(ctx context.Context, hash string, now time.Time) error {
	return s.write(ctx, "touch login", func(c conn) error {
		_, err := c.exec(`UPDATE logins SET seen_at = ? WHERE hash = ? AND seen_at < ?`, stamp(now), hash, stamp(now))
		return err
	})
}

// Logins lists the logins of an account, newest first.
func (s *Store) Logins(ctx context.Context, userID string, now time.Time) (logins []Login, err error) {
	err = s.read(ctx, "list logins", func(c conn) error {
		logins, err = list(c, scanLogin, `SELECT `+loginColumns+` FROM logins l WHERE l.user_id = ? AND l.expires_at > ?
			ORDER BY l.created_at DESC LIMIT ?`, userID, stamp(now), MaxList)
		return err
	})
	return logins, err
}

// EndLogin signs out the browser with this hash; it is no error when it is signed out already.
func (s *Store) EndLogin(ctx context.Context, hash string) error {
	return s.write(ctx, "end login", func(c conn) error {
		_, err := c.exec(`DELETE FROM logins WHERE hash = ?`, hash)
		return err
	})
}

// EndLoginByID signs out one browser of an account.
func (s *Store) EndLoginByID(ctx context.Context, userID, id string, act Act) error {
	return s.write(ctx, "end login", func(c conn) error {
		if err := one(c.exec(`DELETE FROM logins WHERE user_id = ? AND id = ?`, userID, id)); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// EndLogins signs an account out everywhere.
func (s *Store) EndLogins(ctx context.Context, userID string, act Act) error {
	return s.write(ctx, "end logins", func(c conn) error {
		if _, err := c.exec(`DELETE FROM logins WHERE user_id = ?`, userID); err != nil {
			return err
		}
		return c.audit(act)
	})
}
