package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Tokens keeps restore tokens, one per display, as files only their owner can read: whoever has one may capture without asking.
type Tokens struct{ Dir string }

// Load returns the token kept for a display; empty when there is none.
func (t Tokens) Load(display string) (string, error) {
	if t.Dir == "" {
		return "", nil
	}
	b, err := os.ReadFile(t.file(display))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read restore token: %w", err)
	case len(b) > maxToken:
		return "", nil // not written by us; asking again replaces it
	}
	return string(b), nil
}

// Save keeps the token of a display; the old one is of no use any more, for each is good once. A crash leaves one or the other.
func (t Tokens) Save(display, token string) error {
	if t.Dir == "" || token == "" {
		return nil
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return fmt.Errorf("make directory for restore tokens: %w", err)
	}
	f, err := os.CreateTemp(t.Dir, ".token-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save restore token: %w", err)
	}
	_, err = f.WriteString(token)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), t.file(display))
	}
	if err != nil {
		return fmt.Errorf("save restore token: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// file names are hashes: a display's name may hold anything.
func (t Tokens) file(display string) string {
	sum := sha256.Sum256([]byte(display))
	return filepath.Join(t.Dir, "restore-token-"+hex.EncodeToString(sum[:8]))
}
