package store

import "errors"

var (
	// ErrNotFound is returned when no row has the id, name or hash that was asked for.
	ErrNotFound = errors.New("not found")
	// ErrNameTaken is returned when an account of that name exists; names differ by more than case.
	ErrNameTaken = errors.New("an account with this name exists")
	// ErrLinkUsed is returned for a one-time link that is unknown, expired or was used before.
	ErrLinkUsed = errors.New("one-time link is used, expired or unknown")
	// ErrCodeUsed is returned for a TOTP code or recovery code that was accepted before, or a recovery code that is unknown.
	ErrCodeUsed = errors.New("code was used before")
	// ErrLastAdmin is returned when a change would leave no enabled admin.
	ErrLastAdmin = errors.New("this is the last enabled admin")
	// ErrSchemaNewer is returned by Open when a newer release has migrated the database; migrations only go forward.
	ErrSchemaNewer = errors.New("database schema is newer than this release")
	// ErrSchemaChanged is returned by Open when an applied migration is not the one this release carries.
	ErrSchemaChanged = errors.New("database schema differs from this release")
	// ErrBackup is returned when a backup does not pass its checks.
	ErrBackup = errors.New("backup is not usable")
	// ErrExists is returned when a restore would replace something that is there.
	ErrExists = errors.New("target exists")
	// ErrOpenToOthers is returned by Open for a SQLite database that other users of the machine could change or read, and that we cannot mend.
	ErrOpenToOthers = errors.New("the store is open to others")
	// ErrNoTool is returned when pg_dump or pg_restore is not installed on this machine.
	ErrNoTool = errors.New("PostgreSQL client tools are not installed")
)
