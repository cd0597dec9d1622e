package lease

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"aidanwoods.dev/go-paseto"
)

// TestSignAgreesWithLibrary proves that tokens are PASETO v4.public by an independent implementation.
func TestSignAgreesWithLibrary(t *testing.T) {
	signer, _, key, claims := verifyBed(t)
	token, err := signer.SignViewer(claims)
	if err != nil {
		t.Fatal(err)
	}
	public, err := paseto.NewV4AsymmetricPublicKeyFromEd25519(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	parser := paseto.MakeParser(nil)
	parsed, err := parser.ParseV4Public(public, token, nil)
	if err != nil {
		t.Fatalf("the other implementation does not take ours: %v", err)
	}
	if id, err := parsed.GetJti(); err != nil || id != claims.Lease {
		t.Errorf("jti %q, %v", id, err)
	}
}

// TestSignRefuses proves each rule of the claims and of the key.
func TestSignRefuses(t *testing.T) {
	signer, _, _, good := verifyBed(t)
	for name, change := range map[string]func(*ViewerClaims){
		"no session":           func(c *ViewerClaims) { c.Session = "" },
		"long host":            func(c *ViewerClaims) { c.Host = strings.Repeat("h", 65) },
		"no viewer":            func(c *ViewerClaims) { c.Viewer = "" },
		"no role":              func(c *ViewerClaims) { c.Role = "" },
		"no key":               func(c *ViewerClaims) { c.Key = Confirmation{} },
		"a short key":          func(c *ViewerClaims) { c.Key.Thumbprint = c.Key.Thumbprint[1:] },
		"a garbled key":        func(c *ViewerClaims) { c.Key.Thumbprint = "+" + c.Key.Thumbprint[1:] },
		"expires at its start": func(c *ViewerClaims) { c.Expiry = c.NotBefore.Add(-time.Second) },
	} {
		c := good
		change(&c)
		if _, err := signer.SignViewer(c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for name, change := range map[string]func(*CircuitClaims){
		"no relay":             func(c *CircuitClaims) { c.Relay = "" },
		"no circuit":           func(c *CircuitClaims) { c.Circuit = 0 },
		"long region":          func(c *CircuitClaims) { c.Region = strings.Repeat("r", 65) },
		"expires at its start": func(c *CircuitClaims) { c.Expiry = c.NotBefore.Add(-time.Second) },
	} {
		c := circuitOf(good)
		change(&c)
		if _, err := signer.SignCircuit(c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := NewSigner("k", make(ed25519.PrivateKey, 5)); err == nil {
		t.Error("a short key was taken")
	}
}

func BenchmarkSign(b *testing.B) {
	signer, _, _, claims := verifyBed(b)
	b.ReportAllocs()
	for range b.N {
		if _, err := signer.SignViewer(claims); err != nil {
			b.Fatal(err)
		}
	}
}
