package gateway

import (
	"context"
	"time"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

// endedSession is an end that the store has yet to learn. at is when the gateway saw it.
type endedSession struct {
	event signalapi.Event
	at    time.Time
}

// offers are the ends that are the host's fault: the viewer is offered another desktop of the pool.
var offers = map[string]bool{
	masterapi.Reason_REASON_HOST_LOST.Slug():      true,
	masterapi.Reason_REASON_HOST_RESTARTED.Slug(): true,
	masterapi.Reason_REASON_HOST_FAILED.Slug():    true,
	masterapi.Reason_REASON_HOST_DRAINED.Slug():   true,
}

// endedEvent tells how a session ended.
func endedEvent(session, pool, reason, message string) signalapi.Event {
	e := signalapi.Event{Kind: signalapi.EventEnded, Session: session, Pool: pool, Reason: reason, Message: message}
	if offers[reason] {
		e.Kind = signalapi.EventOffer
	}
	return e
}

// watchMaster forwards what happens to sessions.
func (g *Gateway) watchMaster(ctx context.Context) error {
	return g.cfg.Master.WatchSessions(ctx, g.cfg.ID, func(e *masterapi.SessionEvent) { g.onEvent(e) })
}

// onEvent runs on the watch's goroutine and does not block.
func (g *Gateway) onEvent(e *masterapi.SessionEvent) {
	reason, message := e.GetReason().Slug(), e.GetMessage()
	if message == "" {
		message = e.GetReason().Sentence()
	}
	switch e.GetKind() {
	case masterapi.SessionEvent_KIND_SYNC:
		g.resync()
	case masterapi.SessionEvent_KIND_ENDED:
		g.noteEnd(endedEvent(e.GetSessionId(), "", reason, message))
	case masterapi.SessionEvent_KIND_VIEWER_REMOVED:
		g.noteEnd(signalapi.Event{Kind: signalapi.EventEnded, Session: e.GetSessionId(), Viewer: e.GetViewerId(), Reason: reason, Message: message})
	case masterapi.SessionEvent_KIND_POOL:
		g.notePool(poolChange{e.GetSessionId(), e.GetPool()})
	case masterapi.SessionEvent_KIND_MOVED:
		grant := g.grantOf(e.GetGrant())
		g.sockets.send(signalapi.Event{Kind: signalapi.EventMove, Session: e.GetSessionId(), Viewer: grant.Viewer, Reason: reason, Message: message, Grant: &grant})
	case masterapi.SessionEvent_KIND_RENEWED:
		g.sockets.send(signalapi.Event{Kind: signalapi.EventRenewed, Session: e.GetSessionId(), Viewer: e.GetViewerId(),
			Renewed: &signalapi.Renewed{Token: e.GetViewerToken(), LeaseExpiry: e.GetExpiry().AsTime()}})
	case masterapi.SessionEvent_KIND_PATH:
		g.countPath(e)
	}
}

// countPath counts a path once in the fleet's gateways: where the viewer's socket is.
func (g *Gateway) countPath(e *masterapi.SessionEvent) {
	if !g.sockets.has(e.GetSessionId()) {
		return
	}
	path := signalapi.CandidateDirect
	if e.GetPath().GetKind() == masterapi.CandidateKind_CANDIDATE_KIND_RELAY {
		path = signalapi.CandidateRelay
	}
	g.metrics.paths.WithLabelValues(path).Inc()
}

// noteEnd hands the end of a session to the store's writer, which then tells the viewers.
func (g *Gateway) noteEnd(e signalapi.Event) {
	select {
	case g.ended <- endedSession{e, g.cfg.Now()}:
	default:
		g.metrics.dropped.WithLabelValues("ended").Inc() // reconcile will find it
	}
}

// poolChange says that a session's host has another pool now.
type poolChange struct{ session, pool string }

// notePool hands a change of pool to the store's writer.
func (g *Gateway) notePool(c poolChange) {
	select {
	case g.pools <- c:
	default:
		g.metrics.dropped.WithLabelValues("pool").Inc() // reconcile will find it
	}
}

// writePool notes a session's pool and looks whether its people may use it.
func (g *Gateway) writePool(ctx context.Context, o *opened, c poolChange) {
	if err := o.store.SetSessionPool(ctx, c.session, c.pool); err != nil {
		if ctx.Err() == nil {
			g.log.Warn("a session's pool could not be stored; it will be found later", "session_id", c.session, "err", err)
		}
		return
	}
	g.log.Info("session's host has another pool", "session_id", c.session, "cause", c.pool)
	g.doubt()
}

// noteEnds writes ends to the store and tells viewers; an end that cannot be written is told all the same.
func (g *Gateway) noteEnds(ctx context.Context) error {
	o := g.open.Load()
	for {
		select {
		case <-ctx.Done():
			return nil
		case end := <-g.ended:
			g.writeEnd(ctx, o, end)
		case c := <-g.pools:
			g.writePool(ctx, o, c)
		}
	}
}

func (g *Gateway) writeEnd(ctx context.Context, o *opened, end endedSession) {
	e := end.event
	if e.Viewer != "" {
		g.writeEndOfPart(ctx, o, end)
		return
	}
	if owner, err := o.store.SessionControl(ctx, e.Session); err == nil && e.Pool == "" {
		e.Pool = owner.Pool // an offer names the pool; without the store it comes without
	}
	first, err := o.store.EndSession(ctx, e.Session, e.Reason, e.Message, end.at)
	if err != nil && ctx.Err() == nil {
		g.log.Warn("the end of a session could not be stored; it will be found later", "session_id", e.Session, "err", err)
	}
	if first {
		g.metrics.ended.WithLabelValues(e.Reason).Inc()
		g.log.Info("session state", "from", "running", "to", "ended", "session_id", e.Session, "cause", e.Reason)
	}
	g.sockets.send(e)
}

func (g *Gateway) writeEndOfPart(ctx context.Context, o *opened, end endedSession) {
	e := end.event
	if err := o.store.EndPart(ctx, e.Session, e.Viewer, e.Reason, e.Message, end.at); err != nil && ctx.Err() == nil {
		g.log.Warn("the end of a viewer's part could not be stored", "session_id", e.Session, "err", err)
	}
	g.sockets.send(e)
}

// resync asks for a reconcile soon.
func (g *Gateway) resync() {
	select {
	case g.resyncs <- struct{}{}:
	default: // one is due already
	}
}

// reconcileRegularly finds the ends that nobody told us: after a new watch, and now and then.
func (g *Gateway) reconcileRegularly(ctx context.Context) error {
	ticker := time.NewTicker(reconcileEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-g.resyncs:
		}
		if err := g.reconcile(ctx); err != nil && ctx.Err() == nil {
			g.log.Info("sessions could not be compared with the master's", "cause", err)
		}
	}
}

// reconcile compares. The store is read first: what it holds then and the master does not list afterwards has ended.
func (g *Gateway) reconcile(ctx context.Context) error {
	running, err := g.runningSessions(ctx)
	if err != nil || len(running) == 0 {
		return err
	}
	live, err := g.liveSessions(ctx)
	if err != nil {
		return err
	}
	for id, s := range running {
		if pool, lives := live[id]; lives {
			if pool != s.Pool {
				g.notePool(poolChange{id, pool})
			}
			continue
		}
		if err := g.confirmEnd(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// runningSessions reads all pages of the store's running sessions, one part of each.
func (g *Gateway) runningSessions(ctx context.Context) (map[string]store.Session, error) {
	running := map[string]store.Session{}
	for after := ""; ; {
		page, err := g.open.Load().store.RunningAfter(ctx, after, store.MaxList)
		if err != nil || len(page) == 0 {
			return running, err
		}
		for _, s := range page {
			running[s.ID] = s
		}
		after = page[len(page)-1].ID
	}
}

// confirmEnd asks why a session has ended, and notes it.
func (g *Gateway) confirmEnd(ctx context.Context, s store.Session) error {
	session, err := g.cfg.Master.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: s.ID})
	reason, refused := masterapi.ReasonOf(err)
	switch {
	case err != nil && (!refused || reason != masterapi.Reason_REASON_SESSION_UNKNOWN):
		return fromMaster(err)
	case err == nil && session.GetState() != masterapi.SessionState_SESSION_STATE_ENDED:
		return nil // beyond the pages that were read
	case err == nil:
		reason = session.GetEndReason()
	}
	g.noteEnd(endedEvent(s.ID, s.Pool, reason.Slug(), reason.Sentence()))
	return nil
}

// liveSessions reads all pages of the master's sessions, each with its pool.
func (g *Gateway) liveSessions(ctx context.Context) (pools map[string]string, err error) {
	live := map[string]string{}
	for after := ""; ; {
		page, err := g.cfg.Master.Sessions().ListSessions(ctx, &masterapi.ListSessionsRequest{After: after, Limit: masterapi.MaxPage})
		if err != nil {
			return nil, fromMaster(err)
		}
		for _, s := range page.GetSessions() {
			live[s.GetSessionId()] = s.GetPool()
		}
		if after = page.GetNextAfter(); after == "" {
			return live, nil
		}
	}
}

// sweepRegularly removes from the store what is past its time.
func (g *Gateway) sweepRegularly(ctx context.Context) error {
	return every(ctx, sweepEvery, true, func() {
		now := g.cfg.Now()
		g.compareClocks(ctx, now)
		if _, err := g.open.Load().store.Sweep(ctx, now, now.Add(-g.cfg.LoginIdle)); err != nil && ctx.Err() == nil {
			g.log.Warn("the store could not be swept; it will be tried again", "err", err)
		}
	})
}

// compareClocks says when this gateway's clock is not the database's: logins, links and codes go by ours, limits by the database's.
func (g *Gateway) compareClocks(ctx context.Context, now time.Time) {
	theirs, err := g.open.Load().store.Clock(ctx, now)
	if err != nil {
		return // what needs the database says so
	}
	if skew := now.Sub(theirs); skew.Abs() > clockSkew {
		g.log.Warn("the clocks of this machine and of the database differ; synchronize both (NTP), or codes and logins end too early or late", "cause", "ahead by "+skew.Round(time.Second).String())
	}
}
