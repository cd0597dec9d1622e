package gateway

import (
	"context"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/lease"
	"github.com/wavry/fleet/master/masterapi"
)

// loss is why a part in a session has no right any more.
type loss struct {
	reason  masterapi.Reason
	message string
}

// lost decides whether a running part still has its right; nil when it has. It asks what was asked when the session began, so that the
// end of a right, however it came about, has its effect on what runs.
func lost(open []string, rules []store.Rule, p store.Part) *loss {
	byOperator := func(text string) *loss { return &loss{masterapi.Reason_REASON_OPERATOR_ENDED, text} }
	switch {
	case p.User.Disabled:
		return byOperator("The account was disabled.")
	case p.Banned != "":
		return byOperator("The account was banned: " + p.Banned)
	case !p.SignedIn:
		return &loss{masterapi.Reason_REASON_USER_ENDED, "The browser that opened this was signed out."}
	case p.Owner != p.UserID && !atLeast(p.User.Role, store.RoleOperator):
		return byOperator("Watching the sessions of others needs the role operator.")
	case p.Owner == p.UserID && !allowed(open, rules, p.User, p.Pool):
		return byOperator("You may not use \"" + p.Pool + "\" any more; ask an admin for it.")
	}
	return nil
}

// rightsWatch says when to look for lost rights: when the audit log has grown, since every change of a right leaves an entry there,
// whichever gateway or tool makes it; for a while after that, since entries may be committed out of order; and now and then, for what
// ends by time alone.
type rightsWatch struct {
	act   int64
	again int
	at    time.Time // of the last look
}

func (w *rightsWatch) due(act int64, doubt bool, now time.Time) bool {
	if act != w.act {
		w.act, w.again = act, rightsAgain
	}
	if w.again == 0 && !doubt && now.Sub(w.at) < recheckEvery && !now.Before(w.at) {
		return false
	}
	w.again, w.at = max(0, w.again-1), now
	return true
}

// retry makes the next tick look again.
func (w *rightsWatch) retry() { w.again = max(w.again, 1) }

// keepRights ends what runs without a right, on whichever gateway or by whichever tool the right was taken.
func (g *Gateway) keepRights(ctx context.Context) error {
	var w rightsWatch
	failing := false
	ticker := time.NewTicker(rightsEvery)
	defer ticker.Stop()
	for {
		doubt := false
		select {
		case <-ctx.Done():
			return nil
		case <-g.doubts:
			doubt = true
		case <-ticker.C:
		}
		err := g.lookForLost(ctx, &w, doubt)
		if err != nil {
			w.retry()
		}
		if was := failing; err != nil != was && ctx.Err() == nil {
			failing = err != nil
			g.log.Warn("sessions without a right are ended", "working", !failing, "cause", err)
		}
	}
}

func (g *Gateway) lookForLost(ctx context.Context, w *rightsWatch, doubt bool) error {
	s := g.open.Load().store
	act, err := s.LastAct(ctx)
	if err != nil || !w.due(act, doubt, g.cfg.Now()) {
		return err
	}
	g.bans.forget()
	if err := g.recheckSockets(ctx, s); err != nil {
		return err
	}
	return g.endLost(ctx, s)
}

// doubt makes the gateway look at all rights soon.
func (g *Gateway) doubt() {
	select {
	case g.doubts <- struct{}{}:
	default: // a look is due already
	}
}

// recheckSockets makes the sockets look at their login whose login or role seems to have changed, or whose address is banned.
func (g *Gateway) recheckSockets(ctx context.Context, s *store.Store) error {
	if g.sockets.empty() {
		return nil
	}
	now := g.cfg.Now()
	roles, err := s.LoginRoles(ctx, now)
	if err != nil {
		return err
	}
	prefixes, err := g.bans.fresh(ctx, s, now)
	if err != nil {
		return err
	}
	g.sockets.each(func(x *socket) bool {
		return roles[x.in.Login.Hash] != x.in.User.Role || bannedBy(prefixes, x.call.addr, now) != nil
	}, (*socket).recheckSoon)
	return nil
}

// endLost ends every running part without a right. The first error is returned after all have been tried.
func (g *Gateway) endLost(ctx context.Context, s *store.Store) (first error) {
	rules, err := s.Rules(ctx)
	if err != nil {
		return err
	}
	for after := ""; ; {
		page, err := s.Parts(ctx, g.cfg.Now(), after, store.MaxList)
		if err != nil || len(page) == 0 {
			return errorsFirst(first, err)
		}
		for _, p := range page {
			if why := lost(g.cfg.OpenPools, rules, p); why != nil {
				first = errorsFirst(first, g.endPart(ctx, s, p.Session, *why))
			}
		}
		after = page[len(page)-1].ID
	}
}

func errorsFirst(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// endPart ends a session whose owner's part this is, or only the watching.
func (g *Gateway) endPart(ctx context.Context, s *store.Store, x store.Session, why loss) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sessions := g.cfg.Master.Sessions()
	var err error
	if x.Role == string(lease.RoleControl) {
		_, err = sessions.EndSession(ctx, &masterapi.EndSessionRequest{SessionId: x.ID, Reason: why.reason, Message: why.message})
	} else {
		_, err = sessions.RemoveViewer(ctx, &masterapi.RemoveViewerRequest{SessionId: x.ID, ViewerId: x.Viewer, Reason: why.reason})
	}
	err = fromMaster(err)
	if reason, _ := masterapi.ReasonOf(err); err != nil && reason != masterapi.Reason_REASON_SESSION_UNKNOWN {
		return err
	}
	g.log.Info("right to a session has ended", "session_id", x.ID, "cause", why.message)
	g.sockets.send(signalapi.Event{Kind: signalapi.EventEnded, Session: x.ID, Viewer: x.Viewer, Reason: why.reason.Slug(), Message: why.message})
	if x.Role == string(lease.RoleControl) {
		g.noteEnd(endedEvent(x.ID, x.Pool, why.reason.Slug(), why.message))
		return nil
	}
	return s.EndPart(ctx, x.ID, x.Viewer, why.reason.Slug(), why.message, g.cfg.Now())
}
