package standalone

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/wavry/fleet/gateway/signalapi"
	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
)

// signal serves one page's WebSocket.
func (s *Server) signal(w http.ResponseWriter, r *http.Request, login string) {
	// secure has checked Origin against Host.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		s.log.Debug("signaling refused", "cause", err)
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxMessage)
	events, stop := s.subscribe(login)
	defer stop()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // ends with ctx
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-events:
				if write(ctx, ws, signalapi.Reply{Type: signalapi.TypeEvent, Data: e}) != nil {
					cancel()
				}
			}
		}
	}()
	for {
		var in request
		if err := wsjson.Read(ctx, ws, &in); err != nil {
			if websocket.CloseStatus(err) == -1 && ctx.Err() == nil {
				_ = ws.Close(websocket.StatusInvalidFramePayloadData, "messages are JSON objects of signalapi")
			}
			return
		}
		if write(ctx, ws, s.answer(login, in)) != nil {
			return
		}
	}
}

type request struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
}

func write(ctx context.Context, ws *websocket.Conn, v any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return wsjson.Write(ctx, ws, v)
}

func (s *Server) answer(login string, in request) signalapi.Reply {
	data, refusal := s.dispatch(login, in)
	if refusal != nil {
		return signalapi.Reply{Type: signalapi.TypeRefused, ID: in.ID, Data: refusal}
	}
	return signalapi.Reply{Type: signalapi.TypeReply, ID: in.ID, Data: data}
}

func (s *Server) dispatch(login string, in request) (any, *signalapi.Refusal) {
	switch in.Type {
	case signalapi.TypeConnect:
		return s.connect(login, in)
	case signalapi.TypeRenew:
		return s.renew(login, in)
	case signalapi.TypeEnd:
		return s.end(login, in)
	case signalapi.TypeResume:
		return s.resume(login, in)
	case signalapi.TypeMove:
		return nil, &signalapi.Refusal{Reason: signalapi.ReasonHostUnavailable, Message: "This host stands alone: there is no other path."}
	}
	return nil, badRequest("unknown message type")
}

func badRequest(message string) *signalapi.Refusal {
	return &signalapi.Refusal{Reason: signalapi.ReasonBadRequest, Message: message}
}

// connect grants the login its running session again, or a new one. One login has one session, so that a page that was reloaded
// comes back to its desktop; the viewer is the login, so that the newer page takes over from the older.
func (s *Server) connect(login string, in request) (any, *signalapi.Refusal) {
	var wish signalapi.Connect
	if json.Unmarshal(in.Data, &wish) != nil || lease.CheckThumbprint(wish.Key) != nil {
		return nil, badRequest("The page names no key of its own; reload it.")
	}
	session := s.running(login)
	if session == "" {
		session = rand.Text()
	}
	token, claims, err := s.sign(session, login, wish.Key)
	if err != nil {
		return nil, s.internal("sign a lease", err)
	}
	prepared, err := s.cfg.Host.Prepare(token, "")
	if err != nil {
		return nil, s.refusal(err)
	}
	s.mu.Lock()
	s.sessions[login], s.keys[login] = session, wish.Key
	s.mu.Unlock()
	return s.grant(token, claims, prepared), nil
}

// running is the login's session, "" for none. One that is on its way out is waited for: it takes no viewers and holds the slot.
func (s *Server) running(login string) string {
	deadline := time.NewTimer(endTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(endPoll)
	defer tick.Stop()
	for {
		s.mu.Lock()
		session := s.sessions[login]
		s.mu.Unlock()
		if session == "" || !s.cfg.Host.Ending(session) {
			return session
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return session
		}
	}
}

// sign signs the one lease of a session; a renewed one keeps its id.
func (s *Server) sign(session, login, key string) (string, lease.ViewerClaims, error) {
	now := s.cfg.Now()
	claims := lease.ViewerClaims{
		Lease: session, Session: session, Host: s.cfg.HostID,
		Viewer: login, Role: lease.RoleControl, Key: lease.Confirmation{Thumbprint: key},
		NotBefore: now, Expiry: now.Add(lease.Lifetime),
	}
	token, err := s.cfg.Signer.SignViewer(claims)
	return token, claims, err
}

func (s *Server) grant(token string, claims lease.ViewerClaims, p hostruntime.Prepared) signalapi.Grant {
	g := signalapi.Grant{
		Session: claims.Session, Viewer: claims.Viewer, Role: string(claims.Role),
		Host: signalapi.Host{ID: s.cfg.HostID, Identity: s.cfg.HostIdentity}, Certificate: p.Certificate,
		LeaseExpiry: claims.Expiry, GraceSeconds: int(s.cfg.Grace / time.Second),
	}
	for i, a := range p.Direct {
		g.Candidates = append(g.Candidates, signalapi.Candidate{
			Kind: signalapi.CandidateDirect, Priority: 100 - i, URL: "https://" + a.String() + transport.PathSession + token,
		})
	}
	return g
}

func (s *Server) refusal(err error) *signalapi.Refusal {
	var notReady *hostruntime.NotReadyError
	switch {
	case errors.As(err, &notReady):
		return &signalapi.Refusal{Reason: signalapi.ReasonNoHost, Message: "The desktop is not ready: " + notReady.Why.Error() + ".", RetrySeconds: 2}
	case errors.Is(err, hostruntime.ErrFull):
		return &signalapi.Refusal{Reason: signalapi.ReasonNoHost, Message: "Somebody else is using this desktop. Try again later.", RetrySeconds: 10}
	case errors.Is(err, hostruntime.ErrDraining):
		return &signalapi.Refusal{Reason: signalapi.ReasonHostUnavailable, Message: "This host is shutting down."}
	}
	return s.internal("prepare a session", err)
}

func (s *Server) internal(doing string, err error) *signalapi.Refusal {
	s.log.Error("request failed", "cause", err, "doing", doing)
	return &signalapi.Refusal{Reason: signalapi.ReasonInternal, Message: "The host could not " + doing + ". Its log says why."}
}

// owned parses a SessionRef and makes sure that the login has that session.
func (s *Server) owned(login string, in request) (signalapi.SessionRef, *signalapi.Refusal) {
	var ref signalapi.SessionRef
	if err := json.Unmarshal(in.Data, &ref); err != nil {
		return ref, badRequest("data must name a session")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref.Session == "" || s.sessions[login] != ref.Session {
		return ref, &signalapi.Refusal{Reason: signalapi.ReasonNoSession, Message: "This session is over. Connect again."}
	}
	return ref, nil
}

func (s *Server) renew(login string, in request) (any, *signalapi.Refusal) {
	ref, refusal := s.owned(login, in)
	if refusal != nil {
		return nil, refusal
	}
	s.mu.Lock()
	key := s.keys[login]
	s.mu.Unlock()
	token, claims, err := s.sign(ref.Session, login, key)
	if err != nil {
		return nil, s.internal("sign a lease", err)
	}
	if err := s.cfg.Host.Renew(token); err != nil {
		return nil, s.refusal(err)
	}
	return signalapi.Renewed{Token: token, LeaseExpiry: claims.Expiry}, nil
}

func (s *Server) end(login string, in request) (any, *signalapi.Refusal) {
	ref, refusal := s.owned(login, in)
	if refusal != nil {
		return nil, refusal
	}
	s.cfg.Host.End(ref.Session, streamwire.CodeEnded, "The session was ended.")
	return struct{}{}, nil
}

func (s *Server) resume(login string, in request) (any, *signalapi.Refusal) {
	var data signalapi.Resume
	if err := json.Unmarshal(in.Data, &data); err != nil {
		return nil, badRequest("data must list sessions")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := signalapi.Resumed{Alive: []string{}}
	for _, id := range data.Sessions {
		if s.sessions[login] == id {
			answer.Alive = append(answer.Alive, id)
		} else {
			answer.Ended = append(answer.Ended, signalapi.Event{Kind: signalapi.EventEnded, Session: id, Message: "This session is over."})
		}
	}
	return answer, nil
}
