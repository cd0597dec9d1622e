package credential

import (
	"context"
	"slices"
	"sync"
	"time"
)

// queue shares a few slots among many who want one, fairly: the next is whoever's network has been served least lately, not whoever came
// first. So a flood from some networks delays those networks; somebody from another one waits for the slot that is busy now.
type queue struct {
	now  func() time.Time
	most int // that may wait

	mu      sync.Mutex // guards the following
	free    int
	waiting []*waiter // in order of arrival
	served  map[string]service
}

// waiter is somebody who wants a slot. turn is closed when they have it or are turned away.
type waiter struct {
	from string
	turn chan struct{}
	ok   bool // set before turn is closed
}

// service is what somebody was given lately: a number at a time, of which one is forgotten per serviceForgotten.
type service struct {
	n  float64
	at time.Time
}

func newQueue(slots int, now func() time.Time) *queue {
	return &queue{now: now, most: slots * queuePerSlot, free: slots, served: map[string]service{}}
}

// acquire waits for a slot. When too many wait, one of those is turned away, the newest, whose network was
// served most lately and wants most: ErrBusy.
func (q *queue) acquire(ctx context.Context, from string) (release func(), err error) {
	w := q.join(from)
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-w.turn:
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && q.leave(w) {
		return nil, err
	}
	if !w.ok { // turned away, by now at the latest
		return nil, ErrBusy
	}
	if err != nil { // the slot came in the same moment
		q.release()
		return nil, err
	}
	return q.release, nil
}

func (q *queue) join(from string) *waiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &waiter{from: from, turn: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	if q.serve(); len(q.waiting) > q.most {
		worst, most, wants := 0, -1.0, map[string]float64{}
		for i, other := range q.waiting {
			wants[other.from]++
			if n := q.lately(other.from, q.now()) + wants[other.from]; n >= most {
				worst, most = i, n
			}
		}
		w := q.waiting[worst]
		q.waiting = slices.Delete(q.waiting, worst, worst+1)
		close(w.turn)
	}
	return w
}

// leave takes w out of the queue; false when it has had its turn.
func (q *queue) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, w)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	q.serve()
}

// serve gives free slots away. It is called with the lock held.
func (q *queue) serve() {
	for q.free > 0 && len(q.waiting) > 0 {
		now, next := q.now(), 0
		for i, w := range q.waiting {
			if q.lately(w.from, now) < q.lately(q.waiting[next].from, now) {
				next = i
			}
		}
		w := q.waiting[next]
		q.waiting = slices.Delete(q.waiting, next, next+1)
		q.free--
		q.note(w.from, now)
		w.ok = true
		close(w.turn)
	}
}

// lately is how much from was served lately.
func (q *queue) lately(from string, now time.Time) float64 {
	s := q.served[from]
	return max(s.n-max(now.Sub(s.at), 0).Seconds()/serviceForgotten.Seconds(), 0)
}

func (q *queue) note(from string, now time.Time) {
	if len(q.served) >= maxServed {
		for other := range q.served {
			if q.lately(other, now) == 0 || len(q.served) >= maxServed {
				delete(q.served, other)
			}
		}
	}
	q.served[from] = service{q.lately(from, now) + 1, now}
}
