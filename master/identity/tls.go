package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Files names the PEM files of one service: the authority it trusts, its own certificate and key. They are read again when they change, so
// that a renewed certificate needs no restart. A client that shows a token instead of a certificate names the authority only.
type Files struct{ Authority, Certificate, Key string }

// Empty reports whether nothing is configured.
func (f Files) Empty() bool { return f == Files{} }

// authorityOnly reports whether there is no certificate to show.
func (f Files) authorityOnly() bool { return f.Certificate == "" && f.Key == "" }

// Load reads the files for the first time and reports every problem at once.
func (f Files) Load() (*Source, error) {
	s := &Source{files: f}
	if _, err := s.current(); err != nil {
		return nil, err
	}
	return s, nil
}

// Source holds the present contents of Files, or what an Authority of this process gave it. It is safe for concurrent use.
type Source struct {
	files Files // empty: loaded holds for good

	mu     sync.Mutex // guards the following
	loaded *material
	stamp  [3]time.Time
}

type material struct {
	pool        *x509.CertPool
	certificate tls.Certificate
}

// current returns the contents, read again if a file changed. A file that became unreadable keeps the last good contents.
func (s *Source) current() (*material, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files.Empty() {
		return s.loaded, nil
	}
	stamp, err := s.files.stamps()
	if s.loaded != nil && (err != nil || stamp == s.stamp) {
		return s.loaded, nil
	}
	if err != nil {
		return nil, err
	}
	fresh, err := s.files.read()
	if err != nil {
		if s.loaded != nil {
			return s.loaded, nil
		}
		return nil, err
	}
	s.loaded, s.stamp = fresh, stamp
	return fresh, nil
}

func (f Files) stamps() (stamp [3]time.Time, err error) {
	var problems []error
	for i, path := range []string{f.Authority, f.Certificate, f.Key} {
		if i > 0 && f.authorityOnly() {
			break
		}
		info, err := os.Stat(path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		stamp[i] = info.ModTime()
	}
	return stamp, errors.Join(problems...)
}

func (f Files) read() (*material, error) {
	authority, err := os.ReadFile(f.Authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: no certificate in it", f.Authority)
	}
	if f.authorityOnly() {
		return &material{pool: pool}, nil
	}
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", f.Certificate, err)
	}
	return &material{pool: pool, certificate: certificate}, nil
}

// Server is the TLS configuration of a server whose clients may, but need not, show a certificate. protocols is the ALPN list.
func (s *Source) Server(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m, err := s.current()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion: tls.VersionTLS13, NextProtos: protocols, Certificates: []tls.Certificate{m.certificate},
				ClientCAs: m.pool, ClientAuth: tls.VerifyClientCertIfGiven,
			}, nil
		},
	}
}

// Client is the TLS configuration of a client that talks only to services of the given role, under whatever address they have.
func (s *Source) Client(peer Role, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protocols,
		// The chain is verified in VerifyConnection, against the role instead of the name: servers move between addresses.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m, err := s.current()
			if err != nil {
				return nil, err
			}
			return &m.certificate, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error { return s.verifyPeer(state, peer) },
	}
}

func (s *Source) verifyPeer(state tls.ConnectionState, peer Role) error {
	m, err := s.current()
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	options := x509.VerifyOptions{Roots: m.pool, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return fmt.Errorf("verify %s: %w", peer, err)
	}
	id, err := OfCertificate(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if id.Role != peer {
		return fmt.Errorf("%w: expected a %s, the certificate is of %s", ErrBadCredentials, peer, id)
	}
	return nil
}
