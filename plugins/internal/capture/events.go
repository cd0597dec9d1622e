package capture

import (
	"sync"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// eventQueue carries events from a Source to whoever watches. A full queue drops its oldest event.
type eventQueue struct {
	mu     sync.Mutex // guards events
	events []*pluginpb.CaptureEvent
	wake   chan struct{}
}

func newEventQueue() *eventQueue { return &eventQueue{wake: make(chan struct{}, 1)} }

func (q *eventQueue) put(e *pluginpb.CaptureEvent) {
	if e.Time == 0 {
		e.Time = int64(media.Now())
	}
	q.mu.Lock()
	if len(q.events) == maxEvents {
		q.events = q.events[1:]
	}
	q.events = append(q.events, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

func (q *eventQueue) takeAll() []*pluginpb.CaptureEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events
}
