package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"
)

const (
	// certificateLife is how long a certificate is valid. Browsers accept at most 14 days for serverCertificateHashes
	// (W3C WebTransport, section 3.1.1); one day is left for clocks that disagree.
	certificateLife = 13 * 24 * time.Hour
	// certificateOverlap is how long before its end a certificate gets a successor. It must exceed the longest lease and grace
	// together, so that every viewer who was told only the old hash can still reconnect.
	certificateOverlap = 24 * time.Hour
	// certificateBackdate lets viewers with slow clocks in.
	certificateBackdate = time.Hour
)

// Certificates is the rotating self-signed certificate of a host. Viewers pin its hash, so nobody else needs to trust it.
// It is safe for concurrent use.
type Certificates struct {
	now func() time.Time

	mu      sync.Mutex // guards the following
	current *certificate
	next    *certificate // set during the overlap
}

type certificate struct {
	tls      tls.Certificate
	hash     [sha256.Size]byte
	notAfter time.Time
}

// NewCertificates creates the first certificate. now is the wall clock.
func NewCertificates(now func() time.Time) (*Certificates, error) {
	first, err := newCertificate(now())
	if err != nil {
		return nil, err
	}
	return &Certificates{now: now, current: first}, nil
}

// Hashes returns the SHA-256 of the certificates a viewer should accept from now on and until when that statement holds.
func (c *Certificates) Hashes() (hashes [][]byte, expiry time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.rotate(); err != nil {
		return nil, time.Time{}, err
	}
	hashes = append(hashes, c.current.hash[:])
	expiry = c.current.notAfter
	if c.next != nil {
		hashes = append(hashes, c.next.hash[:])
		expiry = c.next.notAfter
	}
	return hashes, expiry, nil
}

// get is tls.Config.GetCertificate.
func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.rotate(); err != nil {
		return nil, err
	}
	return &c.current.tls, nil
}

// rotate creates the successor when the overlap begins and switches halfway through it: every grant since then names both.
func (c *Certificates) rotate() error {
	now := c.now()
	if c.next == nil && now.After(c.current.notAfter.Add(-certificateOverlap)) {
		next, err := newCertificate(now)
		if err != nil {
			return err
		}
		c.next = next
	}
	if c.next != nil && now.After(c.current.notAfter.Add(-certificateOverlap/2)) {
		c.current, c.next = c.next, nil
	}
	return nil
}

func newCertificate(now time.Time) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate host certificate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generate host certificate serial: %w", err)
	}
	notBefore := now.Add(-certificateBackdate).Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "wavry host"},
		NotBefore:    notBefore,
		NotAfter:     notBefore.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"wavry-host.invalid"}, // viewers pin the hash and ignore the name
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create host certificate: %w", err)
	}
	return &certificate{
		tls:      tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		hash:     sha256.Sum256(der),
		notAfter: template.NotAfter,
	}, nil
}
