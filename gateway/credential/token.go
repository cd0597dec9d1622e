package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// tokenBytes makes tokens of 256 bits: nobody guesses one, so a plain hash is enough to store them.
const tokenBytes = 32

// NewToken returns a random token of 43 characters that fit into a URL.
func NewToken() Secret { return Secret(base64.RawURLEncoding.EncodeToString(random(tokenBytes))) }

// HashToken is the form in which a token is stored: 64 hex digits.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// NewID returns a random id of 20 characters with the given prefix; ids are no secrets.
func NewID(prefix string) string { return prefix + hex.EncodeToString(random(10)) }

const (
	recoveryCodes = 10
	// recoveryBytes makes a code of 80 bits: 16 characters in four groups.
	recoveryBytes = 10
)

var recoveryText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewRecoveryCodes returns fresh codes for a person and their hashes for the store.
func NewRecoveryCodes() (codes, hashes []string) {
	for range recoveryCodes {
		raw := recoveryText.EncodeToString(random(recoveryBytes))
		code := raw[:4] + "-" + raw[4:8] + "-" + raw[8:12] + "-" + raw[12:]
		codes, hashes = append(codes, code), append(hashes, HashRecoveryCode(code))
	}
	return codes, hashes
}

// HashRecoveryCode is the form in which a code is stored; case, spaces and dashes do not matter.
func HashRecoveryCode(code string) string {
	return HashToken("recovery " + strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code)))
}

// random returns n random bytes. crypto/rand.Read never fails since Go 1.24; it ends the process instead.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
