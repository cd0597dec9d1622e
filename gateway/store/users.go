package store

import (
	"context"
	"strings"
	"time"
)

// Role is what an account may do beyond using desktops.
type Role string

// The closed set of roles, each able to do what the next can.
const (
	RoleAdmin    Role = "admin"    // accounts, bans, rules, keys
	RoleOperator Role = "operator" // sessions, hosts, relays
	RoleViewer   Role = "viewer"   // own sessions
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool { return r == RoleAdmin || r == RoleOperator || r == RoleViewer }

// User is one account. Password is Argon2id's encoded form, empty when none is set. The TOTP secrets are sealed by the caller.
type User struct {
	ID          string
	Name        string
	Role        Role
	Password    string
	TOTPSecret  string // empty: no second factor
	TOTPPending string // set up but not confirmed yet
	Disabled    bool
	OIDCIssuer  string
	OIDCSubject string
	CreatedAt   time.Time
	LastSignIn  time.Time
}

const userColumns = `u.id, u.name, u.role, u.password, u.totp_secret, u.totp_pending, u.disabled,
	u.oidc_issuer, u.oidc_subject, u.created_at, u.last_sign_in`

func (u *User) fields() (dest []any, finish func()) {
	var disabled, created, last int64
	dest = []any{&u.ID, &u.Name, &u.Role, &u.Password, &u.TOTPSecret, &u.TOTPPending, &disabled,
		&u.OIDCIssuer, &u.OIDCSubject, &created, &last}
	return dest, func() {
		u.Disabled = disabled != 0
		u.CreatedAt, u.LastSignIn = instant(created), instant(last)
	}
}

func scanUser(r scanner) (User, error) {
	var u User
	dest, finish := u.fields()
	err := r.Scan(dest...)
	finish()
	return u, err
}

// NameKey is the form in which two names are the same.
func NameKey(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// CreateUser adds an account. ErrNameTaken when its name exists.
func (s *Store) CreateUser(ctx context.Context, u User, act Act) error {
	return s.write(ctx, "create account "+u.Name, func(c conn) error {
		if err := insertUser(c, u); err != nil {
			return err
		}
		return c.audit(act)
	})
}

func insertUser(c conn, u User) error {
	if _, err := c.exec(`INSERT INTO users (id, name, name_key, role, password, oidc_issuer, oidc_subject, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		u.ID, u.Name, NameKey(u.Name), u.Role, u.Password, u.OIDCIssuer, u.OIDCSubject, stamp(u.CreatedAt)); err != nil {
		return err
	}
	var n int // a second run after a lost commit finds its own row
	if err := c.row(`SELECT COUNT(*) FROM users WHERE id = ?`, u.ID).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return ErrNameTaken
	}
	return nil
}

// UserByName finds an account by its name in any case.
func (s *Store) UserByName(ctx context.Context, name string) (User, error) {
	return s.user(ctx, "find account", `u.name_key = ?`, NameKey(name))
}

// UserByID finds an account by its id.
func (s *Store) UserByID(ctx context.Context, id string) (User, error) {
	return s.user(ctx, "find account", `u.id = ?`, id)
}

// UserByOIDC finds the account bound to an identity of an OIDC provider.
func (s *Store) UserByOIDC(ctx context.Context, issuer, subject string) (User, error) {
	return s.user(ctx, "find account of identity", `u.oidc_issuer = ? AND u.oidc_subject = ? AND u.oidc_subject <> ''`, issuer, subject)
}

func (s *Store) user(ctx context.Context, what, where string, args ...any) (u User, err error) {
	err = s.read(ctx, what, func(c conn) error {
		u, err = scanUser(c.row(`SELECT `+userColumns+` FROM users u WHERE `+where, args...))
		return err
	})
	return u, err
}

// Users lists all accounts by name, at most MaxList.
func (s *Store) Users(ctx context.Context) (users []User, err error) {
	err = s.read(ctx, "list accounts", func(c conn) error {
		users, err = list(c, scanUser, `SELECT `+userColumns+` FROM users u ORDER BY u.name_key LIMIT ?`, MaxList)
		return err
	})
	return users, err
}

// Admins counts the enabled admins.
func (s *Store) Admins(ctx context.Context) (n int, err error) {
	err = s.read(ctx, "count admins", func(c conn) error {
		n, err = countAdmins(c)
		return err
	})
	return n, err
}

func countAdmins(c conn) (n int, err error) {
	err = c.row(`SELECT COUNT(*) FROM users WHERE role = ? AND disabled = 0`, RoleAdmin).Scan(&n)
	return n, err
}

// SetRole changes what an account may do. ErrLastAdmin when nobody could administer any more.
func (s *Store) SetRole(ctx context.Context, id string, role Role, act Act) error {
	return s.changeUser(ctx, "change role", act, func(c conn) error {
		return one(c.exec(`UPDATE users SET role = ? WHERE id = ?`, role, id))
	})
}

// SetDisabled disables or enables an account; disabling ends its logins and its unused links.
func (s *Store) SetDisabled(ctx context.Context, id string, disabled bool, act Act) error {
	return s.changeUser(ctx, "disable or enable account", act, func(c conn) error {
		flag := 0
		if disabled {
			flag = 1
		}
		if err := one(c.exec(`UPDATE users SET disabled = ? WHERE id = ?`, flag, id)); err != nil || !disabled {
			return err
		}
		if _, err := c.exec(`DELETE FROM links WHERE user_id = ? AND used_at = 0`, id); err != nil {
			return err
		}
		_, err := c.exec(`DELETE FROM logins WHERE user_id = ?`, id)
		return err
	})
}

// changeUser runs change and checks that an admin is left.
func (s *Store) changeUser(ctx context.Context, what string, act Act, change func(conn) error) error {
	return s.write(ctx, what, func(c conn) error {
		before, err := countAdmins(c)
		if err != nil {
			return err
		}
		if err := change(c); err != nil {
			return err
		}
		after, err := countAdmins(c)
		if err != nil {
			return err
		}
		if before > 0 && after == 0 {
			return ErrLastAdmin
		}
		return c.audit(act)
	})
}

// SetPassword stores the encoded hash and ends every login of the account except the one with hash keepLogin.
func (s *Store) SetPassword(ctx context.Context, id, encoded, keepLogin string, act Act) error {
	return s.write(ctx, "set password", func(c conn) error {
		if err := one(c.exec(`UPDATE users SET password = ? WHERE id = ?`, encoded, id)); err != nil {
			return err
		}
		if _, err := c.exec(`DELETE FROM logins WHERE user_id = ? AND hash <> ?`, id, keepLogin); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// UpgradePassword replaces the hash old by encoded, the same password with newer parameters. It does nothing when the
// password has been changed meanwhile.
func (s *Store) UpgradePassword(ctx context.Context, id, old, encoded string) error {
	return s.write(ctx, "upgrade password hash", func(c conn) error {
		_, err := c.exec(`UPDATE users SET password = ? WHERE id = ? AND password = ?`, encoded, id, old)
		return err
	})
}

// BindOIDC ties an account to an identity of an OIDC provider, replacing an earlier one.
func (s *Store) BindOIDC(ctx context.Context, id, issuer, subject string, act Act) error {
	return s.write(ctx, "bind identity", func(c conn) error {
		if err := one(c.exec(`UPDATE users SET oidc_issuer = ?, oidc_subject = ? WHERE id = ?`, issuer, subject, id)); err != nil {
			return err
		}
		return c.audit(act)
	})
}
