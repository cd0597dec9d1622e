package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/gateway/store"
	"github.com/wavry/fleet/master/masterapi"
)

// socket is one signaling WebSocket of one login.
type socket struct {
	gw   *Gateway
	call *call
	in   store.SignedIn
	conn *websocket.Conn
	// out is what the writer sends; see socketQueue.
	out   chan signalapi.Reply
	doubt chan struct{} // asks for a check of the login, capacity 1
	rate  *rate.Limiter
	busy  chan struct{} // one per request in work
	stop  context.CancelCauseFunc
}

// serveSocket upgrades the request and serves the socket until it ends.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	c, err := g.newCall(w, r)
	if err == nil {
		err = c.authenticate()
	}
	if err != nil {
		g.answer(w, r, nil, err)
		return
	}
	ctx, stop := context.WithCancelCause(context.WithoutCancel(r.Context())) // a hijacked request's context says nothing
	defer stop(nil)
	s := &socket{gw: g, call: c, in: c.in, out: make(chan signalapi.Reply, socketQueue), doubt: make(chan struct{}, 1),
		rate: rate.NewLimiter(socketRate, socketBurst), busy: make(chan struct{}, socketRequests), stop: stop}
	if refusal := g.sockets.add(s); refusal != nil {
		g.answer(w, r, nil, refusal)
		return
	}
	defer g.sockets.remove(s)
	// The guard has checked Origin by our own rule, which knows the public URL.
	s.conn, err = websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		g.metrics.socketEnds.WithLabelValues("handshake").Inc()
		return // Accept has answered
	}
	s.conn.SetReadLimit(maxMessage)
	s.run(ctx)
}

// run serves until the client goes, the login ends or the gateway stops.
func (s *socket) run(ctx context.Context) {
	var requests sync.WaitGroup
	defer requests.Wait()
	work, ctx := errgroup.WithContext(ctx)
	// A read whose context is cancelled breaks the connection without a word; close ends it instead, and cuts it when it must.
	reading, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	work.Go(func() error { return s.read(reading, ctx, &requests) })
	work.Go(func() error { return s.write(ctx) })
	work.Go(func() error { return s.recheck(ctx) })
	work.Go(func() error {
		<-ctx.Done()
		s.close(context.Cause(ctx), cut)
		return nil
	})
	_ = work.Wait() // the first error was the cause that close has told
}

// close says why and ends the connection, politely for at most closeTimeout.
func (s *socket) close(cause error, cut context.CancelFunc) {
	code, text, label := closeWord(cause)
	s.gw.metrics.socketEnds.WithLabelValues(label).Inc()
	defer time.AfterFunc(closeTimeout, cut).Stop()
	_ = s.conn.Close(code, text) // the client may be gone already
}

// incoming is signalapi.Request with its data unread.
type incoming struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

// read takes requests in until the connection ends; work bounds what they do.
func (s *socket) read(ctx, work context.Context, requests *sync.WaitGroup) error {
	for {
		kind, data, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		if err := s.rate.Wait(work); err != nil {
			return err
		}
		var in incoming
		if err := json.Unmarshal(data, &in); err != nil || kind != websocket.MessageText || len(in.ID) > signalapi.MaxRequestID {
			s.refuse("", badRequest("A message is a JSON object with type and id, the id of at most %d characters.", signalapi.MaxRequestID))
			continue
		}
		select {
		case s.busy <- struct{}{}:
		default:
			s.refuse(in.ID, refuse(http.StatusTooManyRequests, signalapi.ReasonRateLimited, "Wait for the answers to your last %d requests.", socketRequests).after(time.Second))
			continue
		}
		requests.Go(func() {
			defer func() { <-s.busy }()
			s.handle(work, in)
		})
	}
}

// handle answers one request.
func (s *socket) handle(ctx context.Context, in incoming) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	value, err := s.perform(ctx, in)
	if err != nil {
		s.refuse(in.ID, s.gw.refusal(err, "signal "+printable(in.Type)))
		return
	}
	s.push(signalapi.Reply{Type: signalapi.TypeReply, ID: in.ID, Data: value})
}

// perform checks that the login still holds and does what the request says.
func (s *socket) perform(ctx context.Context, in incoming) (any, error) {
	if err := s.checkLogin(ctx); err != nil {
		return nil, err
	}
	do, known := map[string]func(context.Context, incoming) (any, error){
		signalapi.TypeConnect: s.connect, signalapi.TypeRenew: s.renew, signalapi.TypeEnd: s.end,
		signalapi.TypeResume: s.resume, signalapi.TypeMove: s.move, signalapi.TypeReport: s.report,
	}[in.Type]
	if !known {
		return nil, badRequest("There is no request of type %q.", printable(in.Type))
	}
	return do(ctx, in)
}

// checkLogin ends the socket when its login has ended.
func (s *socket) checkLogin(ctx context.Context) error {
	in, err := s.gw.findLogin(ctx, s.call.open, s.in.Login.Hash, s.call.addr)
	if refusal := (*RefusalError)(nil); errors.As(err, &refusal) {
		s.refuse("", refusal)
		s.stop(errSignedOut)
		return err
	} else if err != nil {
		return err
	}
	if in.User.Role != s.in.User.Role {
		s.refuse("", forbidden("Your role has changed; the page signs in anew."))
		s.stop(errSlow) // reconnect: the new socket knows the new role
	}
	return nil
}

func (s *socket) connect(ctx context.Context, in incoming) (any, error) {
	var c signalapi.Connect
	if err := unpack(in, signalapi.MinRequestID, &c); err != nil {
		return nil, err
	}
	grant, err := s.gw.admit(ctx, admission{open: s.call.open, user: s.in.User, login: s.in.Login.ID, addr: s.call.addr, request: in.ID, connect: c})
	if err != nil {
		return nil, err
	}
	s.gw.sockets.subscribe(s, grant.Session, grant.Viewer)
	// The master may have taken seconds. A right that was taken meanwhile was looked for before the session was known.
	if err := s.checkLogin(ctx); err != nil {
		s.gw.doubt()
		return nil, err
	}
	return grant, nil
}

func (s *socket) move(ctx context.Context, in incoming) (any, error) {
	var ref signalapi.SessionRef
	if err := unpack(in, signalapi.MinRequestID, &ref); err != nil {
		return nil, err
	}
	grant, err := s.gw.move(ctx, s.call.open, s.in, in.ID, ref)
	if err == nil {
		s.gw.sockets.subscribe(s, grant.Session, grant.Viewer)
	}
	return grant, err
}

func (s *socket) renew(ctx context.Context, in incoming) (any, error) {
	var ref signalapi.SessionRef
	if err := unpack(in, 1, &ref); err != nil {
		return nil, err
	}
	return s.gw.renew(ctx, s.call.open, s.in.User, ref)
}

func (s *socket) end(ctx context.Context, in incoming) (any, error) {
	var ref signalapi.SessionRef
	if err := unpack(in, 1, &ref); err != nil {
		return nil, err
	}
	return struct{}{}, s.gw.end(ctx, s.call.open, s.in.User, ref)
}

// report feeds metrics only; the session must be the caller's, so that strangers do not write our numbers.
func (s *socket) report(ctx context.Context, in incoming) (any, error) {
	var r signalapi.Report
	if err := unpack(in, 1, &r); err != nil {
		return nil, err
	}
	if r.Outcome != signalapi.OutcomeConnected && r.Outcome != signalapi.OutcomeFailed && r.Outcome != signalapi.OutcomeLost {
		return nil, badRequest("There is no outcome %q.", printable(r.Outcome))
	}
	if _, err := s.call.open.store.SessionPart(ctx, r.Session, s.in.User.ID, ""); errors.Is(err, store.ErrNotFound) {
		return nil, noSession()
	} else if err != nil {
		return nil, err
	}
	s.gw.metrics.reports.WithLabelValues(r.Outcome).Inc()
	if r.Outcome == signalapi.OutcomeConnected && r.SetupMS > 0 {
		s.gw.metrics.connected.Observe((time.Duration(r.SetupMS) * time.Millisecond).Seconds())
	}
	return struct{}{}, nil
}

// resume subscribes a returning client to its sessions and says which have ended meanwhile. A session counts as running while
// the master cannot say otherwise.
func (s *socket) resume(ctx context.Context, in incoming) (any, error) {
	var r signalapi.Resume
	if err := unpack(in, 1, &r); err != nil {
		return nil, err
	}
	if len(r.Sessions) > maxResume {
		return nil, badRequest("At most %d sessions can be resumed at once.", maxResume)
	}
	resumed := signalapi.Resumed{Alive: []string{}}
	for _, id := range r.Sessions {
		viewer, ended, err := s.gw.stillRuns(ctx, s.call.open, s.in.User, signalapi.SessionRef{Session: id, Viewer: r.Viewers[id]})
		if err != nil {
			return nil, err
		}
		if ended != nil {
			resumed.Ended = append(resumed.Ended, *ended)
			continue
		}
		s.gw.sockets.subscribe(s, id, viewer)
		resumed.Alive = append(resumed.Alive, id)
	}
	return resumed, nil
}

// stillRuns returns the caller's viewer in a session, or how the session ended.
func (g *Gateway) stillRuns(ctx context.Context, o *opened, u store.User, ref signalapi.SessionRef) (viewer string, ended *signalapi.Event, err error) {
	id := ref.Session
	part, err := o.store.SessionPart(ctx, id, u.ID, ref.Viewer)
	if errors.Is(err, store.ErrNotFound) {
		return "", &signalapi.Event{Kind: signalapi.EventEnded, Session: id, Reason: signalapi.ReasonNoSession, Message: noSession().Message}, nil
	} else if err != nil {
		return "", nil, err
	}
	if !part.EndedAt.IsZero() {
		e := endedEvent(id, part.Pool, part.Reason, part.Message)
		return "", &e, nil
	}
	session, err := g.cfg.Master.Sessions().GetSession(ctx, &masterapi.GetSessionRequest{SessionId: id})
	reason, refused := masterapi.ReasonOf(err)
	switch {
	case err != nil && (!refused || reason != masterapi.Reason_REASON_SESSION_UNKNOWN):
		return part.Viewer, nil, nil // the master is away: the stream does not care, nor do we
	case err != nil:
		session = &masterapi.Session{State: masterapi.SessionState_SESSION_STATE_ENDED, EndReason: reason}
	}
	if session.GetState() == masterapi.SessionState_SESSION_STATE_ENDED {
		e := endedEvent(id, part.Pool, session.GetEndReason().Slug(), session.GetEndReason().Sentence())
		g.noteEnd(e)
		return "", &e, nil
	}
	return part.Viewer, nil, nil
}

// unpack reads the data of a request and checks its id.
func unpack(in incoming, minID int, v any) error {
	if len(in.ID) < minID {
		return badRequest("The id of this request has at least %d characters; make it random.", minID)
	}
	if len(in.Data) == 0 || json.Unmarshal(in.Data, v) != nil {
		return badRequest("The data of the request is not what %q needs.", printable(in.Type))
	}
	return nil
}

func (s *socket) refuse(id string, r *RefusalError) {
	s.push(signalapi.Reply{Type: signalapi.TypeRefused, ID: id, Data: r.Refusal})
}

// push queues a message. A client that does not keep up is closed; it reconnects and resumes.
func (s *socket) push(m signalapi.Reply) {
	select {
	case s.out <- m:
	default:
		s.stop(errSlow)
	}
}

// write sends what is queued, and pings.
func (s *socket) write(ctx context.Context) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for {
		select {
		case <-ctx.Done():
			s.flush(ctx)
			return nil
		case m := <-s.out:
			if err := s.send(ctx, m); err != nil {
				return err
			}
		case <-ping.C:
			wait, cancel := context.WithTimeout(ctx, pingTimeout)
			err := s.conn.Ping(wait)
			cancel()
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// flush sends what is queued already at the end, such as the refusal that explains it.
func (s *socket) flush(ctx context.Context) {
	for {
		select {
		case m := <-s.out:
			if s.send(ctx, m) != nil {
				return
			}
		default:
			return
		}
	}
}

func (s *socket) send(ctx context.Context, m signalapi.Reply) error {
	data, err := json.Marshal(m)
	if err != nil {
		panic("gateway: a message is not JSON: " + err.Error())
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeoutSocket)
	defer cancel()
	return s.conn.Write(wait, websocket.MessageText, data)
}

// recheck looks regularly, and when in doubt, whether the login still holds.
func (s *socket) recheck(ctx context.Context) error {
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.doubt:
		}
		if err := s.checkLogin(ctx); err != nil && ctx.Err() == nil {
			s.gw.log.Debug("login of a socket could not be checked or has ended", "remote", s.call.addr, "cause", err)
		}
	}
}

func (s *socket) recheckSoon() {
	select {
	case s.doubt <- struct{}{}:
	default: // a check is due already
	}
}
