package identity

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestParse proves that only known roles with a plain name are identities.
func TestParse(t *testing.T) {
	for s, ok := range map[string]bool{
		"relay/r1": true, "host/*": true, "host/job@*": true, "backup/b": true, "host/h*": false, "host/@n": false, "host/job@": false, "": false, "relay": false, "relay/": false, "relay/a/b": false, "root/x": false,
	} {
		id, err := Parse(s)
		if (err == nil) != ok {
			t.Errorf("Parse(%q) = %v, %v", s, id, err)
		}
		if ok && id.String() != s {
			t.Errorf("Parse(%q).String() = %q", s, id)
		}
	}
}

// TestTokensAndForwarding proves the order of a chain, that a bad token is not passed over, and that only servers act for others.
func TestTokensAndForwarding(t *testing.T) {
	tokens := Tokens{"m": {Role: RoleMaster, Name: "m1"}, "g": {Role: RoleGateway, Name: "g1"}}
	auth := Forwarded{Inner: Chain{Certificate{}, tokens}}
	for name, c := range map[string]struct {
		token, behalf, want string
		err                 error
	}{
		"none":               {"", "", "", ErrNoCredentials},
		"gateway":            {"g", "", "gateway/g1", nil},
		"unknown":            {"x", "", "", ErrBadCredentials},
		"server for gateway": {"m", "gateway/g2", "gateway/g2", nil},
		"server for nobody":  {"m", Anonymous, "", ErrNoCredentials},
		"gateway for other":  {"g", "operator/o", "", ErrBadCredentials},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		if c.behalf != "" {
			r.Header.Set(ForwardedHeader, c.behalf)
		}
		id, err := auth.Authenticate(r)
		if !errors.Is(err, c.err) || (err == nil && id.String() != c.want) {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
}

// TestMutualTLS proves that both ends know each other by role, that a wrong role and a foreign authority are refused, and that no certificate
// means anonymous.
func TestMutualTLS(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	authority, ca := mustAuthority(t, now)
	_, foreignCA := mustAuthority(t, now)
	write(t, ca, dir, "ca")
	write(t, foreignCA, dir, "foreign")
	for _, id := range []Identity{{Role: RoleMaster, Name: "m1"}, {Role: RoleRelay, Name: "r1"}} {
		pair, err := authority.Issue(id, []string{"127.0.0.1", "localhost"}, now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		write(t, pair, dir, string(id.Role))
	}
	load := func(ca, name string) *Source {
		s, err := Files{filepath.Join(dir, ca+".pem"), filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")}.Load()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	serve := func(name string) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := Certificate{}.Authenticate(r)
			if err != nil {
				_, _ = io.WriteString(w, err.Error())
				return
			}
			_, _ = io.WriteString(w, id.String())
		}))
		server.Config.ErrorLog = nil
		server.TLS = load("ca", name).Server("h2", "http/1.1")
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	server := serve("master")
	get := func(url string, config *tls.Config) (string, error) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	if got, err := get(server.URL, load("ca", "relay").Client(RoleMaster)); err != nil || got != "relay/r1" {
		t.Errorf("with certificate: %q, %v", got, err)
	}
	if _, err := get(server.URL, load("foreign", "relay").Client(RoleMaster)); err == nil {
		t.Error("a server of another authority was trusted")
	}
	if _, err := get(serve("relay").URL, load("ca", "relay").Client(RoleMaster)); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a relay posing as master: %v", err)
	}
	anonymous := load("ca", "relay").Client(RoleMaster)
	anonymous.GetClientCertificate = nil
	if got, err := get(server.URL, anonymous); err != nil || !strings.Contains(got, ErrNoCredentials.Error()) {
		t.Errorf("anonymous: %q, %v", got, err)
	}
}

func mustAuthority(t *testing.T, now time.Time) (*Authority, KeyPair) {
	t.Helper()
	authority, pair, err := NewAuthority(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return authority, pair
}

func write(t *testing.T, pair KeyPair, dir, base string) {
	t.Helper()
	if err := pair.WriteFiles(dir, base); err != nil {
		t.Fatal(err)
	}
}
