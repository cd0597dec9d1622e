package nomadidentity

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/wavry/fleet/master/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nomad signs as Nomad does and publishes its key.
type nomad struct {
	key    *rsa.PrivateKey
	server *httptest.Server
}

func newNomad(t *testing.T) *nomad {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	n := &nomad{key: key}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(n.server.Close)
	return n
}

func (n *nomad) sign(t *testing.T, key *rsa.PrivateKey, c map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A workload is who the mapping says, and nobody with any claim, signature or time wrong.
func TestAuthenticate(t *testing.T) {
	n := newNomad(t)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := New(Config{JWKSURL: n.server.URL, Audience: "wavry", Namespace: "default", Mapping: DefaultMapping(), Client: client})
	if err != nil {
		t.Fatal(err)
	}
	good := func(change map[string]any) map[string]any {
		c := map[string]any{"nomad_allocation_id": "a1", "nomad_namespace": "default", "nomad_job_id": "wavry-host-sway", "nomad_task": "host", "aud": []string{"wavry"}, "exp": time.Now().Add(time.Hour).Unix()}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	for _, c := range []struct {
		name   string
		key    *rsa.PrivateKey
		change map[string]any
		want   string
	}{
		{"host", n.key, nil, "host/wavry-host-sway@*"},
		{"relay", n.key, map[string]any{"nomad_job_id": "wavry-relay", "nomad_task": "relay"}, "relay/wavry-relay@*"},
		{"backup", n.key, map[string]any{"nomad_job_id": "wavry-backup", "nomad_task": "backup"}, "backup/wavry-backup"},
		{"job that looks like a child of ours", n.key, map[string]any{"nomad_job_id": "wavry-backup/periodic-1", "nomad_task": "backup"}, ""},
		{"job with the separator", n.key, map[string]any{"nomad_job_id": "wavry-host-sway@node1"}, ""},
		{"job with a wildcard", n.key, map[string]any{"nomad_job_id": "wavry-host-*"}, ""},
		{"other task of the job", n.key, map[string]any{"nomad_task": "desktop"}, ""},
		{"other job", n.key, map[string]any{"nomad_job_id": "web"}, ""},
		{"other namespace", n.key, map[string]any{"nomad_namespace": "people"}, ""},
		{"other audience", n.key, map[string]any{"aud": "consul.io"}, ""},
		{"expired", n.key, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, ""},
		{"no end", n.key, map[string]any{"exp": 0}, ""},
		{"stranger's key", stranger, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("Authorization", "Bearer "+n.sign(t, c.key, good(c.change)))
			id, err := a.Authenticate(r)
			if c.want == "" {
				if !errors.Is(err, identity.ErrBadCredentials) {
					t.Errorf("%v, %v, want it refused", id, err)
				}
				return
			}
			if err != nil || id.String() != c.want || id.Instance != "a1" {
				t.Errorf("%v, %v, want %s", id, err, c.want)
			}
		})
	}
}

// Other kinds of credentials are left to other authenticators.
func TestNotOurs(t *testing.T) {
	a, err := New(Config{JWKSURL: "http://127.0.0.1:1", Audience: "wavry"})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", nil)
	for _, header := range []string{"", "Bearer plain", "Basic a.b.c"} {
		r.Header.Set("Authorization", header)
		if _, err := a.Authenticate(r); !errors.Is(err, identity.ErrNoCredentials) {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// Every mistake in the configuration is named at once.
func TestConfig(t *testing.T) {
	_, err := New(Config{JWKSURL: "nomad", Mapping: []string{"a=b", "j/t=king/x", "[/t=host/x"}})
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Errorf("got %v", err)
	}
}

// An identity of a job speaks for its instances and for nobody else's.
func TestSpeaks(t *testing.T) {
	id := identity.Identity{Role: identity.RoleHost, Name: "wavry-host-sway@*"}
	for name, want := range map[string]bool{
		"wavry-host-sway@n1": true, "wavry-host-gnome@n1": false, "wavry-host-sway": false, "wavry-host-sway@": false, "wavry-host-sway@n1@n2": false,
		"wavry-host-sway-finance@node1": false, "wavry-host-sway-finance-node1": false,
	} {
		if id.Speaks(identity.RoleHost, name) != want {
			t.Errorf("speaks for %s: %v", name, !want)
		}
	}
	if id.Speaks(identity.RoleRelay, "wavry-host-sway@n1") {
		t.Error("a host speaks for a relay")
	}
}
