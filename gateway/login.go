package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
)

// hostCookie is the name of a cookie, with the __Host- prefix where browsers allow it: then no subdomain and no plain page can set it.
func (g *Gateway) hostCookie(name string) string {
	if g.secure() {
		return "__Host-" + name
	}
	return name
}

// cookieName names the cookie that holds a login.
func (g *Gateway) cookieName() string { return g.hostCookie("wavry") }

// setCookie is how every cookie of ours is set: out of reach of scripts, for all paths as __Host- wants it. A negative age ends it.
func (c *call) setCookie(name, value string, seconds int, site http.SameSite) {
	http.SetCookie(c.w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, Secure: c.gw.secure(), HttpOnly: true, SameSite: site})
}

// setLogin gives the browser its login. Strict: no other site can make a browser send it.
func (c *call) setLogin(token credential.Secret, lifetime time.Duration) {
	c.setCookie(c.gw.cookieName(), string(token), int(lifetime.Seconds()), http.SameSiteStrictMode)
}

func (c *call) clearLogin() { c.setCookie(c.gw.cookieName(), "", -1, http.SameSiteStrictMode) }

// newLogin prepares a login; the token goes to the browser, the rest to the store.
func (c *call) newLogin(userID, method string) (store.Login, credential.Secret) {
	token, now := credential.NewToken(), c.now()
	return store.Login{
		Hash: credential.HashToken(string(token)), ID: credential.NewID("l-"), UserID: userID, Method: method,
		Address: addressText(c), Agent: cut(c.UserAgent(), maxAgent),
		CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(c.gw.cfg.LoginLifetime),
	}, token
}

// findLogin returns the login with this hash if it may be used now from addr.
func (g *Gateway) findLogin(ctx context.Context, o *opened, hash string, addr netip.Addr) (store.SignedIn, error) {
	now := g.cfg.Now()
	if err := g.checkAddress(ctx, o, addr); err != nil {
		return store.SignedIn{}, err
	}
	in, err := o.store.FindLogin(ctx, hash, now, now.Add(-g.cfg.LoginIdle))
	if errors.Is(err, store.ErrNotFound) {
		return in, notSignedIn()
	} else if err != nil {
		return in, err
	}
	if in.Banned != "" {
		return in, banned(in.Banned)
	}
	if now.Sub(in.Login.SeenAt) >= seenEvery {
		if err := o.store.TouchLogin(ctx, hash, now); err != nil {
			return in, err
		}
	}
	return in, nil
}

func banned(reason string) *RefusalError {
	return refuse(http.StatusForbidden, signalapi.ReasonBanned, "Access is banned (%s); ask an operator to lift the ban.", reason)
}

// banList is the address bans in force, shared by all requests for bansFresh.
type banList struct {
	mu       sync.Mutex // guards the following
	at       time.Time
	prefixes []bannedPrefix
}

type bannedPrefix struct {
	netip.Prefix
	reason  string
	expires time.Time
}

// forget makes the next check ask the store.
func (b *banList) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = time.Time{}
}

// checkAddress refuses banned addresses.
func (g *Gateway) checkAddress(ctx context.Context, o *opened, addr netip.Addr) error {
	now := g.cfg.Now()
	prefixes, err := g.bans.fresh(ctx, o.store, now)
	if err != nil {
		return err
	}
	if p := bannedBy(prefixes, addr, now); p != nil {
		return banned(p.reason)
	}
	return nil
}

// bannedBy is the ban of an address that is in force, nil for none.
func bannedBy(prefixes []bannedPrefix, addr netip.Addr, now time.Time) *bannedPrefix {
	for _, p := range prefixes {
		if p.Contains(addr.Unmap()) && (p.expires.IsZero() || now.Before(p.expires)) {
			return &p
		}
	}
	return nil
}

func (b *banList) fresh(ctx context.Context, s *store.Store, now time.Time) ([]bannedPrefix, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.at.IsZero() && now.Sub(b.at) < bansFresh && now.Sub(b.at) >= 0 {
		return b.prefixes, nil
	}
	bans, err := s.Bans(ctx, now)
	if err != nil {
		return nil, err
	}
	var prefixes []bannedPrefix
	for _, ban := range bans {
		if p, err := netip.ParsePrefix(ban.Address); err == nil { // checked when it was stored; accounts have none
			prefixes = append(prefixes, bannedPrefix{p, ban.Reason, ban.ExpiresAt})
		}
	}
	b.at, b.prefixes = now, prefixes
	return prefixes, nil
}
