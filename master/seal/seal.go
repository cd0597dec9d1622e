// Package seal keeps private signing keys encrypted at rest: XChaCha20-Poly1305 under a key-encryption key (KEK) that never enters Raft. The key id
// is bound as additional data, so sealed keys cannot be swapped.
package seal

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrWrongKEK is returned when a sealed key does not open: another key-encryption key sealed it, or it was changed.
var ErrWrongKEK = errors.New("the key-encryption key does not open this signing key")

// minSecret is the least length of a secret in bytes: 256 bits, so that nobody puts a password there.
const minSecret = 32

// KEK is a key-encryption key. Its value never appears in logs.
type KEK struct{ key []byte }

// LogValue implements slog.LogValuer.
func (KEK) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String implements fmt.Stringer.
func (KEK) String() string { return "REDACTED" }

// Parse reads a secret of at least 32 bytes: 64 or more hex digits, base64, or the bytes themselves. Space around it is cut.
func Parse(secret string) (*KEK, error) {
	secret = strings.TrimSpace(secret)
	raw := []byte(secret)
	if b, err := hex.DecodeString(secret); err == nil {
		raw = b
	} else if b, err := base64.StdEncoding.DecodeString(secret); err == nil {
		raw = b
	}
	if len(raw) < minSecret {
		return nil, fmt.Errorf("key-encryption key has %d bytes, at least %d are needed: make one with \"openssl rand -hex 32\"", len(raw), minSecret)
	}
	key, err := hkdf.Key(sha256.New, raw, nil, "wavry signing key seal v1", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive key-encryption key: %w", err)
	}
	return &KEK{key: key}, nil
}

// Load reads the secret from a file.
func Load(path string) (*KEK, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key-encryption key: %w", err)
	}
	kek, err := Parse(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return kek, nil
}

// Ephemeral makes a random key that lives as long as the process, for wavry dev only.
func Ephemeral() *KEK {
	key := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(key) // crypto/rand never fails: it ends the process instead
	return &KEK{key: key}
}

// Seal encrypts the private key's seed.
func (k *KEK) Seal(kid string, private ed25519.PrivateKey) (string, error) {
	aead, err := chacha20poly1305.NewX(k.key)
	if err != nil {
		return "", fmt.Errorf("seal key %s: %w", kid, err)
	}
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // crypto/rand never fails: it ends the process instead
	return string(aead.Seal(nonce, nonce, private.Seed(), []byte(kid))), nil
}

// Open decrypts a private key and checks that it belongs to public.
func (k *KEK) Open(kid, sealed string, public ed25519.PublicKey) (ed25519.PrivateKey, error) {
	aead, err := chacha20poly1305.NewX(k.key)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", kid, err)
	}
	if len(sealed) < aead.NonceSize() {
		return nil, fmt.Errorf("open key %s: %w", kid, ErrWrongKEK)
	}
	seed, err := aead.Open(nil, []byte(sealed[:aead.NonceSize()]), []byte(sealed[aead.NonceSize():]), []byte(kid))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("open key %s: %w", kid, ErrWrongKEK)
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !private.Public().(ed25519.PublicKey).Equal(public) {
		return nil, fmt.Errorf("open key %s: %w: the public half differs", kid, ErrWrongKEK)
	}
	return private, nil
}
