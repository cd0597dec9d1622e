// Package expire holds the timers of the leader: which lease ends when. It is pure: time is an argument. It is rebuilt from the state at each election
// and only says what may have expired; the state decides.
package expire

import "container/heap"

// Queue is a set of lease ids by their expiry in milliseconds. It is not safe for concurrent use.
type Queue struct {
	heap entries
	due  map[string]int64 // the latest expiry of each id
}

type entry struct {
	at int64
	id string
}

// New returns an empty queue.
func New() *Queue { return &Queue{due: map[string]int64{}} }

// Set puts id at its expiry. A later expiry than before costs nothing until the earlier one comes.
func (q *Queue) Set(id string, at int64) {
	old, known := q.due[id]
	q.due[id] = at
	if !known || at < old {
		heap.Push(&q.heap, entry{at, id})
	}
}

// Remove forgets id.
func (q *Queue) Remove(id string) { delete(q.due, id) }

// Len is the number of ids.
func (q *Queue) Len() int { return len(q.due) }

// Due removes and returns up to most ids that expire at now or before.
func (q *Queue) Due(now int64, most int) []string {
	var ids []string
	for len(q.heap) > 0 && q.heap[0].at <= now && len(ids) < most {
		e := heap.Pop(&q.heap).(entry)
		at, known := q.due[e.id]
		switch {
		case !known: // removed meanwhile
		case at > e.at: // renewed meanwhile
			heap.Push(&q.heap, entry{at, e.id})
		case at == e.at:
			delete(q.due, e.id)
			ids = append(ids, e.id)
		default: // an earlier entry of the same id follows
		}
	}
	return ids
}

type entries []entry

func (e entries) Len() int           { return len(e) }
func (e entries) Less(i, j int) bool { return e[i].at < e[j].at }
func (e entries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *entries) Push(x any) { *e = append(*e, x.(entry)) }

// Pop implements heap.Interface.
func (e *entries) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = entry{}
	*e = old[:len(old)-1]
	return last
}
