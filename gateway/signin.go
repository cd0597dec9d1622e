package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

func info(c *call) (any, error) {
	i := signalapi.Info{Version: c.gw.cfg.Version, Accounts: true}
	if c.gw.cfg.OIDC != nil {
		i.OIDC = c.gw.cfg.OIDC.Button
		if i.OIDC == "" {
			i.OIDC = "Sign in with your organisation"
		}
	}
	return i, nil
}

func me(in store.SignedIn) signalapi.Me {
	return signalapi.Me{Name: in.User.Name, Role: string(in.User.Role), Admin: atLeast(in.User.Role, store.RoleOperator), Accounts: true,
		TOTP: in.User.TOTPSecret != "", Password: in.User.Password != ""}
}

// signIn signs a person in by link or by name and password.
func signIn(c *call) (any, error) {
	var s signalapi.SignIn
	if err := c.decode(&s); err != nil {
		return nil, err
	}
	method := store.MethodPassword
	if s.Link != "" {
		method = store.MethodLink
	}
	u, err := c.signIn(s)
	result := "ok"
	if err != nil {
		refusal, _ := refusalOf(err)
		result = refusal.Reason
	}
	c.gw.metrics.signIns.WithLabelValues(method, result).Inc()
	if err != nil {
		return nil, err
	}
	return me(store.SignedIn{User: u}), nil
}

func (c *call) signIn(s signalapi.SignIn) (store.User, error) {
	if err := c.gw.checkAddress(c.Context(), c.open, c.addr); err != nil {
		return store.User{}, err
	}
	if s.Link != "" {
		if err := c.limitAddress(); err != nil {
			return store.User{}, err
		}
		return c.signInByLink(s)
	}
	if device := c.device(s.Name); device != "" { // strangers do not use up what its owner has
		c.from = device
		if err := c.limit(claim{"device ", device, c.gw.byOwner}); err != nil {
			return store.User{}, err
		}
		return c.signInByPassword(s)
	}
	if err := c.limit(append(c.addressClaims(), claim{"name ", cut(store.NameKey(s.Name), maxName), c.gw.byName})...); err != nil {
		return store.User{}, err
	}
	return c.signInByPassword(s)
}

// claim is a token of somebody's that a try takes.
type claim struct {
	kind, key string
	limiter   *limiter
}

// limitAddress refuses what comes too fast from one address, and banned addresses, before anything costs much.
func (c *call) limitAddress() error {
	if err := c.gw.checkAddress(c.Context(), c.open, c.addr); err != nil {
		return err
	}
	return c.limit(c.addressClaims()...)
}

func (c *call) addressClaims() []claim {
	keys := addressKeys(c.addr)
	claims := make([]claim, 0, len(keys)+1)
	for i, key := range keys {
		claims = append(claims, claim{"address ", key, c.gw.byAddr[i]})
	}
	return claims
}

// limit takes a token of each claim, first in this gateway's memory, which a flood costs nothing, then in the store, for all gateways
// together.
func (c *call) limit(claims ...claim) error {
	now := c.now()
	for _, l := range claims {
		if wait, ok := l.limiter.take(l.kind+l.key, now); !ok {
			return tooFast(wait)
		}
	}
	for _, l := range claims {
		wait, err := c.open.store.Take(c.Context(), l.kind+l.key, int(l.limiter.burst), l.limiter.every, now)
		if err != nil {
			return err
		}
		if wait > 0 {
			return tooFast(wait)
		}
	}
	return nil
}

// turn is whose turn a hash takes: the browser's where it is known, else the network's.
func (c *call) turn() string {
	if c.from != "" {
		return c.from
	}
	return networkKey(c.addr)
}

func tooFast(wait time.Duration) *RefusalError {
	return refuse(http.StatusTooManyRequests, signalapi.ReasonRateLimited, "Too many tries; wait a moment and try again.").after(wait)
}

func badCredentials() *RefusalError {
	return refuse(http.StatusUnauthorized, signalapi.ReasonBadCredentials, "Name, password or code is wrong.")
}

func (c *call) signInByPassword(s signalapi.SignIn) (store.User, error) {
	ctx := c.Context()
	u, err := c.open.store.UserByName(ctx, s.Name)
	if errors.Is(err, store.ErrNotFound) {
		u, err = store.User{}, nil // the answer takes as long as for a wrong password
	}
	if err != nil {
		return u, err
	}
	ok, outdated, err := c.gw.hasher.Verify(ctx, c.turn(), u.Password, s.Password)
	if err != nil {
		return u, err
	}
	if !ok || u.Disabled {
		return u, badCredentials() // and not a word or a write more for an account that exists
	}
	if err := c.checkSecondFactor(u, s.TOTP); err != nil {
		return u, err
	}
	if outdated {
		if err := c.upgradeHash(u, s.Password); err != nil {
			return u, err
		}
	}
	return u, c.openLogin(u, store.MethodPassword)
}

// checkSecondFactor accepts a TOTP code or a recovery code, each once, if the account has a second factor.
func (c *call) checkSecondFactor(u store.User, code string) error {
	if u.TOTPSecret == "" {
		return nil
	}
	if code = credential.CleanCode(code); code == "" {
		return refuse(http.StatusUnauthorized, signalapi.ReasonTOTPRequired, "Enter the code of your authenticator app, or a recovery code.")
	}
	return c.useCode(u, u.TOTPSecret, code)
}

// useCode spends a code. One that is right and was spent is ErrCodeUsed: whoever has it has the password too.
func (c *call) useCode(u store.User, sealed, code string) error {
	try := credential.NewID("t-")
	if !credential.IsTOTP(code) {
		err := c.open.store.UseRecoveryCode(c.Context(), u.ID, credential.HashRecoveryCode(code), try, c.now())
		if errors.Is(err, store.ErrCodeUsed) { // or unknown: the store does not tell
			return badCredentials()
		}
		return err
	}
	secret, err := c.open.sealer.Open(sealed, u.ID)
	if err != nil {
		return err
	}
	step, ok := credential.MatchTOTP(secret, code, c.now())
	if !ok {
		return badCredentials()
	}
	return c.open.store.UseTOTPStep(c.Context(), u.ID, step, try)
}

func (c *call) upgradeHash(u store.User, password string) error {
	encoded, err := c.gw.hasher.Hash(c.Context(), c.turn(), password)
	if errors.Is(err, credential.ErrBusy) {
		return nil // the next sign-in will do it
	} else if err != nil {
		return err
	}
	return c.open.store.UpgradePassword(c.Context(), u.ID, u.Password, encoded)
}

// openLogin makes the login of somebody who has proved who they are, unless the account is banned.
func (c *call) openLogin(u store.User, method string) error {
	login, token := c.newLogin(u.ID, method)
	act := c.gw.actOf(u.Name, login.Address, "signin."+method, u.Name, "")
	if err := c.open.store.CreateLogin(c.Context(), login, act); err != nil {
		return err
	}
	return c.welcomeBack(u.Name, login, token)
}

// welcomeBack gives the cookies if the login holds; a ban ends it again.
func (c *call) welcomeBack(name string, login store.Login, token credential.Secret) error {
	if _, err := c.gw.findLogin(c.Context(), c.open, login.Hash, c.addr); err != nil {
		return errors.Join(err, c.open.store.EndLogin(c.Context(), login.Hash))
	}
	c.setLogin(token, c.gw.cfg.LoginLifetime)
	c.rememberDevice(name)
	return nil
}

// signInByLink uses a one-time link: an invited person chooses a password with it, and the first admin may choose that and a name.
func (c *call) signInByLink(s signalapi.SignIn) (store.User, error) {
	name := strings.TrimSpace(s.Name)
	if name == "" {
		name = "admin"
	}
	if err := checkName(name); err != nil {
		return store.User{}, err
	}
	kind, u, err := c.open.store.LinkAccount(c.Context(), credential.HashToken(cut(s.Link, maxAgent)), c.now())
	if err != nil {
		return u, err
	}
	if err := c.askToReplace(u, s.Replace); err != nil {
		return u, err
	}
	if u.ID != "" {
		name = u.Name
	}
	if err := checkLinkPassword(kind, name, s.Password); err != nil { // before a code is spent
		return store.User{}, err
	}
	if err := c.secondFactorOfLink(u, s.TOTP); err != nil {
		return store.User{}, err
	}
	encoded := ""
	if s.Password != "" {
		var err error
		if encoded, err = c.gw.hasher.Hash(c.Context(), c.turn(), s.Password); err != nil {
			return store.User{}, err
		}
	}
	login, token := c.newLogin("", store.MethodLink)
	u, err = c.open.store.UseLink(c.Context(), store.LinkUse{
		Hash: credential.HashToken(cut(s.Link, maxAgent)), Try: credential.NewID("t-"), Password: encoded, Login: login,
		Admin: store.User{ID: credential.NewID("u-"), Name: name, CreatedAt: c.now()},
		Act:   c.gw.actOf("", login.Address, "signin.link", "", ""),
	}, c.now())
	if err != nil {
		return u, err
	}
	if err := c.welcomeBack(u.Name, login, token); err != nil {
		return u, err
	}
	return u, c.endReplaced(u)
}

// checkLinkPassword refuses an invited person who has not chosen a password: the link is spent with the sign-in, and without the password of the
// account, which may be lost, none can be set afterwards.
func checkLinkPassword(kind, name, password string) error {
	if password != "" {
		return credential.CheckPassword(name, password)
	}
	if kind == store.LinkInvite {
		return refuse(http.StatusUnauthorized, signalapi.ReasonPasswordNeeded, "Choose a password: the link works once, and you sign in with the password afterwards.")
	}
	return nil
}

// endReplaced ends the login that this browser had as somebody else.
func (c *call) endReplaced(now store.User) error {
	if c.in.User.ID == "" || c.in.User.ID == now.ID {
		return nil
	}
	if err := c.endLogin(c.in.Login.Hash); err != nil {
		return err
	}
	c.gw.sockets.closeLogin(c.in.Login.Hash)
	c.gw.doubt()
	return nil
}

// askToReplace refuses a link of another account in a browser that is signed in, until the person has said that they want it: who sends
// somebody a link must not have them work, unawares, in an account that the sender knows too. What is replaced ends.
func (c *call) askToReplace(owner store.User, wanted bool) error {
	var refusal *RefusalError
	if err := c.authenticate(); errors.As(err, &refusal) {
		return nil // nobody is signed in here
	} else if err != nil {
		return err
	}
	if c.in.User.ID != owner.ID && !wanted {
		whose := "an account that is not made yet"
		if owner.ID != "" {
			whose = fmt.Sprintf("%q", owner.Name)
		}
		return refuse(http.StatusConflict, signalapi.ReasonSignedIn,
			"You are signed in as %q, and this link signs in as %s. Use it only if you asked for it.", c.in.User.Name, whose)
	}
	return nil
}

// secondFactorOfLink asks the account of a link for its second factor: whoever got hold of the link, or of the power to make one, is not
// its owner yet. Somebody who has lost theirs needs an admin to take it away first.
func (c *call) secondFactorOfLink(u store.User, code string) error {
	if u.TOTPSecret == "" {
		return nil // nothing to guess
	}
	if err := c.limit(claim{"link of ", u.ID, c.gw.byOwner}); err != nil {
		return err
	}
	return c.checkSecondFactor(u, code)
}

// signOut ends the login of the cookie, if there is one.
func signOut(c *call) (any, error) {
	if cookie, err := c.Cookie(c.gw.cookieName()); err == nil {
		hash := credential.HashToken(cookie.Value)
		if err := c.endLogin(hash); err != nil {
			return nil, err
		}
		c.gw.sockets.closeLogin(hash)
		c.gw.doubt()
	}
	c.clearLogin()
	return nil, nil
}

// endLogin ends a login with an entry in the audit log, by which other gateways learn of it. One that holds no more, or is banned, is
// ended without.
func (c *call) endLogin(hash string) error {
	in, err := c.gw.findLogin(c.Context(), c.open, hash, c.addr)
	if err != nil {
		return c.open.store.EndLogin(c.Context(), hash)
	}
	act := c.gw.actOf(in.User.Name, addressText(c), "account.sign_out", in.User.Name, "")
	if err := c.open.store.EndLoginByID(c.Context(), in.User.ID, in.Login.ID, act); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil // it has just ended
}

// checkName accepts names that people can tell apart on a screen.
func checkName(name string) error {
	if name == "" || len(name) > maxName || name != strings.TrimSpace(name) {
		return badRequest("A name has 1 to %d bytes and no space at its ends.", maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || r == '\ufffd' || r == '/' { // what joins, hides or turns text about is not printable
			return badRequest("A name has no invisible characters and no slash.")
		}
	}
	return nil
}
