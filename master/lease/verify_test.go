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

// thumbprint is that of RFC 9449's example key: any will do.
const thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

func verifyBed(t testing.TB) (*Signer, *KeySet, Key, ViewerClaims) {
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
	return signer, set, key, ViewerClaims{
		Lease: "l", Session: "s", Host: "h", Viewer: "v", Role: RoleControl, Key: Confirmation{Thumbprint: thumbprint},
		NotBefore: now, Expiry: now.Add(Lifetime),
	}
}

// circuitOf is the circuit of the same lease.
func circuitOf(c ViewerClaims) CircuitClaims {
	return CircuitClaims{Lease: c.Lease, Host: c.Host, Relay: "r", Circuit: 1<<64 - 1, NotBefore: c.NotBefore, Expiry: c.Expiry}
}

// TestVerifyAgreesWithLibrary proves that our verification and the PASETO library accept and refuse the same tokens, for each byte
// of a token changed, removed or doubled.
func TestVerifyAgreesWithLibrary(t *testing.T) {
	signer, set, key, claims := verifyBed(t)
	token, err := signer.SignViewer(claims)
	if err != nil {
		t.Fatal(err)
	}
	public, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	agree := func(what, token string) {
		t.Helper()
		got, ours := set.VerifyViewer(token, time.Now())
		parser := paseto.MakeParser(nil)
		_, theirs := parser.ParseV4Public(public, token, nil)
		if ours == nil && theirs != nil {
			t.Errorf("%s: we accept what the library refuses: %v", what, theirs)
		}
		if ours != nil && theirs == nil {
			t.Errorf("%s: we refuse what the library accepts: %v", what, ours)
		}
		if ours == nil && got.Viewer != claims.Viewer {
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
	token, _ := signer.SignViewer(claims)
	forged, _ := forger.SignViewer(claims)
	circuit, err := signer.SignCircuit(circuitOf(claims))
	if err != nil {
		t.Fatal(err)
	}
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
		{"a circuit's", set, circuit, now, ErrWrongUse},
		{"empty", set, "", now, ErrMalformed},
		{"other version", set, "v3" + token[2:], now, ErrMalformed},
		{"no footer", set, token[:strings.LastIndex(token, ".")], now, ErrMalformed},
		{"too long", set, token + strings.Repeat("A", MaxTokenLen), now, ErrMalformed},
	} {
		if _, err := c.set.VerifyViewer(c.token, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := NewKeySet(Key{ID: "k", Public: make([]byte, 31)}); err == nil {
		t.Error("31 bytes are a key")
	}
}

// TestUsesExcludeEachOther proves that a token of one use is refused where the other belongs, with a sentinel of its own, and that neither says
// what makes the other.
func TestUsesExcludeEachOther(t *testing.T) {
	signer, set, _, claims := verifyBed(t)
	viewer, err := signer.SignViewer(claims)
	if err != nil {
		t.Fatal(err)
	}
	circuit, err := signer.SignCircuit(circuitOf(claims))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if c, err := set.VerifyViewer(viewer, now); err != nil || c.Session != claims.Session || c.Use != UseViewer {
		t.Errorf("the viewer's token: %+v, %v", c, err)
	}
	if c, err := set.VerifyCircuit(circuit, now); err != nil || c.Circuit != 1<<64-1 || c.Use != UseCircuit {
		t.Errorf("the circuit's token: %+v, %v", c, err)
	}
	if c, err := set.VerifyViewer(circuit, now); !errors.Is(err, ErrWrongUse) || c != (ViewerClaims{}) {
		t.Errorf("a circuit's token as a viewer's: %+v, %v", c, err)
	}
	if c, err := set.VerifyCircuit(viewer, now); !errors.Is(err, ErrWrongUse) || c.Lease != "" {
		t.Errorf("a viewer's token as a circuit's: %+v, %v", c, err)
	}
	p, err := split(circuit)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{`"session"`, `"viewer"`, `"role"`, `"cnf"`} {
		if strings.Contains(string(p.payload), secret) {
			t.Errorf("the circuit's token tells the relay %s: %s", secret, p.payload)
		}
	}
	// A token that was signed without a use, whatever else it says, is of no use.
	bare, err := signer.sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.VerifyViewer(bare, now); !errors.Is(err, ErrWrongUse) {
		t.Errorf("a token without a use: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	signer, set, _, claims := verifyBed(b)
	token, err := signer.SignViewer(claims)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.VerifyViewer(token, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
