package relaywire

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/blake2s"
)

// PublicKey is an X25519 public key: of a relay, or of a host.
type PublicKey [32]byte

// Key is a symmetric key. It never appears in a log.
type Key [32]byte

// String hides the key from every format verb that would print it as text.
func (Key) String() string { return "REDACTED" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "REDACTED" }

// ErrWeakKey is returned for a public key with which no secret can be agreed.
var ErrWeakKey = errors.New("public key of low order")

// MAC1Key is the key of MAC1 for a relay: whoever knows the relay's public key has it.
func MAC1Key(relay PublicKey) Key { return derive("wavry relay mac1", relay[:]) }

// SharedKey is what a host and a relay agree on: own is the private key of either, peer the public key of the other.
// It costs ~40 us; the relay caches it per host.
func SharedKey(own *ecdh.PrivateKey, peer, relay, host PublicKey) (Key, error) {
	public, err := ecdh.X25519().NewPublicKey(peer[:])
	if err != nil {
		return Key{}, fmt.Errorf("read public key: %w", err)
	}
	secret, err := own.ECDH(public)
	if err != nil {
		return Key{}, ErrWeakKey
	}
	return derive("wavry relay shared", secret, relay[:], host[:]), nil
}

// LegKey is the key of one host leg, made from the shared key and the nonce of the BIND that opened it.
func LegKey(shared Key, nonce *[24]byte) Key { return derive("wavry relay leg", shared[:], nonce[:]) }

func derive(label string, parts ...[]byte) Key {
	b := append(make([]byte, 0, 160), label...)
	for _, p := range parts {
		b = append(b, p...)
	}
	return blake2s.Sum256(b)
}

// mac is BLAKE2s over key and message. BLAKE2 has no length extension, so the prefix is a sound key (RFC 7693 section 2.9 does
// the same with a padded block). The message has at most 96 bytes and nothing is allocated.
func mac(key *Key, message []byte) (sum [MACLen]byte) {
	var b [32 + mac2At]byte
	copy(b[:], key[:])
	n := copy(b[32:], message)
	full := blake2s.Sum256(b[:32+n])
	copy(sum[:], full[:])
	return sum
}

func macFits(key *Key, message, got []byte) bool {
	return sumFits(mac(key, message), got)
}

func sumFits(want [MACLen]byte, got []byte) bool {
	return subtle.ConstantTimeCompare(want[:], got) == 1
}

// PrivateFromIdentity turns a host's Ed25519 identity into the X25519 key it talks to relays with (the map of RFC 7748
// section 4.1, as in XEdDSA), so that a lease that names the identity also names the key.
func PrivateFromIdentity(identity ed25519.PrivateKey) (*ecdh.PrivateKey, error) {
	h := sha512.Sum512(identity.Seed())
	return ecdh.X25519().NewPrivateKey(h[:32])
}

// PublicFromIdentity does the same with the public half: u = (1+y)/(1-y) mod 2^255-19.
func PublicFromIdentity(identity ed25519.PublicKey) (PublicKey, error) {
	var out PublicKey
	if len(identity) != ed25519.PublicKeySize {
		return out, fmt.Errorf("identity has %d bytes, not %d", len(identity), ed25519.PublicKeySize)
	}
	y := littleEndian(identity)
	y.SetBit(y, 255, 0)
	denominator := new(big.Int).Sub(big.NewInt(1), y)
	denominator.Mod(denominator, fieldPrime)
	if denominator.Sign() == 0 {
		return out, ErrWeakKey
	}
	u := y.Add(y, big.NewInt(1))
	u.Mul(u, denominator.ModInverse(denominator, fieldPrime)).Mod(u, fieldPrime)
	b := u.FillBytes(make([]byte, 32))
	for i := range out {
		out[i] = b[31-i]
	}
	return out, nil
}

var fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

func littleEndian(b []byte) *big.Int {
	r := make([]byte, len(b))
	for i, v := range b {
		r[len(b)-1-i] = v
	}
	return new(big.Int).SetBytes(r)
}
