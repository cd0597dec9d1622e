package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/wavry/fleet/gateway/signalapi"
)

// Close codes of ours (4000 and up are the application's). PROTOCOL.md tells what a client does with them.
const (
	closeSignedOut websocket.StatusCode = 4401 // sign in again; reconnecting will not help
	closeSlow      websocket.StatusCode = 4408 // reconnect and resume
)

// Causes for which we end a socket.
var (
	errGoingAway = errors.New("the gateway is stopping")
	errSignedOut = errors.New("the login has ended")
	errSlow      = errors.New("the client reads too slowly")
)

// sockets is the table of open WebSockets. It holds nothing that a reconnecting client would miss.
type sockets struct {
	metrics *metrics
	running sync.WaitGroup

	mu        sync.Mutex // guards the following
	closed    bool
	all       map[*socket]struct{}
	byUser    map[string]int
	bySession map[string]map[*socket]string // to the viewer's id
}

func newSockets(m *metrics) *sockets {
	return &sockets{metrics: m, all: map[*socket]struct{}{}, byUser: map[string]int{}, bySession: map[string]map[*socket]string{}}
}

// add takes a socket in unless there are too many or the gateway is stopping. Whoever was added must be removed.
func (t *sockets) add(s *socket) *RefusalError {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return refuse(http.StatusServiceUnavailable, signalapi.ReasonInternal, "The gateway is stopping; try again in a moment.").after(1)
	case len(t.all) >= socketsInAll:
		return refuse(http.StatusServiceUnavailable, signalapi.ReasonRateLimited, "The gateway is full; try again in a moment.").after(recheckEvery)
	case t.byUser[s.in.User.ID] >= socketsPerUser:
		return refuse(http.StatusTooManyRequests, signalapi.ReasonRateLimited, "Close some of your %d tabs.", socketsPerUser).after(recheckEvery)
	}
	t.all[s] = struct{}{}
	t.byUser[s.in.User.ID]++
	t.running.Add(1)
	t.metrics.sockets.Inc()
	return nil
}

func (t *sockets) remove(s *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, s)
	if t.byUser[s.in.User.ID]--; t.byUser[s.in.User.ID] == 0 {
		delete(t.byUser, s.in.User.ID)
	}
	for id, set := range t.bySession {
		if delete(set, s); len(set) == 0 {
			delete(t.bySession, id)
		}
	}
	t.metrics.sockets.Dec()
	t.running.Done()
}

// subscribe makes s hear of a session as one of its viewers.
func (t *sockets) subscribe(s *socket, session, viewer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.all[s]; !open {
		return
	}
	if t.bySession[session] == nil {
		t.bySession[session] = map[*socket]string{}
	}
	t.bySession[session][s] = viewer
}

// has reports whether anybody here hears of a session.
func (t *sockets) has(session string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.bySession[session]) > 0
}

// send tells everybody who hears of the event's session, or only its viewer when the event names one. It never blocks.
func (t *sockets) send(e signalapi.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s, viewer := range t.bySession[e.Session] {
		if e.Viewer == "" || e.Viewer == viewer {
			s.push(signalapi.Reply{Type: signalapi.TypeEvent, Data: e})
		}
	}
	if e.Viewer == "" && (e.Kind == signalapi.EventEnded || e.Kind == signalapi.EventOffer) {
		delete(t.bySession, e.Session)
	}
}

// empty reports whether nobody is connected.
func (t *sockets) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all) == 0
}

// closeLogin ends the sockets of one login.
func (t *sockets) closeLogin(hash string) {
	t.each(func(s *socket) bool { return s.in.Login.Hash == hash }, func(s *socket) { s.stop(errSignedOut) })
}

// recheck makes the sockets of an account see at once whether their login still holds.
func (t *sockets) recheck(userID string) {
	t.each(func(s *socket) bool { return s.in.User.ID == userID }, (*socket).recheckSoon)
}

// recheckAll is recheck for everybody.
func (t *sockets) recheckAll() {
	t.each(func(*socket) bool { return true }, (*socket).recheckSoon)
}

func (t *sockets) each(which func(*socket) bool, do func(*socket)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.all {
		if which(s) {
			do(s)
		}
	}
}

// closeAll tells all clients to come back later, and returns when they are gone. No socket is added afterwards.
func (t *sockets) closeAll() {
	t.mu.Lock()
	t.closed = true
	for s := range t.all {
		s.stop(errGoingAway)
	}
	t.mu.Unlock()
	t.running.Wait()
}

// closeWord is how an end of a socket is told to the client and counted.
func closeWord(cause error) (code websocket.StatusCode, text, label string) {
	switch {
	case errors.Is(cause, errGoingAway):
		return websocket.StatusGoingAway, errGoingAway.Error(), "going_away"
	case errors.Is(cause, errSignedOut):
		return closeSignedOut, errSignedOut.Error(), "signed_out"
	case errors.Is(cause, errSlow):
		return closeSlow, errSlow.Error(), "slow"
	case errors.Is(cause, context.Canceled), websocket.CloseStatus(cause) != -1:
		return websocket.StatusNormalClosure, "", "client"
	case errors.Is(cause, context.DeadlineExceeded):
		return websocket.StatusPolicyViolation, "no answer to a ping", "timeout"
	}
	return websocket.StatusPolicyViolation, "", "error"
}
