// Package proof is how a viewer shows that it holds the key its token names (proof of possession, RFC 7800): what a page signs over a host's
// challenge, and how the host checks it. Bytes in, bytes out: no clock and no network. web/src/proof.ts is the page's side.
//
// The key is ECDSA P-256. A token names it by its RFC 7638 thumbprint, so the token alone opens nothing: neither for whoever reads it in a log, nor
// for a relay, nor for whoever has the gateway's database. What is signed is
//
//	"wavry viewer proof v1\0" | nonce (32) | host identity (32) | SHA-256 of the viewer's token (32)
//
// The nonce is the host's and good for one connection. The identity is the one that signed the certificate of this connection, so that a host in the
// middle cannot pass on another host's challenge. The token names session, lease, viewer and role.
package proof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// Lengths in bytes.
const (
	NonceLen     = streamwire.NonceLen
	KeyLen       = streamwire.KeyLen
	SignatureLen = streamwire.SignatureLen
	identityLen  = 32
)

const label = "wavry viewer proof v1\x00"

var (
	// ErrKey is returned when the key is no point of the curve, or not the one that the token names.
	ErrKey = errors.New("proof with another key than the token names")
	// ErrSignature is returned when the signature does not fit nonce, host, token and key.
	ErrSignature = errors.New("proof does not fit this connection")
)

// NewNonce makes a challenge.
func NewNonce() (nonce [NonceLen]byte, err error) {
	_, err = rand.Read(nonce[:])
	return nonce, err
}

// Statement is what a viewer signs. identity is the host's Ed25519 public key.
func Statement(nonce [NonceLen]byte, identity []byte, token string) ([]byte, error) {
	if len(identity) != identityLen {
		return nil, fmt.Errorf("host identity has %d bytes, not %d", len(identity), identityLen)
	}
	sum := sha256.Sum256([]byte(token))
	b := make([]byte, 0, len(label)+NonceLen+identityLen+len(sum))
	b = append(append(append(b, label...), nonce[:]...), identity...)
	return append(b, sum[:]...), nil
}

// Thumbprint names a public key (RFC 7638): SHA-256 of its JWK, in base64url without padding, 43 characters.
func Thumbprint(key [KeyLen]byte) string {
	text := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + text(key[1:33]) + `","y":"` + text(key[33:]) + `"}`))
	return text(sum[:])
}

// Verify checks that the holder of the key with this thumbprint signed the statement. It returns ErrKey or ErrSignature, wrapped.
func Verify(thumbprint string, statement []byte, key [KeyLen]byte, signature [SignatureLen]byte) error {
	if Thumbprint(key) != thumbprint {
		return ErrKey
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key[:])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(statement)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(public, sum[:], r, s) {
		return ErrSignature
	}
	return nil
}

// Key is what a viewer holds: a page has it in WebCrypto, this one is for viewers that are Go programs.
type Key struct {
	private *ecdsa.PrivateKey
	public  [KeyLen]byte
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a viewer's key: %w", err)
	}
	raw, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode a viewer's key: %w", err)
	}
	return &Key{private: private, public: [KeyLen]byte(raw)}, nil
}

// Public is the key that goes with a proof.
func (k *Key) Public() [KeyLen]byte { return k.public }

// Thumbprint is what a wish for a session carries.
func (k *Key) Thumbprint() string { return Thumbprint(k.public) }

// Sign signs a statement.
func (k *Key) Sign(statement []byte) (signature [SignatureLen]byte, err error) {
	sum := sha256.Sum256(statement)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err != nil {
		return signature, fmt.Errorf("sign a proof: %w", err)
	}
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signature, nil
}
