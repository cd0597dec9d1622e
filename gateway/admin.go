package gateway

import (
	"errors"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/wavry/fleet/gateway/credential"
	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

func (g *Gateway) routeAdmin(mux *http.ServeMux) {
	for _, r := range []struct {
		pattern string
		need    store.Role
		do      endpoint
	}{
		{"GET " + signalapi.PathAdminUsers, store.RoleAdmin, listUsers},
		{"POST " + signalapi.PathAdminUsers, store.RoleAdmin, createUser},
		{"GET " + signalapi.PathAdminUser + "{id}", store.RoleAdmin, showUser},
		{"POST " + signalapi.PathAdminUser + "{id}", store.RoleAdmin, changeUser},
		{"POST " + signalapi.PathAdminUser + "{id}/invite", store.RoleAdmin, inviteUser},
		{"POST " + signalapi.PathAdminUser + "{id}/signout", store.RoleAdmin, signOutUser},
		{"DELETE " + signalapi.PathAdminUser + "{id}/totp", store.RoleAdmin, resetTOTP},
		{"GET " + signalapi.PathAdminInvites, store.RoleAdmin, listInvites},
		{"DELETE " + signalapi.PathAdminInvites + "/{id}", store.RoleAdmin, revokeInvite},
		{"GET " + signalapi.PathAdminBans, store.RoleAdmin, listBans},
		{"POST " + signalapi.PathAdminBans, store.RoleAdmin, addBan},
		{"DELETE " + signalapi.PathAdminBans + "/{id}", store.RoleAdmin, liftBan},
		{"GET " + signalapi.PathAdminRules, store.RoleAdmin, listRules},
		{"POST " + signalapi.PathAdminRules, store.RoleAdmin, addRule},
		{"DELETE " + signalapi.PathAdminRules + "/{id}", store.RoleAdmin, removeRule},
		{"GET " + signalapi.PathAdminPools, store.RoleAdmin, listPools},
		{"POST " + signalapi.PathAdminPools, store.RoleAdmin, setPool},
		{"GET " + signalapi.PathAdminAudit, store.RoleOperator, listAudit},
		{"GET " + signalapi.PathAdminSessions, store.RoleOperator, listSessions},
		{"POST " + signalapi.PathAdminSessions + "/{id}/end", store.RoleOperator, endSession},
		{"GET " + signalapi.PathAdminHosts, store.RoleOperator, listHosts},
		{"POST " + signalapi.PathAdminHosts + "/{id}/drain", store.RoleOperator, hostState(masterapi.HostStateWord_HOST_STATE_DRAINING)},
		{"POST " + signalapi.PathAdminHosts + "/{id}/activate", store.RoleOperator, hostState(masterapi.HostStateWord_HOST_STATE_ACTIVE)},
		{"GET " + signalapi.PathAdminRelays, store.RoleOperator, listRelays},
		{"POST " + signalapi.PathAdminRelays + "/{id}/state", store.RoleOperator, relayState},
		{"GET " + signalapi.PathAdminKeys, store.RoleOperator, listKeys},
		{"POST " + signalapi.PathAdminKeys + "/rotate", store.RoleAdmin, rotateKey},
		{"POST " + signalapi.PathAdminKeys + "/{id}/revoke", store.RoleAdmin, revokeKey},
	} {
		mux.Handle(r.pattern, g.signedIn(r.need, r.do))
	}
}

func userOf(u store.User) signalapi.User {
	return signalapi.User{ID: u.ID, Name: u.Name, Role: string(u.Role), Disabled: u.Disabled, TOTP: u.TOTPSecret != "",
		Password: u.Password != "", OIDC: u.OIDCSubject != "", CreatedAt: u.CreatedAt, LastSignIn: u.LastSignIn}
}

func listUsers(c *call) (any, error) {
	users, err := c.open.store.Users(c.Context())
	return mapped(users, userOf), err
}

// mapped applies f to each item; the result is never null in JSON.
func mapped[A, B any](items []A, f func(A) B) []B {
	list := make([]B, 0, len(items))
	for _, item := range items {
		list = append(list, f(item))
	}
	return list
}

// createUser makes an account without a password and a link for its owner.
func createUser(c *call) (any, error) {
	var n signalapi.NewUser
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	if err := checkName(n.Name); err != nil {
		return nil, err
	}
	if !store.Role(n.Role).Valid() {
		return nil, badRequest("A role is admin, operator or viewer.")
	}
	u := store.User{ID: credential.NewID("u-"), Name: n.Name, Role: store.Role(n.Role), CreatedAt: c.now()}
	if err := c.open.store.CreateUser(c.Context(), u, c.act("user.create", u.Name, n.Role)); err != nil {
		return nil, err
	}
	return c.invite(u)
}

func (c *call) invite(u store.User) (any, error) {
	link, l, err := c.gw.newLink(c.Context(), store.LinkInvite, u.ID, c.in.User.Name)
	return signalapi.Invite{User: userOf(u), URL: link, ExpiresAt: l.ExpiresAt}, err
}

func (c *call) userInPath() (store.User, error) {
	u, err := c.open.store.UserByID(c.Context(), c.PathValue("id"))
	if errors.Is(err, store.ErrNotFound) {
		return u, notFound("account")
	}
	return u, err
}

func showUser(c *call) (any, error) {
	u, err := c.userInPath()
	return userOf(u), err
}

// changeUser changes role and state of an account. What runs without its right then ends by itself: see keepRights.
func changeUser(c *call) (any, error) {
	var change signalapi.UserChange
	if err := c.decode(&change); err != nil {
		return nil, err
	}
	u, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	if r := change.Role; r != nil {
		if !store.Role(*r).Valid() {
			return nil, badRequest("A role is admin, operator or viewer.")
		}
		if err := c.open.store.SetRole(c.Context(), u.ID, store.Role(*r), c.act("user.role", u.Name, string(u.Role)+" to "+*r)); err != nil {
			return nil, err
		}
	}
	if d := change.Disabled; d != nil {
		what := map[bool]string{true: "user.disable", false: "user.enable"}[*d]
		if err := c.open.store.SetDisabled(c.Context(), u.ID, *d, c.act(what, u.Name, "")); err != nil {
			return nil, err
		}
	}
	c.gw.sockets.recheck(u.ID)
	c.gw.doubt()
	return showUser(c)
}

func inviteUser(c *call) (any, error) {
	u, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	if u.Disabled {
		return nil, badRequest("The account is disabled; enable it first.")
	}
	return c.invite(u)
}

func signOutUser(c *call) (any, error) {
	u, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	if err := c.open.store.EndLogins(c.Context(), u.ID, c.act("user.sign_out", u.Name, "")); err != nil {
		return nil, err
	}
	c.gw.sockets.recheck(u.ID)
	return nil, nil
}

func resetTOTP(c *call) (any, error) {
	u, err := c.userInPath()
	if err != nil {
		return nil, err
	}
	return nil, c.open.store.RemoveTOTP(c.Context(), u.ID, c.act("user.totp_reset", u.Name, ""))
}

func listInvites(c *call) (any, error) {
	links, err := c.open.store.PendingLinks(c.Context(), c.now())
	return mapped(links, func(l store.Link) signalapi.PendingInvite {
		return signalapi.PendingInvite{ID: l.ID, Kind: l.Kind, User: l.User, CreatedBy: l.CreatedBy, CreatedAt: l.CreatedAt, ExpiresAt: l.ExpiresAt}
	}), err
}

func revokeInvite(c *call) (any, error) {
	id := c.PathValue("id")
	return nil, c.open.store.RevokeLink(c.Context(), id, c.act("link.revoke", id, ""))
}

func banOf(b store.Ban) signalapi.Ban {
	return signalapi.Ban{ID: b.ID, User: b.User, Address: b.Address, Reason: b.Reason, Actor: b.Actor, CreatedAt: b.CreatedAt, ExpiresAt: b.ExpiresAt}
}

func listBans(c *call) (any, error) {
	bans, err := c.open.store.Bans(c.Context(), c.now())
	return mapped(bans, banOf), err
}

// addBan bans here at once, at other gateways within seconds, and tells the master, whose relays then refuse as well.
func addBan(c *call) (any, error) {
	var n signalapi.NewBan
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	b, err := c.banFrom(n)
	if err != nil {
		return nil, err
	}
	if err := c.open.store.AddBan(c.Context(), b, c.act("ban.add", b.User+b.Address, b.Reason)); err != nil {
		return nil, err
	}
	c.gw.bans.forget()
	c.gw.sockets.recheckAll()
	c.gw.doubt()
	if err := c.gw.tellBan(c.Context(), b); err != nil {
		c.gw.log.Warn("the master was not told of a ban yet; it will be when it is back", "cause", err)
	}
	return banOf(b), nil
}

func (c *call) banFrom(n signalapi.NewBan) (b store.Ban, err error) {
	now := c.now()
	b = store.Ban{ID: credential.NewID("b-"), Reason: strings.TrimSpace(n.Reason), Actor: c.in.User.Name, CreatedAt: now}
	switch {
	case (n.User == "") == (n.Address == ""):
		return b, badRequest("Ban either an account or an address.")
	case b.Reason == "" || len(b.Reason) > maxReason:
		return b, badRequest("Give a reason of at most %d bytes; the person will read it.", maxReason)
	case n.Seconds < 0:
		return b, badRequest("A ban lasts a positive time, or 0 until it is lifted.")
	case n.Seconds > 0:
		b.ExpiresAt = now.Add(time.Duration(n.Seconds) * time.Second)
	}
	if n.Address != "" {
		b.Address, err = canonicalPrefix(n.Address)
		if p, perr := netip.ParsePrefix(b.Address); err == nil && perr == nil && p.Contains(c.addr) {
			err = badRequest("This would ban your own address.")
		}
		return b, err
	}
	u, err := c.open.store.UserByName(c.Context(), n.User)
	if errors.Is(err, store.ErrNotFound) {
		return b, notFound("account")
	}
	if err == nil && u.ID == c.in.User.ID {
		err = badRequest("This would ban yourself.")
	}
	b.UserID, b.User = u.ID, u.Name
	return b, err
}

// canonicalPrefix reads an address or a prefix.
func canonicalPrefix(text string) (string, error) {
	text = strings.TrimSpace(text)
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()).String(), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Bits() == 0 {
		return "", badRequest("%q is neither an address nor a prefix such as 192.0.2.0/24.", printable(text))
	}
	return p.Masked().String(), nil
}

func liftBan(c *call) (any, error) {
	id := c.PathValue("id")
	bans, err := c.open.store.Bans(c.Context(), c.now())
	if err != nil {
		return nil, err
	}
	for _, b := range bans {
		if b.ID != id {
			continue
		}
		if err := c.open.store.LiftBan(c.Context(), id, c.act("ban.lift", b.User+b.Address, b.Reason)); err != nil {
			return nil, err
		}
		c.gw.bans.forget()
		if err := c.gw.tellLifted(c.Context(), b); err != nil {
			return nil, err
		}
		return nil, nil
	}
	return nil, notFound("ban")
}

func ruleOf(r store.Rule) signalapi.Rule {
	return signalapi.Rule{ID: r.ID, Pool: r.Pool, Role: string(r.Role), User: r.User, Effect: r.Effect}
}

func listRules(c *call) (any, error) {
	rules, err := c.open.store.Rules(c.Context())
	return mapped(rules, ruleOf), err
}

func addRule(c *call) (any, error) {
	var n signalapi.Rule
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	r := store.Rule{ID: credential.NewID("p-"), Pool: n.Pool, Role: store.Role(n.Role), Effect: n.Effect}
	if _, err := path.Match(n.Pool, ""); err != nil || n.Pool == "" || len(n.Pool) > maxName {
		return nil, badRequest("A pool is a name or a pattern with *, of at most %d bytes.", maxName)
	}
	if n.Role != "" && !r.Role.Valid() {
		return nil, badRequest("A role is admin, operator or viewer.")
	}
	if n.Effect != store.Allow && n.Effect != store.Deny {
		return nil, badRequest("An effect is allow or deny.")
	}
	if n.User != "" {
		u, err := c.open.store.UserByName(c.Context(), n.User)
		if errors.Is(err, store.ErrNotFound) {
			return nil, notFound("account")
		} else if err != nil {
			return nil, err
		}
		r.UserID, r.User = u.ID, u.Name
	}
	detail := strings.TrimSpace(n.Effect + " " + n.Role + " " + r.User)
	return ruleOf(r), c.open.store.AddRule(c.Context(), r, c.act("rule.add", r.Pool, detail))
}

func removeRule(c *call) (any, error) {
	id := c.PathValue("id")
	return nil, c.open.store.RemoveRule(c.Context(), id, c.act("rule.remove", id, ""))
}

// listPools lists the pools that have a title or a host.
func listPools(c *call) (any, error) {
	titles, err := c.open.store.Titles(c.Context())
	if err != nil {
		return nil, err
	}
	pools := []signalapi.Pool{}
	hosts, err := c.gw.hosts.fresh(c.Context(), c.gw.cfg.Master, c.now())
	if err != nil {
		return nil, err
	}
	for _, d := range desktopsOf(hosts, nil) {
		pools = append(pools, signalapi.Pool{Pool: d.Pool, Title: titles[d.Pool]})
		delete(titles, d.Pool)
	}
	for pool, title := range titles {
		pools = append(pools, signalapi.Pool{Pool: pool, Title: title})
	}
	return pools, nil
}

func setPool(c *call) (any, error) {
	var p signalapi.Pool
	if err := c.decode(&p); err != nil {
		return nil, err
	}
	if p.Pool == "" || len(p.Pool) > maxName || len(p.Title) > maxName {
		return nil, badRequest("A pool and its title have at most %d bytes.", maxName)
	}
	return p, c.open.store.SetTitle(c.Context(), p.Pool, p.Title, c.act("pool.title", p.Pool, p.Title))
}

const defaultAuditPage = 100

func listAudit(c *call) (any, error) {
	before, limit := int64(0), defaultAuditPage
	var err error
	if s := c.FormValue("before"); s != "" {
		if before, err = strconv.ParseInt(s, 10, 64); err != nil {
			return nil, badRequest("before is the id of an entry.")
		}
	}
	if s := c.FormValue("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 {
			return nil, badRequest("limit is a number from 1 to %d.", store.MaxAuditPage)
		}
	}
	entries, err := c.open.store.Audit(c.Context(), before, limit)
	return mapped(entries, func(e store.Entry) signalapi.AuditEntry {
		return signalapi.AuditEntry{ID: e.ID, At: e.At, Actor: e.Actor, Address: e.Address, Act: e.Act.Act, Subject: e.Subject, Detail: e.Detail}
	}), err
}
