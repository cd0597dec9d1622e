package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// Tools work on the accounts from the command line, beside running gateways: they open the same store. Every act is audited with
// the actor "cli". Whoever can open the store is trusted.
type Tools struct {
	store    *store.Store
	origin   string // of links
	lifetime time.Duration
}

// OpenTools opens the store of a gateway with this configuration; only its store, address and link settings are used. The caller
// closes it.
func OpenTools(ctx context.Context, cfg Config) (*Tools, error) {
	if _, err := cfg.normalise(); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, cfg.Store)
	if err != nil {
		return nil, err
	}
	origin := cfg.PublicURL
	if origin == "" {
		origin = "http://" + cfg.BindAddr // plain HTTP is on loopback
		if cfg.TLS.enabled() {
			origin = "https://" + cfg.BindAddr
		}
	}
	return &Tools{s, origin, cfg.LinkLifetime}, nil
}

// Close closes the store.
func (t *Tools) Close() error { return t.store.Close() }

func toolAct(what, subject, detail string) store.Act {
	return store.Act{Event: credential.NewID("e-"), At: time.Now(), Actor: "cli", Act: what, Subject: subject, Detail: detail}
}

// Users lists all accounts.
func (t *Tools) Users(ctx context.Context) ([]signalapi.User, error) {
	users, err := t.store.Users(ctx)
	return mapped(users, userOf), err
}

// Invite makes a one-time link for the account of this name, which is made with role if there is none.
func (t *Tools) Invite(ctx context.Context, name string, role store.Role) (signalapi.Invite, error) {
	if err := checkName(name); err != nil {
		return signalapi.Invite{}, err
	}
	if !role.Valid() {
		return signalapi.Invite{}, fmt.Errorf("role %q: must be admin, operator or viewer", role)
	}
	now := time.Now()
	u, err := t.store.UserByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		u = store.User{ID: credential.NewID("u-"), Name: name, Role: role, CreatedAt: now}
		err = t.store.CreateUser(ctx, u, toolAct("user.create", name, string(role)))
	}
	if err != nil {
		return signalapi.Invite{}, err
	}
	if u.Disabled {
		return signalapi.Invite{}, fmt.Errorf("the account %s is disabled; enable it first", name)
	}
	token := credential.NewToken()
	link := store.Link{Hash: credential.HashToken(string(token)), ID: credential.NewID("k-"), Kind: store.LinkInvite, UserID: u.ID,
		CreatedBy: "cli", CreatedAt: now, ExpiresAt: now.Add(t.lifetime)}
	err = t.store.CreateLink(ctx, link, toolAct("link.create", link.ID, link.Kind))
	return signalapi.Invite{User: userOf(u), URL: t.origin + "/" + signalapi.LinkFragment + string(token), ExpiresAt: link.ExpiresAt}, err
}

// SetDisabled disables or enables an account; running gateways end its WebSockets and sessions within two seconds.
func (t *Tools) SetDisabled(ctx context.Context, name string, disabled bool) error {
	u, err := t.store.UserByName(ctx, name)
	if err != nil {
		return err
	}
	what := map[bool]string{true: "user.disable", false: "user.enable"}[disabled]
	return t.store.SetDisabled(ctx, u.ID, disabled, toolAct(what, u.Name, ""))
}

// SetRole gives an account another role.
func (t *Tools) SetRole(ctx context.Context, name string, role store.Role) error {
	if !role.Valid() {
		return fmt.Errorf("role %q: must be admin, operator or viewer", role)
	}
	u, err := t.store.UserByName(ctx, name)
	if err != nil {
		return err
	}
	return t.store.SetRole(ctx, u.ID, role, toolAct("user.role", u.Name, string(u.Role)+" to "+string(role)))
}

// ResetTOTP takes away the second factor of somebody who has lost it.
func (t *Tools) ResetTOTP(ctx context.Context, name string) error {
	u, err := t.store.UserByName(ctx, name)
	if err != nil {
		return err
	}
	return t.store.RemoveTOTP(ctx, u.ID, toolAct("user.totp_reset", u.Name, ""))
}
