package lease

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Signer signs leases with one private key. It is safe for concurrent use.
type Signer struct {
	kid    string
	key    ed25519.PrivateKey
	footer []byte
	suffix string // "." and the encoded footer
}

// NewSigner returns a signer whose tokens carry kid. The key is copied.
func NewSigner(kid string, key ed25519.PrivateKey) (*Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("load signing key %s: %d bytes, not %d", kid, len(key), ed25519.PrivateKeySize)
	}
	footer, err := json.Marshal(footer{KeyID: kid})
	if err != nil {
		return nil, fmt.Errorf("encode footer of key %s: %w", kid, err)
	}
	suffix := "." + base64.RawURLEncoding.EncodeToString(footer)
	return &Signer{kid: kid, key: bytes.Clone(key), footer: footer, suffix: suffix}, nil
}

// KeyID is the id that tokens of this signer carry.
func (s *Signer) KeyID() string { return s.kid }

// SignViewer returns the viewer's token. Times are cut to seconds, as tokens carry them.
func (s *Signer) SignViewer(c ViewerClaims) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("sign viewer's token of lease %q: %w", c.Lease, err)
	}
	c.Use, c.NotBefore, c.Expiry = UseViewer, seconds(c.NotBefore), seconds(c.Expiry)
	return s.sign(c)
}

// SignCircuit returns the circuit's token. Times are cut to seconds, as tokens carry them.
func (s *Signer) SignCircuit(c CircuitClaims) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("sign circuit's token of lease %q: %w", c.Lease, err)
	}
	c.Use, c.NotBefore, c.Expiry = UseCircuit, seconds(c.NotBefore), seconds(c.Expiry)
	return s.sign(c)
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func (s *Signer) sign(claims any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	p := parts{payload: body, footer: s.footer}
	body = append(body, ed25519.Sign(s.key, p.signed())...)
	token := make([]byte, 0, len(tokenHeader)+base64.RawURLEncoding.EncodedLen(len(body))+len(s.suffix))
	return string(append(base64.RawURLEncoding.AppendEncode(append(token, tokenHeader...), body), s.suffix...)), nil
}

// Key is one public signing key.
type Key struct {
	ID     string            `json:"kid"`
	Public ed25519.PublicKey `json:"public"`
}

// KeySet verifies tokens of a fixed set of keys. It is immutable; build a new one when the master publishes other keys.
type KeySet struct {
	keys map[string]ed25519.PublicKey
	list []Key
}

// NewKeySet returns the set of the given keys, or an error naming the first one that is not a 32-byte Ed25519 key.
func NewKeySet(keys ...Key) (*KeySet, error) {
	set := &KeySet{keys: make(map[string]ed25519.PublicKey, len(keys)), list: keys}
	for _, k := range keys {
		if len(k.Public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("load public key %q: %d bytes, not %d", k.ID, len(k.Public), ed25519.PublicKeySize)
		}
		set.keys[k.ID] = k.Public
	}
	return set, nil
}

// Keys lists the keys of the set. The slice is shared and must not be changed.
func (s *KeySet) Keys() []Key { return s.list }

// VerifyViewer checks signature, use and times of a viewer's token at now and returns its claims. It returns one of this package's sentinels,
// wrapped. It does not know who asks: the caller compares Host with itself, and whether the bearer holds the key. A nil set knows no key.
func (s *KeySet) VerifyViewer(token string, now time.Time) (ViewerClaims, error) {
	var c ViewerClaims
	if err := s.open(token, &c); err != nil {
		return ViewerClaims{}, err
	}
	if c.Use != UseViewer {
		return ViewerClaims{}, fmt.Errorf("%w: %q, not %q", ErrWrongUse, c.Use, UseViewer)
	}
	if err := c.validate(); err != nil {
		return ViewerClaims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, checkTime(c.NotBefore, c.Expiry, now)
}

// VerifyCircuit is VerifyViewer for a circuit's token; the caller compares Relay with itself.
func (s *KeySet) VerifyCircuit(token string, now time.Time) (CircuitClaims, error) {
	var c CircuitClaims
	if err := s.open(token, &c); err != nil {
		return CircuitClaims{}, err
	}
	if c.Use != UseCircuit {
		return CircuitClaims{}, fmt.Errorf("%w: %q, not %q", ErrWrongUse, c.Use, UseCircuit)
	}
	if err := c.validate(); err != nil {
		return CircuitClaims{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return c, checkTime(c.NotBefore, c.Expiry, now)
}

// open checks the signature and decodes the payload into claims.
func (s *KeySet) open(token string, claims any) error {
	t, err := split(token)
	if err != nil {
		return err
	}
	public, ok := s.keys[t.keyID]
	if !ok {
		return fmt.Errorf("key %q: %w", t.keyID, ErrUnknownKey)
	}
	if !ed25519.Verify(public, t.signed(), t.signature) {
		return ErrSignatureMismatch
	}
	if err := json.Unmarshal(t.payload, claims); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

type footer struct {
	KeyID string `json:"kid"`
}

const tokenHeader = "v4.public."

// parts is a token taken apart, nothing of it verified.
type parts struct {
	payload, signature, footer []byte
	keyID                      string
}

// split takes a token apart (PASETO version 4, section "v4.Public"): header, base64url of payload and signature, base64url of the
// footer. The key id in the footer only selects the key; the signature covers the footer.
//
// Verifying is written here rather than left to the library, because a relay does it ten thousand times a second and the library's
// way through its own token type costs as much again as the signature; a test holds the two together.
func split(token string) (p parts, err error) {
	if len(token) > MaxTokenLen {
		return p, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(token), MaxTokenLen)
	}
	rest, ok := strings.CutPrefix(token, tokenHeader)
	body, end, two := strings.Cut(rest, ".")
	if !ok || !two || strings.Contains(end, ".") {
		return p, fmt.Errorf("%w: not %s<payload>.<footer>", ErrMalformed, tokenHeader)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) <= ed25519.SignatureSize {
		return p, fmt.Errorf("%w: payload", ErrMalformed)
	}
	if p.footer, err = base64.RawURLEncoding.Strict().DecodeString(end); err != nil {
		return p, fmt.Errorf("%w: footer: %w", ErrMalformed, err)
	}
	var f footer
	if err := json.Unmarshal(p.footer, &f); err != nil || f.KeyID == "" {
		return p, fmt.Errorf("%w: footer without kid", ErrMalformed)
	}
	n := len(raw) - ed25519.SignatureSize
	p.payload, p.signature, p.keyID = raw[:n], raw[n:], f.KeyID
	return p, nil
}

// signed is what the signature covers: PASETO's pre-authentication encoding of header, payload, footer and an empty assertion.
func (p parts) signed() []byte {
	b := make([]byte, 0, 5*8+len(tokenHeader)+len(p.payload)+len(p.footer))
	b = binary.LittleEndian.AppendUint64(b, 4)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tokenHeader)))
	b = append(b, tokenHeader...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p.payload)))
	b = append(b, p.payload...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(p.footer)))
	b = append(b, p.footer...)
	return binary.LittleEndian.AppendUint64(b, 0)
}

func checkTime(notBefore, expiry, now time.Time) error {
	if now.After(expiry.Add(Skew)) {
		return fmt.Errorf("%w at %s", ErrExpired, expiry.Format(time.RFC3339))
	}
	if now.Add(Skew).Before(notBefore) {
		return fmt.Errorf("%w before %s", ErrNotYetValid, notBefore.Format(time.RFC3339))
	}
	return nil
}

func (c *ViewerClaims) validate() error {
	if c.Role != RoleControl && c.Role != RoleWatch {
		return fmt.Errorf("claim role %q is neither %s nor %s", c.Role, RoleControl, RoleWatch)
	}
	if err := CheckThumbprint(c.Key.Thumbprint); err != nil {
		return fmt.Errorf("claim cnf: %w", err)
	}
	return errors.Join(
		checkID("jti", c.Lease), checkID("session", c.Session), checkID("host", c.Host), checkID("viewer", c.Viewer),
		checkLife(c.NotBefore, c.Expiry),
	)
}

func (c *CircuitClaims) validate() error {
	if len(c.Region) > maxID {
		return fmt.Errorf("claim region has %d bytes, at most %d", len(c.Region), maxID)
	}
	if c.Circuit == 0 {
		return errors.New("claim circuit is 0")
	}
	return errors.Join(checkID("jti", c.Lease), checkID("host", c.Host), checkID("relay", c.Relay), checkLife(c.NotBefore, c.Expiry))
}

const maxID = 64

func checkID(claim, id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("claim %s has %d bytes, not 1 to %d", claim, len(id), maxID)
	}
	return nil
}

func checkLife(notBefore, expiry time.Time) error {
	if !expiry.After(notBefore) {
		return fmt.Errorf("claim exp %s is not after nbf %s", expiry.Format(time.RFC3339), notBefore.Format(time.RFC3339))
	}
	return nil
}
