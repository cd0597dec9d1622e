package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// maxPixels bounds what a viewer may ask for in one direction; 8K has 7680.
const maxPixels = 16384

// admission is one wish for a desktop on its way from login to grant.
type admission struct {
	open    *opened
	user    store.User
	login   string // the id of the login that asks
	addr    netip.Addr
	request string // the client's id, or the fleet's when made by requestID
	connect signalapi.Connect
}

// requestID is the fleet-wide name of a client's request: the same person's retry has the same one on every gateway.
func requestID(userID, clientID string) string {
	sum := sha256.Sum256([]byte(userID + "\x00" + clientID))
	return "r-" + hex.EncodeToString(sum[:20])
}

// viewerID follows from the request, so that a retry is the same viewer.
func viewerID(request string) string { return "v-" + request[len("r-"):] }

// admit decides and asks the master. A retry with the same request returns the same grant and allocates nothing.
func (g *Gateway) admit(ctx context.Context, a admission) (signalapi.Grant, error) {
	began := g.cfg.Now()
	grant, err := g.tryAdmit(ctx, a)
	if err != nil {
		refusal, _ := refusalOf(err)
		g.metrics.setups.WithLabelValues(refusal.Reason).Inc()
		return signalapi.Grant{}, err
	}
	g.metrics.granted(g.cfg.Now().Sub(began))
	return g.grantOf(grant), nil
}

func (g *Gateway) tryAdmit(ctx context.Context, a admission) (*masterapi.Grant, error) {
	if c := a.connect; c.Width < 0 || c.Width > maxPixels || c.Height < 0 || c.Height > maxPixels {
		return nil, badRequest("A desktop has 0 to %d pixels each way.", maxPixels)
	}
	if err := lease.CheckThumbprint(a.connect.Key); err != nil {
		return nil, badRequest("The page names no key of its own; reload it.")
	}
	a.request = requestID(a.user.ID, a.request)
	if a.connect.Join != "" {
		return g.join(ctx, a)
	}
	if a.connect.Pool == "" || len(a.connect.Pool) > masterapi.MaxIDLen {
		return nil, badRequest("Name the pool of the desktop.")
	}
	if err := g.mayUse(ctx, a.open, a.user, a.connect.Pool); err != nil {
		return nil, err
	}
	if err := g.mayHaveMore(ctx, a); err != nil {
		return nil, err
	}
	grant, err := g.cfg.Master.Sessions().Admit(ctx, &masterapi.AdmitRequest{
		RequestId: a.request, Login: a.user.ID, DisplayName: a.user.Name, ViewerId: viewerID(a.request), ViewerAddress: viewerAddress(a.addr),
		Pool: a.connect.Pool, Region: g.cfg.Region, Role: masterapi.ViewerRole_VIEWER_ROLE_CONTROL, ForceRelay: a.connect.ForceRelay || g.cfg.ForceRelay,
		ViewerKey: a.connect.Key, Size: &masterapi.DisplaySize{Width: uint32(a.connect.Width), Height: uint32(a.connect.Height)},
	})
	if err != nil {
		return nil, fromMaster(err)
	}
	return grant, g.remember(ctx, a, grant)
}

// mayUse is policy.
func (g *Gateway) mayUse(ctx context.Context, o *opened, u store.User, pool string) error {
	rules, err := o.store.Rules(ctx)
	if err != nil {
		return err
	}
	if !allowed(g.cfg.OpenPools, rules, u, pool) {
		return forbidden("You may not use %q; ask an admin for it.", pool)
	}
	return nil
}

// mayHaveMore holds the limit of sessions per person. The retry of a granted request passes. Two requests at the same moment
// may both pass: the limit is for fairness, slots are counted by the master.
func (g *Gateway) mayHaveMore(ctx context.Context, a admission) error {
	if g.cfg.MaxSessions == 0 {
		return nil
	}
	running, err := a.open.store.RunningSessions(ctx, a.user.ID)
	if err != nil {
		return err
	}
	control := 0
	for _, s := range running {
		if s.Viewer == viewerID(a.request) {
			return nil
		}
		if s.Role == string(lease.RoleControl) {
			control++
		}
	}
	if control >= g.cfg.MaxSessions {
		return refuse(http.StatusConflict, signalapi.ReasonForbidden, "You have %d desktops running, which is the limit; end one first.", control)
	}
	return nil
}

// join lets the owner of a session, and operators, watch it. An operator's look is audited.
func (g *Gateway) join(ctx context.Context, a admission) (*masterapi.Grant, error) {
	owner, err := a.open.store.SessionControl(ctx, a.connect.Join)
	if errors.Is(err, store.ErrNotFound) || (err == nil && !owner.EndedAt.IsZero()) {
		return nil, noSession()
	} else if err != nil {
		return nil, err
	}
	if owner.UserID != a.user.ID {
		if !atLeast(a.user.Role, store.RoleOperator) {
			return nil, noSession() // whose it is, is nobody's business
		}
		if err := a.open.store.Record(ctx, g.actOf(a.user.Name, a.addr.String(), "session.watch", owner.ID, "session of "+owner.UserID)); err != nil {
			return nil, err
		}
	}
	grant, err := g.cfg.Master.Sessions().AddViewer(ctx, &masterapi.AddViewerRequest{
		RequestId: a.request, SessionId: owner.ID, Login: a.user.ID, DisplayName: a.user.Name, ViewerId: viewerID(a.request), ViewerAddress: viewerAddress(a.addr),
		Region: g.cfg.Region, Role: masterapi.ViewerRole_VIEWER_ROLE_WATCH, ForceRelay: a.connect.ForceRelay || g.cfg.ForceRelay,
		ViewerKey: a.connect.Key,
	})
	if err != nil {
		return nil, fromMaster(err)
	}
	a.connect.Pool = owner.Pool
	return grant, g.remember(ctx, a, grant)
}

func noSession() *RefusalError {
	return refuse(http.StatusNotFound, signalapi.ReasonNoSession, "There is no such session; ask for a new desktop.")
}

// remember notes whose session it is. Should that fail, the client's retry gets the same grant and notes it again. The right is asked for
// once more, now that the part is there: who took it away while the master looked for a host saw nothing to end.
func (g *Gateway) remember(ctx context.Context, a admission, grant *masterapi.Grant) error {
	err := a.open.store.AddSession(ctx, store.Session{ID: grant.GetSessionId(), Viewer: grant.GetViewerId(), UserID: a.user.ID, Login: a.login,
		Pool: a.connect.Pool, Role: roleOf(grant.GetRole()), CreatedAt: g.cfg.Now()})
	if err != nil {
		return err
	}
	parts, err := a.open.store.PartsOf(ctx, g.cfg.Now(), grant.GetSessionId())
	if err != nil {
		return err
	}
	rules, err := a.open.store.Rules(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if why := lost(g.cfg.OpenPools, rules, p); why != nil && p.Viewer == grant.GetViewerId() {
			g.doubt() // it is ended as every part without a right
			return forbidden("%s", why.message)
		}
	}
	return nil
}

// move gives one viewer another path: the present one is failing, or the person takes the session to another browser, whose login it
// hangs on from then on.
func (g *Gateway) move(ctx context.Context, o *opened, in store.SignedIn, clientID string, ref signalapi.SessionRef) (signalapi.Grant, error) {
	u := in.User
	s, err := g.ownSession(ctx, o, u, ref)
	if err != nil {
		return signalapi.Grant{}, err
	}
	if ref.Key != "" && lease.CheckThumbprint(ref.Key) != nil {
		return signalapi.Grant{}, badRequest("The page's key is none; reload it.")
	}
	if s.Login != in.Login.ID {
		if err := o.store.AdoptPart(ctx, s.ID, s.Viewer, u.ID, in.Login.ID); err != nil {
			return signalapi.Grant{}, err
		}
	}
	moved, err := g.cfg.Master.Sessions().MoveSession(ctx, &masterapi.MoveSessionRequest{
		RequestId: requestID(u.ID, clientID), SessionId: s.ID, ViewerId: s.Viewer, Reason: masterapi.Reason_REASON_MOVED, Region: g.cfg.Region,
		ViewerKey: ref.Key,
	})
	if err != nil {
		return signalapi.Grant{}, fromMaster(err)
	}
	i := slices.IndexFunc(moved.GetGrants(), func(x *masterapi.Grant) bool { return x.GetViewerId() == s.Viewer })
	if i < 0 {
		return signalapi.Grant{}, noSession()
	}
	return g.grantOf(moved.GetGrants()[i]), nil
}

// renew prolongs the newest live lease of one viewer.
func (g *Gateway) renew(ctx context.Context, o *opened, u store.User, ref signalapi.SessionRef) (signalapi.Renewed, error) {
	s, err := g.ownSession(ctx, o, u, ref)
	if err != nil {
		return signalapi.Renewed{}, err
	}
	session, err := g.cfg.Master.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: s.ID})
	if err != nil {
		return signalapi.Renewed{}, fromMaster(err)
	}
	i := slices.IndexFunc(session.GetLeases(), func(l *masterapi.Lease) bool { return l.GetViewerId() == s.Viewer }) // newest first
	if i < 0 {
		return signalapi.Renewed{}, noSession()
	}
	renewed, err := g.cfg.Master.Leases().Renew(ctx, &masterapi.RenewRequest{LeaseId: session.GetLeases()[i].GetLeaseId()})
	if err != nil {
		return signalapi.Renewed{}, fromMaster(err)
	}
	return signalapi.Renewed{Token: renewed.GetViewerToken(), LeaseExpiry: renewed.GetExpiry().AsTime()}, nil
}

// end ends the caller's session, or only the caller's watching.
func (g *Gateway) end(ctx context.Context, o *opened, u store.User, ref signalapi.SessionRef) error {
	s, err := g.ownSession(ctx, o, u, ref)
	if err != nil {
		return err
	}
	if s.Role == string(lease.RoleWatch) {
		_, err = g.cfg.Master.Sessions().RemoveViewer(ctx, &masterapi.RemoveViewerRequest{
			SessionId: s.ID, ViewerId: s.Viewer, Reason: masterapi.Reason_REASON_USER_ENDED})
		return fromMaster(err)
	}
	_, err = g.cfg.Master.Sessions().EndSession(ctx, &masterapi.EndSessionRequest{
		SessionId: s.ID, Reason: masterapi.Reason_REASON_USER_ENDED, Message: cut(ref.Cause, maxReason)})
	if err != nil {
		return fromMaster(err)
	}
	_, err = o.store.EndSession(ctx, s.ID, masterapi.Reason_REASON_USER_ENDED.Slug(), masterapi.Reason_REASON_USER_ENDED.Sentence(), g.cfg.Now())
	return err
}

// ownSession finds the caller's part in a running session.
func (g *Gateway) ownSession(ctx context.Context, o *opened, u store.User, ref signalapi.SessionRef) (store.Session, error) {
	s, err := o.store.SessionPart(ctx, ref.Session, u.ID, ref.Viewer)
	if errors.Is(err, store.ErrNotFound) {
		return s, noSession()
	}
	if err == nil && !s.EndedAt.IsZero() {
		return s, refuse(http.StatusGone, signalapi.ReasonNoSession, "The session has ended; ask for a new desktop.")
	}
	return s, err
}

// grantOf says a grant in the browser's words.
func (g *Gateway) grantOf(m *masterapi.Grant) signalapi.Grant {
	grant := signalapi.Grant{
		Session: m.GetSessionId(), Viewer: m.GetViewerId(), Role: roleOf(m.GetRole()),
		Host:        signalapi.Host{ID: m.GetHostId(), Identity: m.GetHostIdentity()},
		Candidates:  make([]signalapi.Candidate, 0, len(m.GetCandidates())),
		Certificate: signalapi.Certificate{Hashes: m.GetCertificateSha256(), Expiry: m.GetCertificateExpiry().AsTime(), Signature: m.GetHostSignature()},
		LeaseExpiry: m.GetExpiry().AsTime(), GraceSeconds: int(g.cfg.Grace.Seconds()),
	}
	for i, c := range m.GetCandidates() {
		kind := signalapi.CandidateDirect
		if c.GetKind() == masterapi.CandidateKind_CANDIDATE_KIND_RELAY {
			kind = signalapi.CandidateRelay
		}
		u := url.URL{Scheme: "https", Host: c.GetAddress(), Path: "/session/" + m.GetViewerToken()}
		grant.Candidates = append(grant.Candidates, signalapi.Candidate{
			Kind: kind, Priority: len(m.GetCandidates()) - i, URL: u.String(), Relay: c.GetRelayId()})
	}
	return grant
}

func roleOf(r masterapi.ViewerRole) string {
	if r == masterapi.ViewerRole_VIEWER_ROLE_WATCH {
		return string(lease.RoleWatch)
	}
	return string(lease.RoleControl)
}

// viewerAddress is the address that may pin the viewer leg. A viewer on this machine's loopback reaches a relay from an address
// we cannot see from here, so any may pin it; what opens the session is the page's key in both cases.
func viewerAddress(a netip.Addr) string {
	if !a.IsValid() || a.IsLoopback() {
		return ""
	}
	return a.String()
}

// fromMaster makes an error of the master one that refusalOf knows. nil stays nil.
func fromMaster(err error) error {
	if err == nil {
		return nil
	}
	err = masterapiconnect.FromError(err)
	if _, refused := masterapi.ReasonOf(err); refused {
		return err
	}
	return errors.Join(errMasterAway, err)
}
