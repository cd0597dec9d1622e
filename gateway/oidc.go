package gateway

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

const (
	// oidcFlow is how long a person may take at the provider.
	oidcFlow = 10 * time.Minute
	// oidcTimeout bounds each question to the provider.
	oidcTimeout = 10 * time.Second
	// oidcCookie is followed by the name of the flow: two tabs that sign in at once do not know of each other.
	oidcCookie = "wavry-oidc-"
	// maxFlows bounds the sign-ins that one browser has begun and not ended; beyond it the oldest ones end. Each is a cookie of 300 bytes.
	maxFlows = 8
	// maxIDToken bounds what a provider may answer.
	maxIDToken = 1 << 20
)

// oidcClient speaks to the identity provider. It is discovered when the first person comes, so that an absent provider does not
// keep the gateway from starting.
type oidcClient struct {
	cfg      OIDC
	redirect string
	http     *http.Client

	mu       sync.Mutex // guards the following
	provider *oidc.Provider
}

func newOIDC(cfg OIDC, publicURL string) *oidcClient {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck // the default is what its documentation says
	transport.DisableKeepAlives = true                           // a few sign-ins a minute; nothing to close at the end
	return &oidcClient{cfg: cfg, redirect: publicURL + signalapi.PathOIDCCallback, http: &http.Client{Timeout: oidcTimeout, Transport: limitedBody{transport}}}
}

// limitedBody bounds answers of the provider.
type limitedBody struct{ http.RoundTripper }

func (l limitedBody) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxIDToken)
	}
	return resp, err
}

// discover asks the provider who it is, once it answers.
func (o *oidcClient) discover(ctx context.Context) (*oidc.Provider, *oauth2.Config, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider == nil {
		// The provider keeps the context for fetching its keys later on.
		p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.http), o.cfg.Issuer)
		if err != nil {
			return nil, nil, err
		}
		o.provider = p
	}
	scopes := append([]string{oidc.ScopeOpenID}, o.cfg.Scopes...)
	if len(o.cfg.Scopes) == 0 {
		scopes = append(scopes, "profile", "email")
	}
	return o.provider, &oauth2.Config{ClientID: o.cfg.ClientID, ClientSecret: string(o.cfg.ClientSecret), Endpoint: o.provider.Endpoint(),
		RedirectURL: o.redirect, Scopes: scopes}, nil
}

// flow is what the browser keeps while the person is at the provider.
type flow struct {
	State, Nonce, Verifier string
}

func oidcStart(c *call) (any, error) {
	if c.gw.oidc == nil {
		return nil, notFound("identity provider")
	}
	if err := c.limitAddress(); err != nil {
		return nil, err
	}
	_, config, err := c.gw.oidc.discover(c.Context())
	if err != nil {
		c.gw.log.Warn("identity provider does not answer", "cause", err)
		return c.oidcFailed("The identity provider cannot be reached just now; try again in a moment.")
	}
	f := flow{string(credential.NewToken()), string(credential.NewToken()), oauth2.GenerateVerifier()}
	c.setFlow(f)
	http.Redirect(c.w, c.Request, config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), http.StatusSeeOther)
	return handled, nil
}

// setFlow is Lax: the browser comes back from another site.
func (c *call) setFlow(f flow) {
	var begun []string
	for _, cookie := range c.Cookies() {
		if strings.HasPrefix(cookie.Name, c.gw.hostCookie(oidcCookie)) {
			begun = append(begun, cookie.Name) // browsers send older ones first
		}
	}
	for _, name := range begun[:max(len(begun)-maxFlows+1, 0)] {
		c.setCookie(name, "", -1, http.SameSiteLaxMode)
	}
	text, err := json.Marshal(f)
	if err != nil {
		panic("gateway: three texts are not JSON: " + err.Error())
	}
	c.setCookie(c.flowCookie(f.State), base64.RawURLEncoding.EncodeToString(text), int(oidcFlow.Seconds()), http.SameSiteLaxMode)
}

// flowCookie names the cookie of the flow with this state. The name is no secret, so it is not the state.
func (c *call) flowCookie(state string) string {
	return c.gw.hostCookie(oidcCookie + credential.HashToken(state)[:16])
}

// takeFlow reads the cookie of the flow that the provider answers and ends it: a flow works once.
func (c *call) takeFlow() (f flow, ok bool) {
	name := c.flowCookie(c.FormValue("state"))
	cookie, err := c.Cookie(name)
	if err != nil {
		return f, false
	}
	c.setCookie(name, "", -1, http.SameSiteLaxMode)
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || json.Unmarshal(text, &f) != nil {
		return f, false
	}
	same := subtle.ConstantTimeCompare([]byte(f.State), []byte(c.FormValue("state"))) == 1
	return f, same && f.State != ""
}

// oidcFailed sends the browser back to the sign-in page with a sentence.
func (c *call) oidcFailed(sentence string) (any, error) {
	c.gw.metrics.signIns.WithLabelValues(store.MethodOIDC, "refused").Inc()
	http.Redirect(c.w, c.Request, "/"+signalapi.OIDCErrorFragment+url.PathEscape(sentence), http.StatusSeeOther)
	return handled, nil
}

func oidcCallback(c *call) (any, error) {
	if c.gw.oidc == nil {
		return nil, notFound("identity provider")
	}
	if err := c.limitAddress(); err != nil {
		return nil, err
	}
	f, ok := c.takeFlow()
	if !ok {
		return c.oidcFailed("The sign-in took too long or was begun elsewhere; try again.")
	}
	if e := c.FormValue("error"); e != "" {
		return c.oidcFailed("The identity provider refused: " + printable(e) + ".")
	}
	who, err := c.gw.oidc.identify(c.Context(), f, c.FormValue("code"))
	if err != nil {
		c.gw.log.Warn("sign-in through the identity provider", "err", err)
		return c.oidcFailed("The identity provider's answer could not be verified; try again.")
	}
	u, err := c.accountOf(who)
	if err == nil {
		err = c.openLogin(u, store.MethodOIDC)
	}
	if err != nil {
		return c.oidcFailed(c.gw.refusal(err, "oidc").Message)
	}
	c.gw.metrics.signIns.WithLabelValues(store.MethodOIDC, "ok").Inc()
	http.Redirect(c.w, c.Request, "/", http.StatusSeeOther)
	return handled, nil
}

// oidcIdentity is who the provider says this is.
type oidcIdentity struct {
	issuer, subject string
	email           string     // empty unless verified
	name            string     // as the person, or whoever else, may have chosen it
	role            store.Role // empty unless a claim decides
}

// identify trades the code for an ID token and verifies it: signature, issuer, audience, expiry, nonce.
func (o *oidcClient) identify(ctx context.Context, f flow, code string) (oidcIdentity, error) {
	provider, config, err := o.discover(ctx)
	if err != nil {
		return oidcIdentity{}, err
	}
	ctx = oidc.ClientContext(ctx, o.http)
	tokens, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return oidcIdentity{}, err
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return oidcIdentity{}, errors.New("no id_token in the answer")
	}
	token, err := provider.Verifier(&oidc.Config{ClientID: o.cfg.ClientID}).Verify(ctx, raw)
	if err != nil {
		return oidcIdentity{}, err
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.Nonce)) != 1 {
		return oidcIdentity{}, errors.New("nonce of another sign-in")
	}
	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return oidcIdentity{}, err
	}
	if err := addUserInfo(ctx, provider, tokens, token.Subject, claims); err != nil {
		return oidcIdentity{}, err
	}
	return o.identityOf(token, claims), nil
}

// addUserInfo adds the claims that a provider keeps out of the ID token (OpenID Connect Core 1.0, section 5.4); those of the ID token stay.
func addUserInfo(ctx context.Context, provider *oidc.Provider, tokens *oauth2.Token, subject string, claims map[string]any) error {
	if provider.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return err
	}
	if info.Subject != subject {
		return errors.New("user info of another person")
	}
	var more map[string]any
	if err := info.Claims(&more); err != nil {
		return err
	}
	maps.Copy(more, claims)
	maps.Copy(claims, more)
	return nil
}

func (o *oidcClient) identityOf(token *oidc.IDToken, claims map[string]any) oidcIdentity {
	who := oidcIdentity{issuer: token.Issuer, subject: token.Subject}
	if verified, ok := claims["email_verified"].(bool); ok && verified {
		who.email, _ = claims["email"].(string)
	}
	for _, key := range []string{"preferred_username", "name"} {
		if s, ok := claims[key].(string); ok && s != "" && who.name == "" {
			who.name = s
		}
	}
	if o.cfg.RoleClaim != "" {
		who.role = roleFromClaim(claims[o.cfg.RoleClaim], o.cfg.AdminValues, o.cfg.OperatorValues)
	}
	return who
}

// roleFromClaim is the highest role that a claim, a text or a list of texts, gives.
func roleFromClaim(claim any, admin, operator []string) store.Role {
	var values []string
	switch v := claim.(type) {
	case string:
		values = []string{v}
	case []any:
		for _, item := range v {
			if s, ok := item.(string); ok {
				values = append(values, s)
			}
		}
	}
	has := func(wanted []string) bool {
		return slices.ContainsFunc(values, func(v string) bool { return slices.Contains(wanted, v) })
	}
	switch {
	case has(admin):
		return store.RoleAdmin
	case has(operator):
		return store.RoleOperator
	}
	return store.RoleViewer
}

// accountOf finds, binds or makes the account of an identity, and gives it the role its claim says.
func (c *call) accountOf(who oidcIdentity) (store.User, error) {
	s, ctx := c.open.store, c.Context()
	u, err := s.UserByOIDC(ctx, who.issuer, who.subject)
	if errors.Is(err, store.ErrNotFound) && who.email != "" {
		u, err = c.bindByAddress(who)
	}
	if errors.Is(err, store.ErrNotFound) {
		u, err = c.createFor(who)
	}
	if err != nil {
		return u, err
	}
	if u.Disabled {
		return u, forbidden("The account is disabled; ask an admin.")
	}
	if who.role != "" && who.role != u.Role {
		err = s.SetRole(ctx, u.ID, who.role, c.gw.actOf("oidc", addressText(c), "user.role", u.Name, string(u.Role)+" to "+string(who.role)))
		u.Role = who.role
	}
	return u, err
}

// bindByAddress binds an identity to the account that is called as its verified address; ErrNotFound when there is none.
func (c *call) bindByAddress(who oidcIdentity) (store.User, error) {
	u, err := c.open.store.UserByName(c.Context(), who.email)
	switch {
	case err != nil:
		return u, err
	case !sameAddress(u.Name, who.email): // alike, but another mailbox
		return u, store.ErrNotFound
	case u.OIDCSubject != "":
		return u, forbidden("The account %q belongs to another identity; ask an admin.", who.email)
	}
	return u, c.open.store.BindOIDC(c.Context(), u.ID, who.issuer, who.subject, c.gw.actOf(u.Name, addressText(c), "oidc.bind", u.Name, who.issuer))
}

// sameAddress compares e-mail addresses as mail servers do at most: byte for byte but for the case of ASCII letters. Any other folding
// makes two mailboxes one: the Kelvin sign, which Unicode folds to k, is not a k in an address.
func sameAddress(a, b string) bool {
	lower := func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}
	return strings.Map(lower, a) == strings.Map(lower, b)
}

// looksLikeAddress says whether people would take a name for an e-mail address: it has an @ in any of its forms.
func looksLikeAddress(name string) bool { return strings.ContainsAny(name, "@\uff20\ufe6b") }

// createFor makes an account named by the verified e-mail address or else by the provider's name for the person. That name is nobody's
// proof of anything: it must not look like an address, and a name that is taken stays its owner's.
func (c *call) createFor(who oidcIdentity) (store.User, error) {
	if !c.gw.cfg.OIDC.Create {
		return store.User{}, forbidden("There is no account for you here; ask an admin for one.")
	}
	name := who.email
	if name == "" {
		if name = strings.TrimSpace(who.name); looksLikeAddress(name) {
			return store.User{}, forbidden("The identity provider has not verified the address %q; ask an admin for an account.", printable(name))
		}
	}
	if err := checkName(name); err != nil {
		return store.User{}, forbidden("The identity provider gave no usable name; ask an admin for an account.")
	}
	u := store.User{ID: credential.NewID("u-"), Name: name, Role: store.RoleViewer, OIDCIssuer: who.issuer, OIDCSubject: who.subject, CreatedAt: c.now()}
	err := c.open.store.CreateUser(c.Context(), u, c.gw.actOf(name, addressText(c), "user.create", name, "first sign-in through "+who.issuer))
	if errors.Is(err, store.ErrNameTaken) {
		return u, forbidden("The name %q is another account's; ask an admin for an account.", printable(name))
	}
	return u, err
}
