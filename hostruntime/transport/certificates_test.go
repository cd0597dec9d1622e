package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// wallClock is a clock that a test moves.
type wallClock struct{ now time.Time }

func newCertificates(t *testing.T) (*Certificates, *wallClock) {
	t.Helper()
	clock := &wallClock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	c, err := NewCertificates(func() time.Time { return clock.now })
	if err != nil {
		t.Fatal(err)
	}
	return c, clock
}

// served is the certificate that a viewer gets now.
func served(t *testing.T, c *Certificates) *x509.Certificate {
	t.Helper()
	got, err := c.get(nil)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(got.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func granted(t *testing.T, c *Certificates) ([][]byte, time.Time) {
	t.Helper()
	hashes, expiry, err := c.Hashes()
	if err != nil {
		t.Fatal(err)
	}
	return hashes, expiry
}

func names(hashes [][]byte, c *x509.Certificate) bool {
	sum := sha256.Sum256(c.Raw)
	return slices.ContainsFunc(hashes, func(h []byte) bool { return bytes.Equal(h, sum[:]) })
}

// The certificate is what browsers accept by hash: ECDSA on P-256, valid for at most 13 days, now and for slow clocks.
func TestCertificateIsWhatBrowsersAccept(t *testing.T) {
	c, clock := newCertificates(t)
	got := served(t, c)
	key, ok := got.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		t.Errorf("public key %T", got.PublicKey)
	}
	if life := got.NotAfter.Sub(got.NotBefore); life > 13*24*time.Hour {
		t.Errorf("valid for %v", life)
	}
	if got.NotBefore.After(clock.now.Add(-30 * time.Minute)) {
		t.Errorf("valid from %v at %v", got.NotBefore, clock.now)
	}
}

// Over two months, every certificate that is served is valid, and every grant of the last twelve hours names it.
func TestRotation(t *testing.T) {
	c, clock := newCertificates(t)
	const step = 20 * time.Minute
	type grant struct {
		at     time.Time
		hashes [][]byte
	}
	var grants []grant
	seen := map[[sha256.Size]byte]bool{}
	for end := clock.now.AddDate(0, 2, 0); clock.now.Before(end); clock.now = clock.now.Add(step) {
		hashes, expiry := granted(t, c)
		now := served(t, c)
		seen[sha256.Sum256(now.Raw)] = true
		if clock.now.Before(now.NotBefore) || clock.now.After(now.NotAfter.Add(-11*time.Hour)) {
			t.Fatalf("at %v a certificate of %v to %v is served", clock.now, now.NotBefore, now.NotAfter)
		}
		if len(hashes) > 2 || expiry.Before(clock.now.Add(certificateOverlap/2)) {
			t.Fatalf("at %v: %d hashes until %v", clock.now, len(hashes), expiry)
		}
		grants = append(grants, grant{clock.now, hashes})
		for len(grants) > 0 && clock.now.Sub(grants[0].at) > 12*time.Hour {
			grants = grants[1:]
		}
		for _, g := range grants {
			if !names(g.hashes, now) {
				t.Fatalf("the grant of %v does not name the certificate served at %v", g.at, clock.now)
			}
		}
	}
	if len(seen) < 5 || len(seen) > 6 {
		t.Errorf("%d certificates in two months", len(seen))
	}
}

// A host that nobody visited for a month has a fresh certificate for the first visitor, and a clock that jumps back breaks nothing.
func TestRotationAfterALongSilence(t *testing.T) {
	c, clock := newCertificates(t)
	first := served(t, c)
	clock.now = clock.now.AddDate(0, 1, 0)
	hashes, _ := granted(t, c)
	now := served(t, c)
	if now.Equal(first) || !names(hashes, now) || clock.now.After(now.NotAfter) {
		t.Errorf("after a month: %v to %v, named %v", now.NotBefore, now.NotAfter, names(hashes, now))
	}
	clock.now = clock.now.Add(-time.Minute)
	if again := served(t, c); !again.Equal(now) {
		t.Error("a clock that went back changed the certificate")
	}
}
