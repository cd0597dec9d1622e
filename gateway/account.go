package gateway

import (
	"context"
	"fmt"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// changePassword sets the caller's password; see prove. All other browsers are signed out, and what they have running ends.
func changePassword(c *call) (any, error) {
	var p signalapi.PasswordChange
	if err := c.decode(&p); err != nil {
		return nil, err
	}
	u := c.in.User
	if err := c.limitProof(); err != nil {
		return nil, err
	}
	if err := c.prove(u, p.Old); err != nil {
		return nil, err
	}
	if err := credential.CheckPassword(u.Name, p.New); err != nil {
		return nil, err
	}
	encoded, err := c.gw.hasher.Hash(c.Context(), c.turn(), p.New)
	if err != nil {
		return nil, err
	}
	if err := c.open.store.SetPassword(c.Context(), u.ID, encoded, c.in.Login.Hash, c.act("account.password", u.Name, "")); err != nil {
		return nil, err
	}
	c.gw.sockets.recheck(u.ID)
	return nil, nil
}

// limitProof makes guessing with a stolen cookie slow. What strangers try at the sign-in does not count here.
func (c *call) limitProof() error {
	c.from = "login " + c.in.Login.ID
	return c.limit(claim{"login ", c.in.Login.ID, c.gw.byOwner})
}

// prove makes sure that the person is at the browser before what signs them in becomes another: a cookie alone, stolen or left behind,
// must not become an account. It asks for the present password, and where there is none for a sign-in that has just been.
func (c *call) prove(u store.User, password string) error {
	if u.Password == "" {
		if age := c.now().Sub(c.in.Login.CreatedAt); age >= freshSignIn || age < 0 {
			return forbidden("Sign in again, and do this within %s of it.", freshSignIn)
		}
		return nil
	}
	ok, _, err := c.gw.hasher.Verify(c.Context(), c.turn(), u.Password, password)
	if err != nil {
		return err
	}
	if !ok {
		return badCredentials()
	}
	return nil
}

// beginTOTP shows a new secret; it counts when a code of it comes back. A present second factor stays until then.
func beginTOTP(c *call) (any, error) {
	u := c.in.User
	f, err := credential.NewTOTP("Wavry", u.Name)
	if err != nil {
		return nil, err
	}
	if err := c.open.store.BeginTOTP(c.Context(), u.ID, c.open.sealer.Seal(f.Secret, u.ID)); err != nil {
		return nil, err
	}
	return signalapi.TOTPSetup{Secret: string(f.Secret), URI: f.URI, QR: f.QR}, nil
}

// confirmTOTP makes the shown secret the second factor; see prove. One that is there already must be disabled with a code first.
func confirmTOTP(c *call) (any, error) {
	code, err := c.proven()
	if err != nil {
		return nil, err
	}
	u := c.in.User
	switch {
	case u.TOTPSecret != "":
		return nil, badRequest("There is a second factor already; disable it first.")
	case u.TOTPPending == "":
		return nil, badRequest("Begin first, then confirm with a code.")
	}
	secret, err := c.open.sealer.Open(u.TOTPPending, u.ID)
	if err != nil {
		return nil, err
	}
	step, ok := credential.MatchTOTP(secret, code, c.now())
	if !ok {
		return nil, badCredentials()
	}
	codes, hashes := credential.NewRecoveryCodes()
	if err := c.open.store.ConfirmTOTP(c.Context(), u.ID, u.TOTPPending, step, hashes, c.act("account.totp_on", u.Name, "")); err != nil {
		return nil, err
	}
	return signalapi.RecoveryCodes{Codes: codes}, nil
}

func disableTOTP(c *call) (any, error) {
	if err := c.proveCode(); err != nil {
		return nil, err
	}
	return nil, c.open.store.RemoveTOTP(c.Context(), c.in.User.ID, c.act("account.totp_off", c.in.User.Name, ""))
}

func newRecoveryCodes(c *call) (any, error) {
	if err := c.proveCode(); err != nil {
		return nil, err
	}
	codes, hashes := credential.NewRecoveryCodes()
	err := c.open.store.ReplaceRecoveryCodes(c.Context(), c.in.User.ID, hashes, c.act("account.recovery_codes", c.in.User.Name, ""))
	return signalapi.RecoveryCodes{Codes: codes}, err
}

// proveCode takes the password in the body and spends the code there against the caller's second factor, as slowly as a sign-in.
func (c *call) proveCode() error {
	code, err := c.proven()
	if err != nil {
		return err
	}
	u := c.in.User
	if u.TOTPSecret == "" {
		return badRequest("There is no second factor.")
	}
	if code == "" {
		return badRequest("A code of the authenticator app or a recovery code is needed.")
	}
	return c.checkSecondFactor(u, code)
}

// proven returns the code in the body after the person was proven to be there.
func (c *call) proven() (code string, err error) {
	var t signalapi.TOTPCode
	if err := c.decode(&t); err != nil {
		return "", err
	}
	u := c.in.User
	if err := c.limitProof(); err != nil {
		return "", err
	}
	return credential.CleanCode(t.Code), c.prove(u, t.Password)
}

func listLogins(c *call) (any, error) {
	logins, err := c.open.store.Logins(c.Context(), c.in.User.ID, c.now())
	list := make([]signalapi.Login, 0, len(logins))
	for _, l := range logins {
		list = append(list, signalapi.Login{ID: l.ID, CreatedAt: l.CreatedAt, SeenAt: l.SeenAt, ExpiresAt: l.ExpiresAt, Address: l.Address,
			Agent: l.Agent, Method: l.Method, Current: l.Hash == c.in.Login.Hash})
	}
	return list, err
}

func endLogin(c *call) (any, error) {
	id := c.PathValue("id")
	if err := c.open.store.EndLoginByID(c.Context(), c.in.User.ID, id, c.act("account.sign_out", c.in.User.Name, "")); err != nil {
		return nil, err
	}
	c.gw.sockets.recheck(c.in.User.ID)
	return nil, nil
}

// newLink makes a one-time link and returns it as a URL.
func (g *Gateway) newLink(ctx context.Context, kind, userID, createdBy string) (url string, link store.Link, err error) {
	o := g.open.Load()
	if o == nil {
		return "", link, ErrNotRunning
	}
	token, now, lifetime := credential.NewToken(), g.cfg.Now(), g.cfg.LinkLifetime
	if kind == store.LinkFirstAdmin {
		lifetime = min(lifetime, firstAdminLifetime)
	}
	link = store.Link{Hash: credential.HashToken(string(token)), ID: credential.NewID("k-"), Kind: kind, UserID: userID,
		CreatedBy: createdBy, CreatedAt: now, ExpiresAt: now.Add(lifetime)}
	if err := o.store.CreateLink(ctx, link, g.actOf(createdBy, "", "link.create", link.ID, kind)); err != nil {
		return "", link, fmt.Errorf("make one-time link: %w", err)
	}
	return g.URL() + "/" + signalapi.LinkFragment + string(token), link, nil
}
