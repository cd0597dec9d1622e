// Package identity says which service is calling: master, gateway, relay, host, backup or operator. It turns a request into an Identity by mutual
// TLS, by a bearer token, or by whatever else implements Authenticator (workload identities of a scheduler), and holds the TLS
// configurations that go with it.
//
// A certificate names its service in one URI SAN: spiffe://<trust domain>/wavry/<role>/<name>. The trust domain is not looked at:
// trust comes from the certificate authority.
package identity

import (
	"context"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Role is what a service is.
type Role string

// The closed set of roles.
const (
	RoleMaster   Role = "master"
	RoleGateway  Role = "gateway"
	RoleRelay    Role = "relay"
	RoleHost     Role = "host"
	RoleOperator Role = "operator"
	RoleBackup   Role = "backup" // may copy the state and nothing else
)

// Roles lists every role.
func Roles() []Role {
	return []Role{RoleMaster, RoleGateway, RoleRelay, RoleHost, RoleOperator, RoleBackup}
}

// Separator parts the segments of a name: the instance of a job on a node is JOB@NODE. A job's name may not hold it.
const Separator = "@"

// Identity is one service. Name is its id within the role: a relay may only speak for the relay of its name. A segment "*" stands for any one whole
// segment: a workload identity names a job, whose instances are named after their nodes, so it is JOB@*.
type Identity struct {
	Role Role
	Name string
	// Instance is which one of those that share the name this is, as its issuer says: an allocation of a job. Empty: the issuer does not say.
	Instance string
	// Serial is that of the certificate it showed, in hexadecimal; empty: it showed something else.
	Serial string
}

func (i Identity) String() string { return string(i.Role) + "/" + i.Name }

// Parse reads what String wrote.
func Parse(s string) (Identity, error) {
	role, name, ok := strings.Cut(s, "/")
	if !ok || name == "" || strings.Contains(name, "/") {
		return Identity{}, fmt.Errorf("identity %q: must be role/name", s)
	}
	for segment := range strings.SplitSeq(name, Separator) {
		if segment == "" || segment != "*" && strings.Contains(segment, "*") {
			return Identity{}, fmt.Errorf("identity %q: between %q there must be a name, or * for any one", s, Separator)
		}
	}
	for _, r := range Roles() {
		if Role(role) == r {
			return Identity{Role: r, Name: name}, nil
		}
	}
	return Identity{}, fmt.Errorf("identity %q: role must be one of %v", s, Roles())
}

// Speaks reports whether i may act as the machine id of role: segment by segment, so that JOB@* is no prefix of another job's name.
func (i Identity) Speaks(role Role, id string) bool {
	own, asked := strings.Split(i.Name, Separator), strings.Split(id, Separator)
	if i.Role != role || len(own) != len(asked) {
		return false
	}
	for n, segment := range own {
		if asked[n] == "" || segment != "*" && segment != asked[n] {
			return false
		}
	}
	return true
}

var (
	// ErrNoCredentials is returned by an Authenticator that found none of its kind in the request; a Chain then asks the next one.
	ErrNoCredentials = errors.New("no credentials")
	// ErrBadCredentials is returned for credentials that do not hold; nobody else is asked.
	ErrBadCredentials = errors.New("bad credentials")
)

// Authenticator tells who sent a request. It is called from many goroutines.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Chain asks each in order; the first one that does not answer ErrNoCredentials decides.
type Chain []Authenticator

// Authenticate implements Authenticator.
func (c Chain) Authenticate(r *http.Request) (Identity, error) {
	for _, a := range c {
		id, err := a.Authenticate(r)
		if !errors.Is(err, ErrNoCredentials) {
			return id, err
		}
	}
	return Identity{}, ErrNoCredentials
}

// Certificate authenticates by the client certificate that the TLS layer has verified already.
type Certificate struct{}

// Authenticate implements Authenticator.
func (Certificate) Authenticate(r *http.Request) (Identity, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Identity{}, ErrNoCredentials
	}
	return OfCertificate(r.TLS.VerifiedChains[0][0])
}

// OfCertificate reads the identity of a certificate; it does not verify the certificate.
func OfCertificate(c *x509.Certificate) (Identity, error) {
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if rest, ok := strings.CutPrefix(u.Path, "/wavry/"); ok {
			id, err := Parse(rest)
			if err != nil {
				return Identity{}, fmt.Errorf("%w: certificate: %w", ErrBadCredentials, err)
			}
			id.Serial = c.SerialNumber.Text(16)
			return id, nil
		}
	}
	return Identity{}, fmt.Errorf("%w: certificate %q has no URI spiffe://.../wavry/<role>/<name>", ErrBadCredentials, c.Subject.CommonName)
}

// Tokens authenticates by a static bearer token, for one process that runs every role and for tests.
type Tokens map[string]Identity

// Authenticate implements Authenticator. Comparison takes the same time for each token of the same length.
func (t Tokens) Authenticate(r *http.Request) (Identity, error) {
	token, ok := Bearer(r.Header)
	if !ok {
		return Identity{}, ErrNoCredentials
	}
	found, hit := Identity{}, false
	for candidate, id := range t {
		if subtle.ConstantTimeCompare([]byte(candidate), []byte(token)) == 1 {
			found, hit = id, true
		}
	}
	if !hit {
		return Identity{}, fmt.Errorf("%w: unknown token", ErrBadCredentials)
	}
	return found, nil
}

// Bearer returns the bearer token of a request's headers.
func Bearer(h http.Header) (string, bool) {
	token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	return token, ok && token != ""
}

// ForwardedHeader carries the identity of the caller when a server forwards a call to the leader; only servers are believed.
const ForwardedHeader = "Wavry-On-Behalf-Of"

// Forwarded lets a server act for the caller it names. Inner authenticates the server itself.
type Forwarded struct{ Inner Authenticator }

// Authenticate implements Authenticator.
func (f Forwarded) Authenticate(r *http.Request) (Identity, error) {
	id, err := f.Inner.Authenticate(r)
	behalf := r.Header.Get(ForwardedHeader)
	if err != nil || behalf == "" {
		return id, err
	}
	if id.Role != RoleMaster {
		return Identity{}, fmt.Errorf("%w: %s may not act for others", ErrBadCredentials, id)
	}
	if behalf == Anonymous {
		return Identity{}, ErrNoCredentials
	}
	return Parse(behalf)
}

// Anonymous is what a server forwards for a caller without credentials.
const Anonymous = "-"

type contextKey struct{}

// NewContext returns ctx carrying id.
func NewContext(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, contextKey{}, id)
}

// FromContext returns the caller's identity; ok is false for an anonymous caller.
func FromContext(ctx context.Context) (id Identity, ok bool) {
	id, ok = ctx.Value(contextKey{}).(Identity)
	return id, ok
}
