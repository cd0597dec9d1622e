package lease

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"aidanwoods.dev/go-paseto"
)

// Signer signs leases with one private key. It is safe for concurrent use.
type Signer struct {
	kid    string
	key    paseto.V4AsymmetricSecretKey
	footer []byte
}

// NewSigner returns a signer whose tokens carry kid. The key is copied.
func NewSigner(kid string, key ed25519.PrivateKey) (*Signer, error) {
	secret, err := paseto.NewV4AsymmetricSecretKeyFromEd25519(key)
	if err != nil {
		return nil, fmt.Errorf("load signing key %s: %w", kid, err)
	}
	footer, err := json.Marshal(footer{KeyID: kid})
	if err != nil {
		return nil, fmt.Errorf("encode footer of key %s: %w", kid, err)
	}
	return &Signer{kid: kid, key: secret, footer: footer}, nil
}

// KeyID is the id that tokens of this signer carry.
func (s *Signer) KeyID() string { return s.kid }

// Sign returns the token for c. Times are cut to seconds, as the token carries them.
func (s *Signer) Sign(c Claims) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("sign lease %q: %w", c.Lease, err)
	}
	c.NotBefore, c.Expiry = c.NotBefore.UTC().Truncate(time.Second), c.Expiry.UTC().Truncate(time.Second)
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode lease %s: %w", c.Lease, err)
	}
	token, err := paseto.NewTokenFromClaimsJSON(body, s.footer)
	if err != nil {
		return "", fmt.Errorf("build lease %s: %w", c.Lease, err)
	}
	return token.V4Sign(s.key, nil), nil
}

// Key is one public signing key.
type Key struct {
	ID     string            `json:"kid"`
	Public ed25519.PublicKey `json:"public"`
}

// KeySet verifies tokens of a fixed set of keys. It is immutable; build a new one when the master publishes other keys.
type KeySet struct {
	keys map[string]paseto.V4AsymmetricPublicKey
	list []Key
}

// NewKeySet returns the set of the given keys, or an error naming the first one that is not a 32-byte Ed25519 key.
func NewKeySet(keys ...Key) (*KeySet, error) {
	set := &KeySet{keys: make(map[string]paseto.V4AsymmetricPublicKey, len(keys)), list: keys}
	for _, k := range keys {
		public, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(k.Public)
		if err != nil {
			return nil, fmt.Errorf("load public key %q: %w", k.ID, err)
		}
		set.keys[k.ID] = public
	}
	return set, nil
}

// Keys lists the keys of the set. The slice is shared and must not be changed.
func (s *KeySet) Keys() []Key { return s.list }

// Verify checks the signature and the times of token at now and returns its claims. It returns one of this package's
// sentinels, wrapped. It does not know who asks: the caller compares Host or Relay with itself. A nil set knows no key.
func (s *KeySet) Verify(token string, now time.Time) (Claims, error) {
	kid, err := keyID(token)
	if err != nil {
		return Claims{}, err
	}
	if s == nil { // no key was published yet
		return Claims{}, fmt.Errorf("key %q: %w", kid, ErrUnknownKey)
	}
	public, ok := s.keys[kid]
	if !ok {
		return Claims{}, fmt.Errorf("key %q: %w", kid, ErrUnknownKey)
	}
	parser := paseto.MakeParser(nil)
	parsed, err := parser.ParseV4Public(public, token, nil)
	if err != nil {
		return Claims{}, ErrSignatureMismatch
	}
	var c Claims
	if err := json.Unmarshal(parsed.ClaimsJSON(), &c); err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := c.validate(); err != nil {
		return Claims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, c.checkTime(now)
}

type footer struct {
	KeyID string `json:"kid"`
}

const tokenHeader = "v4.public."

// keyID reads the key id from the unauthenticated footer: it only selects the key, and the signature covers the footer.
func keyID(token string) (string, error) {
	if len(token) > MaxTokenLen {
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(token), MaxTokenLen)
	}
	if !strings.HasPrefix(token, tokenHeader) || strings.Count(token, ".") != 3 {
		return "", fmt.Errorf("%w: not %s<payload>.<footer>", ErrMalformed, tokenHeader)
	}
	parser := paseto.MakeParser(nil)
	raw, err := parser.UnsafeParseFooter(paseto.V4Public, token)
	if err != nil {
		return "", fmt.Errorf("%w: footer: %w", ErrMalformed, err)
	}
	var f footer
	if err := json.Unmarshal(raw, &f); err != nil || f.KeyID == "" {
		return "", fmt.Errorf("%w: footer without kid", ErrMalformed)
	}
	return f.KeyID, nil
}

func (c Claims) checkTime(now time.Time) error {
	if now.After(c.Expiry.Add(Skew)) {
		return fmt.Errorf("%w at %s", ErrExpired, c.Expiry.Format(time.RFC3339))
	}
	if now.Add(Skew).Before(c.NotBefore) {
		return fmt.Errorf("%w before %s", ErrNotYetValid, c.NotBefore.Format(time.RFC3339))
	}
	return nil
}

func (c Claims) validate() error {
	const maxID = 64
	for _, f := range []struct{ name, value string }{
		{"jti", c.Lease}, {"session", c.Session}, {"host", c.Host}, {"viewer", c.ViewerLeg.Viewer},
	} {
		if f.value == "" {
			return fmt.Errorf("claim %s is empty", f.name)
		}
		if len(f.value) > maxID {
			return fmt.Errorf("claim %s has %d bytes, at most %d", f.name, len(f.value), maxID)
		}
	}
	if len(c.Relay) > maxID || len(c.Region) > maxID {
		return fmt.Errorf("claim relay or region has more than %d bytes", maxID)
	}
	if (c.Relay == "") != (c.Circuit == 0) {
		return fmt.Errorf("claims relay %q and circuit %d: both or neither", c.Relay, c.Circuit)
	}
	if r := c.ViewerLeg.Role; r != RoleControl && r != RoleWatch {
		return fmt.Errorf("claim role %q is neither %s nor %s", r, RoleControl, RoleWatch)
	}
	if !c.Expiry.After(c.NotBefore) {
		return fmt.Errorf("claim exp %s is not after nbf %s", c.Expiry.Format(time.RFC3339), c.NotBefore.Format(time.RFC3339))
	}
	return nil
}
