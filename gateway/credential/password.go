package credential

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

const (
	// MinPassword is in characters. NIST SP 800-63B asks for 8; two more cost people little.
	MinPassword = 10
	// MaxPassword is in bytes: a passphrase fits, a megabyte to hash does not.
	MaxPassword = 256

	saltLen = 16 // RFC 9106 section 3.1
	keyLen  = 32

	// maxMemory and maxTime bound what a stored hash may ask of us, should somebody have written to the database.
	maxMemory = 1 << 20 // KiB
	maxTime   = 16

	// queuePerSlot is how many sign-ins may wait for each one that is hashed; at 0.3 s each the last one waits below maxWait.
	queuePerSlot = 16
	maxWait      = 5 * time.Second
	// serviceForgotten is how soon one hash is forgotten in the order of the queue. A thousand networks that share one slot are each
	// served once in that time, so that even of as many none is taken for a newcomer.
	serviceForgotten = 5 * time.Minute
	// maxServed bounds the networks that the queue remembers.
	maxServed = 10_000
)

// Params are the costs of Argon2id. They are stored with every hash.
type Params struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultParams is RFC 9106's second recommendation (64 MiB) with one thread and three passes: 0.3 s on one core
// of a busy 2-core machine (BenchmarkVerify, 2026-11-23).
func DefaultParams() Params { return Params{Memory: 64 << 10, Time: 3, Threads: 1} }

// Hasher hashes and verifies passwords, at most slots at a time, so that sign-ins cannot exhaust memory (slots x Params.Memory).
// It is safe for concurrent use.
type Hasher struct {
	params Params
	queue  *queue
	// decoy is verified when there is no account, so that the answer takes as long as for a wrong password.
	decoy string
}

// NewHasher returns a hasher with slots >= 1 concurrent computations.
func NewHasher(p Params, slots int) *Hasher {
	h := &Hasher{params: p, queue: newQueue(slots, time.Now)}
	h.decoy = encode(p, make([]byte, saltLen), make([]byte, keyLen))
	return h
}

// Hash returns the encoded form of password under a new salt. from names the network, or the browser, for which it is done.
func (h *Hasher) Hash(ctx context.Context, from, password string) (string, error) {
	release, err := h.queue.acquire(ctx, from)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make salt: %w", err)
	}
	return encode(h.params, salt, derive(h.params, password, salt)), nil
}

// Verify reports whether password fits encoded, and whether it should be hashed again because the parameters have changed. An
// empty encoded never fits, and takes as long. from is as for Hash.
func (h *Hasher) Verify(ctx context.Context, from, encoded, password string) (ok, outdated bool, err error) {
	real := encoded != ""
	if !real {
		encoded = h.decoy
	}
	p, salt, key, err := decode(encoded)
	if err != nil {
		return false, false, err
	}
	if len(password) > MaxPassword {
		return false, false, nil
	}
	release, err := h.queue.acquire(ctx, from)
	if err != nil {
		return false, false, err
	}
	defer release()
	same := subtle.ConstantTimeCompare(derive(p, password, salt), key) == 1
	return same && real, p != h.params, nil
}

func derive(p Params, password string, salt []byte) []byte {
	return argon2.IDKey([]byte(password), salt, p.Time, p.Memory, p.Threads, keyLen)
}

// encode writes the PHC string format: https://github.com/P-H-C/phc-string-format
func encode(p Params, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

func decode(encoded string) (p Params, salt, key []byte, err error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, nil, nil, ErrBadHash
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, fmt.Errorf("%w: version %q", ErrBadHash, parts[2])
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil {
		return p, nil, nil, fmt.Errorf("%w: parameters %q", ErrBadHash, parts[3])
	}
	if p.Memory == 0 || p.Memory > maxMemory || p.Time == 0 || p.Time > maxTime || p.Threads == 0 {
		return p, nil, nil, fmt.Errorf("%w: parameters %q are out of bounds", ErrBadHash, parts[3])
	}
	b64 := base64.RawStdEncoding.Strict()
	if salt, err = b64.DecodeString(parts[4]); err != nil || len(salt) < 8 {
		return p, nil, nil, fmt.Errorf("%w: salt", ErrBadHash)
	}
	if key, err = b64.DecodeString(parts[5]); err != nil || len(key) != keyLen {
		return p, nil, nil, fmt.Errorf("%w: key", ErrBadHash)
	}
	return p, salt, key, nil
}

// CheckPassword says whether a person called name may set password.
func CheckPassword(name, password string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return fmt.Errorf("%w: it is not UTF-8 text", ErrWeakPassword)
	case n < MinPassword:
		return fmt.Errorf("%w: use at least %d characters", ErrWeakPassword, MinPassword)
	case len(password) > MaxPassword:
		return fmt.Errorf("%w: use at most %d bytes", ErrWeakPassword, MaxPassword)
	case strings.Count(password, password[:1]) == len(password):
		return fmt.Errorf("%w: one character over and over is guessed first", ErrWeakPassword)
	case name != "" && strings.Contains(strings.ToLower(password), strings.ToLower(name)) && n < len(name)+MinPassword:
		return fmt.Errorf("%w: it must not be built from the account's name", ErrWeakPassword)
	}
	return nil
}
