package store

import (
	"context"
	"time"
)

// BeginTOTP stores a secret that counts once it is confirmed.
func (s *Store) BeginTOTP(ctx context.Context, id, secret string) error {
	return s.write(ctx, "begin TOTP", func(c conn) error {
		return one(c.exec(`UPDATE users SET totp_pending = ? WHERE id = ?`, secret, id))
	})
}

// ConfirmTOTP makes the pending secret the account's second factor, marks step as used and replaces the recovery codes.
func (s *Store) ConfirmTOTP(ctx context.Context, id, pending string, step int64, codeHashes []string, act Act) error {
	return s.write(ctx, "confirm TOTP", func(c conn) error {
		n, err := c.exec(`UPDATE users SET totp_secret = ?, totp_pending = '', totp_step = ?, totp_used_by = ''
			WHERE id = ? AND (totp_pending = ? OR totp_secret = ?)`, pending, step, id, pending, pending)
		if err := one(n, err); err != nil {
			return err
		}
		if err := replaceCodes(c, id, codeHashes); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// RemoveTOTP takes the second factor and its recovery codes away.
func (s *Store) RemoveTOTP(ctx context.Context, id string, act Act) error {
	return s.write(ctx, "remove TOTP", func(c conn) error {
		if err := one(c.exec(`UPDATE users SET totp_secret = '', totp_pending = '', totp_step = 0 WHERE id = ?`, id)); err != nil {
			return err
		}
		if err := replaceCodes(c, id, nil); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// UseTOTPStep accepts a code's time step once. try is a random name of this attempt: the same attempt may run twice.
func (s *Store) UseTOTPStep(ctx context.Context, id string, step int64, try string) error {
	return s.write(ctx, "use TOTP code", func(c conn) error {
		n, err := c.exec(`UPDATE users SET totp_step = ?, totp_used_by = ?
			WHERE id = ? AND (totp_step < ? OR (totp_step = ? AND totp_used_by = ?))`, step, try, id, step, step, try)
		return used(n, err)
	})
}

// ReplaceRecoveryCodes ends the old codes and stores the hashes of new ones.
func (s *Store) ReplaceRecoveryCodes(ctx context.Context, id string, hashes []string, act Act) error {
	return s.write(ctx, "replace recovery codes", func(c conn) error {
		if err := replaceCodes(c, id, hashes); err != nil {
			return err
		}
		return c.audit(act)
	})
}

// UseRecoveryCode accepts a recovery code once; ErrCodeUsed when it is unknown or was used by another attempt.
func (s *Store) UseRecoveryCode(ctx context.Context, id, hash, try string, now time.Time) error {
	return s.write(ctx, "use recovery code", func(c conn) error {
		n, err := c.exec(`UPDATE recovery_codes SET used_at = ?, used_by = ?
			WHERE user_id = ? AND hash = ? AND (used_at = 0 OR used_by = ?)`, stamp(now), try, id, hash, try)
		return used(n, err)
	})
}

// RecoveryCodesLeft counts the codes of an account that have not been used.
func (s *Store) RecoveryCodesLeft(ctx context.Context, id string) (n int, err error) {
	err = s.read(ctx, "count recovery codes", func(c conn) error {
		return c.row(`SELECT COUNT(*) FROM recovery_codes WHERE user_id = ? AND used_at = 0`, id).Scan(&n)
	})
	return n, err
}

func replaceCodes(c conn, id string, hashes []string) error {
	if _, err := c.exec(`DELETE FROM recovery_codes WHERE user_id = ?`, id); err != nil {
		return err
	}
	for _, h := range hashes {
		if _, err := c.exec(`INSERT INTO recovery_codes (user_id, hash) VALUES (?, ?)`, id, h); err != nil {
			return err
		}
	}
	return nil
}

func used(n int64, err error) error {
	if err == nil && n == 0 {
		return ErrCodeUsed
	}
	return err
}
