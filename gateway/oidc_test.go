package gateway

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// provider is a small but real OpenID Connect provider: discovery, keys, authorization code with PKCE, signed ID tokens. Everybody
// who comes is the person in claims.
type provider struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey

	mu     sync.Mutex // guards the following
	claims map[string]any
	codes  map[string]url.Values // to the authorization request
	change func(map[string]any)  // spoils the ID token
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key, codes: map[string]url.Values{}, claims: map[string]any{"sub": "s-1", "email": "ada@example.org", "email_verified": true}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /auth", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" {
		http.Error(w, "no PKCE or no nonce", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.codes[code] = q
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	asked, known := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	if !known || id != "wavry" || secret != "hush" || oauth2.S256ChallengeFromVerifier(r.FormValue("code_verifier")) != asked.Get("code_challenge") {
		w.WriteHeader(http.StatusBadRequest)
		p.json(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	claims := map[string]any{"iss": p.URL, "aud": "wavry", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "nonce": asked.Get("nonce")}
	for k, v := range p.claims {
		claims[k] = v
	}
	if p.change != nil {
		p.change(claims)
	}
	p.json(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": p.sign(claims)})
}

func (p *provider) sign(claims map[string]any) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: "1"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p *provider) person(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = claims
}

// visit follows the redirects of a sign-in and returns where the browser ends up.
func (b *browser) visit(address string) string {
	b.t.Helper()
	for range 5 {
		resp, err := b.client.Get(address)
		if err != nil {
			b.t.Fatal(err)
		}
		resp.Body.Close()
		next := resp.Header.Get("Location")
		if next == "" {
			b.t.Fatalf("%s: %d without a redirect", address, resp.StatusCode)
		}
		if strings.HasPrefix(next, "/") {
			return next
		}
		address = next
	}
	b.t.Fatal("too many redirects")
	return ""
}

func oidcSite(t *testing.T, change ...func(*OIDC)) (*site, *provider) {
	t.Helper()
	p := startProvider(t)
	o := OIDC{Issuer: p.URL, ClientID: "wavry", ClientSecret: "hush", Button: "Example ID", Create: true}
	for _, c := range change {
		c(&o)
	}
	front := freePort(t)
	s := startSite(t, func(c *Config) { c.OIDC, c.BindAddr, c.PublicURL = &o, front, "http://"+front })
	return s, p
}

// freePort is an address nobody listens on just now: OIDC's redirect must be known before the gateway listens.
func freePort(t *testing.T) string {
	t.Helper()
	l := httptest.NewServer(http.NotFoundHandler())
	defer l.Close()
	return l.Listener.Addr().String()
}

// A person signs in through the provider, comes back as the same account, and the sign-in page offers the button.
func TestOIDCSignIn(t *testing.T) {
	s, _ := oidcSite(t)
	b := s.browser()
	if i := ok[signalapi.Info](b, "GET", signalapi.PathInfo, nil); i.OIDC != "Example ID" || !i.Accounts {
		t.Fatalf("info %+v", i)
	}
	for range 2 {
		if end := b.visit(s.URL() + signalapi.PathOIDCStart); end != "/" {
			t.Fatalf("ended at %q", end)
		}
		if me := ok[signalapi.Me](b, "GET", signalapi.PathMe, nil); me.Name != "ada@example.org" || me.Role != "viewer" || me.Password {
			t.Fatalf("me %+v", me)
		}
	}
	users, err := s.open.Load().store.Users(t.Context())
	if err != nil || len(users) != 1 {
		t.Fatalf("accounts %+v, %v", users, err)
	}
}

// A claim decides the role at every sign-in; without it nobody is promoted.
func TestOIDCRoles(t *testing.T) {
	s, p := oidcSite(t, func(o *OIDC) {
		o.RoleClaim, o.AdminValues, o.OperatorValues = "groups", []string{"admins"}, []string{"ops"}
	})
	admin := s.admin() // so that ada is not the last one
	b := s.browser()
	for _, c := range []struct {
		groups any
		role   string
	}{{[]string{"staff", "admins"}, "admin"}, {"ops", "operator"}, {nil, "viewer"}, {[]any{7, "ops"}, "operator"}} {
		p.person(map[string]any{"sub": "s-1", "email": "ada@example.org", "email_verified": true, "groups": c.groups})
		b.visit(s.URL() + signalapi.PathOIDCStart)
		if me := ok[signalapi.Me](b, "GET", signalapi.PathMe, nil); me.Role != c.role {
			t.Errorf("groups %v: role %s, want %s", c.groups, me.Role, c.role)
		}
	}
	_ = admin
}

// An existing account is bound by its verified address only; strangers are refused when accounts are not made; a disabled or
// taken account stays shut.
func TestOIDCBinding(t *testing.T) {
	s, p := oidcSite(t, func(o *OIDC) { o.Create = false })
	admin := s.admin()
	invite := ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "ada@example.org", Role: "operator"})
	refused := func(why string) {
		t.Helper()
		if end := s.browser().visit(s.URL() + signalapi.PathOIDCStart); !strings.HasPrefix(end, "/"+signalapi.OIDCErrorFragment) {
			t.Fatalf("%s: signed in, ended at %q", why, end)
		}
	}
	p.person(map[string]any{"sub": "s-1", "email": "ada@example.org", "email_verified": false})
	refused("an address that is not verified")
	p.person(map[string]any{"sub": "s-1", "email": "bob@example.org", "email_verified": true})
	refused("a stranger")
	p.person(map[string]any{"sub": "s-1", "email": "ada@example.org", "email_verified": true})
	b := s.browser()
	b.visit(s.URL() + signalapi.PathOIDCStart)
	if me := ok[signalapi.Me](b, "GET", signalapi.PathMe, nil); me.Role != "operator" {
		t.Fatalf("me %+v", me)
	}
	p.person(map[string]any{"sub": "s-2", "email": "ada@example.org", "email_verified": true})
	refused("another identity with the same address")
	yes := true
	ok[signalapi.User](admin, "POST", signalapi.PathAdminUser+invite.User.ID, signalapi.UserChange{Disabled: &yes})
	p.person(map[string]any{"sub": "s-1", "email": "ada@example.org", "email_verified": true})
	refused("a disabled account")
	if u, err := s.open.Load().store.UserByID(t.Context(), invite.User.ID); err != nil || u.OIDCSubject != "s-1" || u.Role != store.RoleOperator {
		t.Fatalf("account %+v, %v", u, err)
	}
}

// Tokens of others, for others, of another sign-in or out of date sign nobody in, nor does a flow that this browser did not begin.
func TestOIDCRefuses(t *testing.T) {
	s, p := oidcSite(t)
	for name, change := range map[string]func(map[string]any){
		"issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"audience": func(c map[string]any) { c["aud"] = "another" },
		"expired":  func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"nonce":    func(c map[string]any) { c["nonce"] = "x" },
	} {
		p.mu.Lock()
		p.change = change
		p.mu.Unlock()
		b := s.browser()
		if end := b.visit(s.URL() + signalapi.PathOIDCStart); !strings.HasPrefix(end, "/"+signalapi.OIDCErrorFragment) {
			t.Errorf("%s: ended at %q", name, end)
		}
		b.refused(http.StatusUnauthorized, signalapi.ReasonNotSignedIn, "GET", signalapi.PathMe, nil)
	}
	p.mu.Lock()
	p.change = nil
	p.mu.Unlock()
	for _, query := range []string{"", "?code=x&state=y", "?state=&code=x", "?error=access_denied"} {
		b := s.browser()
		if end := b.visit(s.URL() + signalapi.PathOIDCCallback + query); !strings.HasPrefix(end, "/"+signalapi.OIDCErrorFragment) {
			t.Errorf("callback %q ended at %q", query, end)
		}
	}
	// A code that was got elsewhere, slipped into a sign-in that this browser has begun: login CSRF.
	b := s.browser()
	resp, err := b.client.Get(s.URL() + signalapi.PathOIDCStart)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if end := b.visit(s.URL() + signalapi.PathOIDCCallback + "?state=elsewhere&code=x"); !strings.Contains(end, "begun%20elsewhere") {
		t.Errorf("another's state ended at %q", end)
	}
	p.Close()
	fresh, gone := oidcSite(t)
	gone.Close()
	if end := fresh.browser().visit(fresh.URL() + signalapi.PathOIDCStart); !strings.Contains(end, "cannot%20be%20reached") {
		t.Errorf("an absent provider: %q", end)
	}
}

// Two tabs that sign in at once both do, whichever comes back first, and what a browser begins and never ends stays bounded.
func TestOIDCTwoTabs(t *testing.T) {
	s, _ := oidcSite(t)
	b := s.browser()
	begin := func() string {
		resp, err := b.client.Get(s.URL() + signalapi.PathOIDCStart)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Location")
	}
	first, second := begin(), begin()
	for _, tab := range []string{first, second} {
		if end := b.visit(tab); end != "/" {
			t.Errorf("a tab ended at %q", end)
		}
	}
	for range 3 * maxFlows {
		begin()
	}
	if n := len(b.client.Jar.Cookies(must(url.Parse(s.URL())))); n > maxFlows+2 {
		t.Errorf("%d cookies", n)
	}
}

// A name that the provider has not verified is nobody's address and nobody else's name, and an address that only looks like another,
// or becomes it when letters are folded, is not that one.
func TestOIDCNames(t *testing.T) {
	s, p := oidcSite(t)
	admin := s.admin()
	ok[signalapi.Invite](admin, "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "kay@example.org", Role: "admin"})
	for name, claims := range map[string]map[string]any{
		"address of somebody":        {"preferred_username": "bob@example.org"},
		"address not verified":       {"preferred_username": "bob@example.org", "email": "bob@example.org", "email_verified": false},
		"address as the full name":   {"name": "bob@example.org"},
		"wide at sign":               {"preferred_username": "bob\uff20example.org"},
		"taken":                      {"preferred_username": "root"},
		"taken in another case":      {"preferred_username": "ROOT"},
		"Kelvin sign for a k":        {"email": "\u212aay@example.org", "email_verified": true},
		"Kelvin sign, not verified":  {"preferred_username": "\u212aay@example.org"},
		"verified, but only as text": {"email": "kay@example.org", "email_verified": "true"},
	} {
		claims["sub"] = "evil " + name
		p.person(claims)
		b := s.browser()
		if end := b.visit(s.URL() + signalapi.PathOIDCStart); !strings.HasPrefix(end, "/"+signalapi.OIDCErrorFragment) {
			t.Errorf("%s: ended at %q", name, end)
		}
	}
	users, err := s.open.Load().store.Users(t.Context())
	if err != nil || len(users) != 2 || users[0].OIDCSubject+users[1].OIDCSubject != "" {
		t.Errorf("accounts %+v, %v", users, err)
	}
}

// The owner of a name and the owner of an address come in by them.
func TestOIDCOwnNames(t *testing.T) {
	s, p := oidcSite(t)
	ok[signalapi.Invite](s.admin(), "POST", signalapi.PathAdminUsers, signalapi.NewUser{Name: "kay@example.org", Role: "admin"})
	p.person(map[string]any{"sub": "s-1", "preferred_username": "mallory"})
	if end := s.browser().visit(s.URL() + signalapi.PathOIDCStart); end != "/" {
		t.Errorf("a name of one's own ended at %q", end)
	}
	p.person(map[string]any{"sub": "s-2", "email": "KAY@Example.org", "email_verified": true})
	b := s.browser()
	b.visit(s.URL() + signalapi.PathOIDCStart)
	if me := ok[signalapi.Me](b, "GET", signalapi.PathMe, nil); me.Role != "admin" {
		t.Errorf("the owner of the address is %+v", me)
	}
}

// Every cookie of an https gateway has the __Host- prefix and all that it asks for.
func TestCookies(t *testing.T) {
	p := startProvider(t)
	s := startSite(t, func(c *Config) {
		c.PublicURL = "https://desk.example"
		c.OIDC = &OIDC{Issuer: p.URL, ClientID: "wavry", ClientSecret: "hush", Create: true}
	})
	local := "http://" + s.addr.String()
	request := func(method, path, body string, cookies ...*http.Cookie) *http.Response {
		req := must(http.NewRequest(method, local+path, strings.NewReader(body)))
		req.Host = "desk.example"
		req.Header.Set(signalapi.CSRFHeader, "1")
		req.Header.Set("Content-Type", "application/json")
		for _, c := range cookies {
			req.AddCookie(c)
		}
		resp := must(s.browser().client.Do(req))
		resp.Body.Close()
		return resp
	}
	start := request("GET", signalapi.PathOIDCStart, "")
	state := must(url.Parse(start.Header.Get("Location"))).Query().Get("state")
	signIn := request("POST", signalapi.PathSignIn, `{"link":"`+token(s.first)+`","name":"root"}`)
	var set []*http.Cookie
	for _, resp := range []*http.Response{start, request("GET", signalapi.PathOIDCCallback+"?error=x&state="+state, "", start.Cookies()...),
		signIn, request("POST", signalapi.PathSignOut, "", signIn.Cookies()...)} {
		if len(resp.Cookies()) != 1 && resp != signIn {
			t.Errorf("%s sets %v", resp.Request.URL.Path, resp.Cookies())
		}
		set = append(set, resp.Cookies()...)
	}
	for _, c := range set {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite < http.SameSiteLaxMode {
			t.Errorf("cookie %s", c)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
