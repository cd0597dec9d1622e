package master

import (
	"sync"

	"github.com/wavry/fleet/master/masterapi"
)

// eventHub gives session events to gateways. A gateway that does not keep up is cut and synchronises again.
type eventHub struct {
	mu       sync.Mutex // guards the following
	watchers map[*watcher]struct{}
}

type watcher struct {
	events chan *masterapi.SessionEvent
	slow   chan struct{} // closed when it was cut
}

func newEventHub() *eventHub { return &eventHub{watchers: map[*watcher]struct{}{}} }

func (h *eventHub) add() *watcher {
	w := &watcher{events: make(chan *masterapi.SessionEvent, watcherEvents), slow: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	return w
}

func (h *eventHub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

// publish never blocks. The event is shared and must not be changed afterwards.
func (h *eventHub) publish(e *masterapi.SessionEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		select {
		case w.events <- e:
		default:
			close(w.slow)
			delete(h.watchers, w)
		}
	}
}
