package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// acmeConfig gets and renews certificates in the background until ctx ends; the first is fetched while the listener is up. An authority
// that is away or refuses ends nothing: a certificate that is there goes on being served, and another try follows.
func (g *Gateway) acmeConfig(ctx context.Context) (*tls.Config, error) {
	t := g.cfg.TLS
	issuer, err := acmeIssuer(ctx, t, g.cfg.BindAddr)
	if err != nil {
		return nil, err
	}
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		RenewCheckInterval: t.recheck,
		Logger:             zap.NewNop(),
	})
	context.AfterFunc(ctx, cache.Stop)
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: t.ACMEFolder}, Logger: zap.NewNop(), // OnEvent says what matters, in our words
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			logACME(g.log, event, data)
			return nil
		},
	})
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, issuer)}
	if err := magic.ManageAsync(ctx, t.ACMEDomains); err != nil {
		return nil, fmt.Errorf("manage ACME certificates: %w", err)
	}
	config := magic.TLSConfig()
	config.NextProtos = append([]string{"h2", "http/1.1"}, config.NextProtos...)
	return config, nil
}

// acmeIssuer is the authority, as configured.
func acmeIssuer(ctx context.Context, t TLS, bind string) (issuer certmagic.ACMEIssuer, err error) {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		return issuer, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return issuer, err
	}
	issuer = certmagic.ACMEIssuer{
		CA: t.ACMEDirectory, Email: t.ACMEEmail, Agreed: true, DisableHTTPChallenge: true, Logger: zap.NewNop(),
		ListenHost: host, AltTLSALPNPort: number, // the challenge arrives at our own listener
	}
	if t.ACMEDirectory == "" {
		issuer.CA = certmagic.LetsEncryptProductionCA
	}
	if t.ACMERoots == "" {
		return issuer, nil
	}
	pem, err := os.ReadFile(t.ACMERoots)
	if err != nil {
		return issuer, fmt.Errorf("read acme_roots: %w", err)
	}
	issuer.TrustedRoots = x509.NewCertPool()
	if !issuer.TrustedRoots.AppendCertsFromPEM(pem) {
		return issuer, errors.New("read acme_roots: no certificate in " + t.ACMERoots)
	}
	return issuer, nil
}

// logACME writes one line for each certificate that came or could not be had.
func logACME(log *slog.Logger, event string, data map[string]any) {
	log = log.With("name", data["identifier"], "renewal", data["renewal"])
	switch event {
	case "cert_obtained":
		log.Info("certificate obtained", "authority", data["issuer"])
	case "cert_failed":
		err, _ := data["error"].(error)
		log.Error("no certificate; another try follows, and the one before is served as long as there is one", "cause", err, "do", acmeAdvice(err))
	}
}

// acmeAdvice says what an operator can do about an authority's refusal (RFC 8555, section 6.7).
func acmeAdvice(err error) string {
	var problem acme.Problem
	if !errors.As(err, &problem) {
		return "check that this machine reaches acme_directory, and that acme_roots vouches for it if it is a private one"
	}
	switch problem.Type {
	case acme.ProblemTypeConnection, acme.ProblemTypeTLS, acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse:
		return "let port 443 of the name, as the authority sees it, lead to bind_addr without ending TLS on the way"
	case acme.ProblemTypeDNS:
		return "give the name an A or AAAA record that leads to this gateway"
	case acme.ProblemTypeCAA:
		return "allow this authority in the name's CAA records"
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		return "correct acme_domains: this authority gives no certificate for the name"
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		return "correct acme_email"
	case acme.ProblemTypeRateLimited:
		return "wait: the authority's limit is used up; keep acme_folder over restarts"
	}
	if problem.Status >= http.StatusInternalServerError {
		return "wait: the authority has a fault of its own"
	}
	return "read the cause; the authority refused what was asked"
}
