package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
)

// writeCert makes a self-signed certificate for 127.0.0.1 with this serial number.
func writeCert(t *testing.T, dir string, serial int64, written time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}, &x509.Certificate{}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Over TLS the cookie is bound to this host and to https, and browsers are told to stay with https; a renewed certificate is
// served without a restart, a broken one is not.
func TestTLSFiles(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	cert, key := writeCert(t, dir, 1, c.now())
	s := startSite(t, withClock(c), func(cfg *Config) { cfg.TLS.CertFile, cfg.TLS.KeyFile = cert, key })
	if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") {
		t.Fatalf("url %q", s.URL())
	}
	serial := func() (n int64) {
		b := s.browser()
		b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		resp, err := b.client.Get(s.URL() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Header.Get("Strict-Transport-Security") == "" {
			t.Error("no HSTS")
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if serial() != 1 {
		t.Fatal("not our certificate")
	}
	writeCert(t, dir, 2, c.now().Add(time.Minute))
	c.add(certRecheck)
	if serial() != 2 {
		t.Fatal("the renewed certificate is not served")
	}
	if err := os.WriteFile(cert, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.add(certRecheck)
	if serial() != 2 {
		t.Fatal("a broken file took the certificate away")
	}

	b := s.browser()
	b.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	ok[signalapi.Me](b, "POST", signalapi.PathSignIn, signalapi.SignIn{Link: token(s.first), Name: "root", Password: goodPassword})
	cookies := b.client.Jar.Cookies(mustURL(t, s.URL()))
	if len(cookies) != 2 || cookies[0].Name != "__Host-wavry" {
		t.Fatalf("cookies %v", cookies)
	}
	b.signal().connect(request1)
}

// A certificate that cannot be read is said at the start, not at the first visitor.
func TestTLSMissing(t *testing.T) {
	cfg := testConfig(t, startFleet(t))
	cfg.TLS.CertFile, cfg.TLS.KeyFile = "/nowhere/cert.pem", "/nowhere/key.pem"
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS certificate") {
		t.Fatalf("run: %v", err)
	}
	if err := g.Run(t.Context()); err == nil {
		t.Fatal("a gateway ran twice")
	}
}
