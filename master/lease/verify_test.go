package lease

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"aidanwoods.dev/go-paseto"
)

func verifyBed(t testing.TB) (*Signer, *KeySet, Key, Claims) {
	t.Helper()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	signer, err := NewSigner("k1", private)
	if err != nil {
		t.Fatal(err)
	}
	key := Key{ID: "k1", Public: public}
	set, err := NewKeySet(key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	return signer, set, key, Claims{
		Lease: "l", Session: "s", Host: "h", Relay: "r", Circuit: 1<<64 - 1, ViewerLeg: ViewerLeg{Viewer: "v", Role: RoleControl},
		NotBefore: now, Expiry: now.Add(Lifetime),
	}
}

// TestVerifyAgreesWithLibrary proves that our verification and the PASETO library accept and refuse the same tokens, for each byte
// of a token changed, removed or doubled.
func TestVerifyAgreesWithLibrary(t *testing.T) {
	signer, set, key, claims := verifyBed(t)
	token, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	public, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	agree := func(what, token string) {
		t.Helper()
		got, ours := set.Verify(token, time.Now())
		parser := paseto.MakeParser(nil)
		_, theirs := parser.ParseV4Public(public, token, nil)
		if ours == nil && theirs != nil {
			t.Errorf("%s: we accept what the library refuses: %v", what, theirs)
		}
		if ours != nil && theirs == nil {
			t.Errorf("%s: we refuse what the library accepts: %v", what, ours)
		}
		if ours == nil && got.Circuit != claims.Circuit {
			t.Errorf("%s: claims came back as %+v", what, got)
		}
	}
	agree("whole", token)
	for i := range token {
		swapped := byte('A')
		if token[i] == swapped {
			swapped = 'B'
		}
		agree("changed", token[:i]+string(swapped)+token[i+1:])
		agree("removed", token[:i]+token[i+1:])
		agree("doubled", token[:i]+token[i:i+1]+token[i:])
		agree("cut", token[:i])
	}
}

// TestRefusals proves which sentinel stands for what.
func TestRefusals(t *testing.T) {
	signer, set, _, claims := verifyBed(t)
	forger, _, _, _ := verifyBed(t)
	token, _ := signer.Sign(claims)
	forged, _ := forger.Sign(claims)
	empty, err := NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		name  string
		set   *KeySet
		token string
		at    time.Time
		want  error
	}{
		{"good", set, token, now, nil},
		{"within the skew", set, token, claims.Expiry.Add(Skew - 2*time.Second), nil},
		{"expired", set, token, claims.Expiry.Add(Skew + 2*time.Second), ErrExpired},
		{"too early", set, token, claims.NotBefore.Add(-Skew - 2*time.Second), ErrNotYetValid},
		{"other key, same id", set, forged, now, ErrSignatureMismatch},
		{"no such key", empty, token, now, ErrUnknownKey},
		{"empty", set, "", now, ErrMalformed},
		{"other version", set, "v3" + token[2:], now, ErrMalformed},
		{"no footer", set, token[:strings.LastIndex(token, ".")], now, ErrMalformed},
		{"too long", set, token + strings.Repeat("A", MaxTokenLen), now, ErrMalformed},
	} {
		if _, err := c.set.Verify(c.token, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := NewKeySet(Key{ID: "k", Public: make([]byte, 31)}); err == nil {
		t.Error("31 bytes are a key")
	}
}

func BenchmarkVerify(b *testing.B) {
	signer, set, _, claims := verifyBed(b)
	token, err := signer.Sign(claims)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.Verify(token, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
