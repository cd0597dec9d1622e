package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Authority is a small certificate authority for one cluster, for those who have none yet.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// KeyPair is a certificate with its private key, both PEM.
type KeyPair struct{ Certificate, Key []byte }

// WriteFiles writes base.pem and base-key.pem into dir; the key is readable by its owner only. Existing files are refused.
func (k KeyPair) WriteFiles(dir, base string) error {
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{base + ".pem", k.Certificate, 0o644}, {base + "-key.pem", k.Key, 0o600}} {
		if err := writeNew(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func writeNew(path string, data []byte, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		_ = file.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return file.Close()
}

// NewAuthority makes a new authority valid from a little before now until now+life.
func NewAuthority(now time.Time, life time.Duration) (*Authority, KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, KeyPair{}, fmt.Errorf("make authority key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(now), Subject: pkix.Name{CommonName: "Wavry Fleet CA"},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, KeyPair{}, fmt.Errorf("make authority certificate: %w", err)
	}
	pair, err := encodePair(der, key)
	if err != nil {
		return nil, KeyPair{}, err
	}
	authority, err := LoadAuthority(pair)
	return authority, pair, err
}

// clockSlack is how far a new certificate reaches back, for machines whose clock is a little behind.
const clockSlack = 5 * time.Minute

// LoadAuthority reads an authority from PEM.
func LoadAuthority(pair KeyPair) (*Authority, error) {
	block, _ := pem.Decode(pair.Certificate)
	keyBlock, _ := pem.Decode(pair.Key)
	if block == nil || keyBlock == nil {
		return nil, fmt.Errorf("authority: certificate and key must be PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("authority certificate: %w", err)
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("authority key: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// Issue makes a certificate for one service, for both ends of a connection. names may hold DNS names and IP addresses; none are needed, since
// our clients verify the role and not the name.
func (a *Authority) Issue(id Identity, names []string, now time.Time, life time.Duration) (KeyPair, error) {
	if _, err := Parse(id.String()); err != nil {
		return KeyPair{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make key of %s: %w", id, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(now), Subject: pkix.Name{CommonName: id.String()},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: "fleet", Path: "/wavry/" + id.String()}},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make certificate of %s: %w", id, err)
	}
	return encodePair(der, key)
}

// Source is Issue for a service of this very process: nothing is written to a disk.
func (a *Authority) Source(id Identity, now time.Time, life time.Duration) (*Source, error) {
	pair, err := a.Issue(id, nil, now, life)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	s := a.Trust()
	s.loaded.certificate = certificate
	return s, nil
}

// Trust is the source of a client that trusts this authority and has no certificate to show.
func (a *Authority) Trust() *Source {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &Source{loaded: &material{pool: pool}}
}

func encodePair(der []byte, key *ecdsa.PrivateKey) (KeyPair, error) {
	encoded, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("encode key: %w", err)
	}
	return KeyPair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}),
	}, nil
}

// serial is unique enough for one authority: time and 64 random bits.
func serial(now time.Time) *big.Int {
	var random [8]byte
	_, _ = rand.Read(random[:]) // crypto/rand never fails: it ends the process instead
	n := new(big.Int).Lsh(big.NewInt(now.Unix()), 64)
	return n.Or(n, new(big.Int).SetBytes(random[:]))
}
