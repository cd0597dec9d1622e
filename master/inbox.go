package master

import (
	"sync"

	"github.com/wavry/fleet/master/state"
)

// inbox carries what the state machine applied to the leader's goroutine. Raft's goroutine must not block, so it grows when the leader is behind; the
// leader only touches memory per event and keeps up.
type inbox struct {
	mu       sync.Mutex // guards the following
	events   []state.Event
	restored bool

	signal chan struct{} // has room for one
}

func newInbox() *inbox { return &inbox{signal: make(chan struct{}, 1)} }

func (i *inbox) put(events []state.Event, restored bool) {
	i.mu.Lock()
	i.events = append(i.events, events...)
	i.restored = i.restored || restored
	i.mu.Unlock()
	select {
	case i.signal <- struct{}{}:
	default:
	}
}

func (i *inbox) take() (events []state.Event, restored bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	events, restored = i.events, i.restored
	i.events, i.restored = nil, false
	return events, restored
}
