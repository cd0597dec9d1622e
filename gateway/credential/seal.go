package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
)

// SealKeyLen is the length of a sealing key in bytes.
const SealKeyLen = 32

// Sealer keeps small secrets unreadable at rest (AES-256-GCM), bound to the row they belong to.
type Sealer struct{ aead cipher.AEAD }

// NewSealer takes a key of SealKeyLen bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != SealKeyLen {
		return nil, fmt.Errorf("sealing key has %d bytes, must have %d", len(key), SealKeyLen)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("load sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("load sealing key: %w", err)
	}
	return &Sealer{aead}, nil
}

// Seal returns text that Open with the same owner turns back into secret.
func (s *Sealer) Seal(secret Secret, owner string) string {
	return base64.RawStdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(secret), []byte(owner)))
}

// Open is the inverse of Seal; ErrBadSeal when key or owner differ.
func (s *Sealer) Open(sealed, owner string) (Secret, error) {
	raw, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBadSeal, err)
	}
	plain, err := s.aead.Open(nil, nil, raw, []byte(owner))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBadSeal, err)
	}
	return Secret(plain), nil
}

// LoadSealer reads a key file of SealKeyLen bytes in base64. With create, a missing file is made with a new
// random key that only its owner can read.
func LoadSealer(path string, create bool) (*Sealer, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && create {
		return createSealer(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	key, err := decodeKey(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read sealing key %s: %w", path, err)
	}
	return NewSealer(key)
}

func createSealer(path string) (*Sealer, error) {
	key := random(SealKeyLen)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	return NewSealer(key)
}

func decodeKey(text string) ([]byte, error) {
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(key) != SealKeyLen {
		return nil, fmt.Errorf("must hold %d bytes in base64, as `openssl rand -base64 %d` makes them", SealKeyLen, SealKeyLen)
	}
	return key, nil
}
