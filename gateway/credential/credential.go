// Package credential holds what proves who somebody is: password hashes, random tokens, TOTP codes, recovery codes, and the seal
// under which TOTP secrets are stored. It opens nothing, stores nothing and knows no accounts; the gateway calls it.
package credential

import (
	"errors"
	"log/slog"
)

var (
	// ErrBusy is returned when too many passwords are being hashed already; the caller should ask the person to try again shortly.
	ErrBusy = errors.New("too many sign-ins at once")
	// ErrWeakPassword is returned, wrapped with the rule, for a password that must not be set.
	ErrWeakPassword = errors.New("password is not acceptable")
	// ErrBadHash is returned for a stored hash that is not Argon2id's encoded form within our bounds.
	ErrBadHash = errors.New("stored password hash is not readable")
	// ErrBadSeal is returned when a sealed value was not sealed by this key.
	ErrBadSeal = errors.New("sealed with another key, or damaged")
)

// Secret is a text that must not appear in logs.
type Secret string

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps the secret out of formatted text; use string(s) where the value itself is meant.
func (Secret) String() string { return "REDACTED" }
