package session

import (
	"sync"
	"time"
)

// loop is the one goroutine that owns a session's state. Others hand it closures.
type loop struct {
	tasks chan func()
	done  chan struct{}
	once  sync.Once
}

func newLoop() *loop {
	return &loop{tasks: make(chan func(), maxTasks), done: make(chan struct{})}
}

// run executes tasks until finished says so, which it asks after each task and tick. Tasks that were queued by then are dropped:
// their callers see done.
func (l *loop) run(interval time.Duration, tick func(), finished func() bool) {
	defer l.once.Do(func() { close(l.done) })
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for !finished() {
		select {
		case task := <-l.tasks:
			task()
		case <-ticker.C:
			tick()
		}
	}
}

// do queues a task and reports whether the loop still takes any. It blocks while the queue is full.
func (l *loop) do(task func()) bool {
	select {
	case l.tasks <- task:
		return true
	case <-l.done:
		return false
	}
}

// call runs a task and waits for it. It returns ErrEnded when the loop ended first.
func (l *loop) call(task func()) error {
	ran := make(chan struct{})
	if !l.do(func() { task(); close(ran) }) {
		return ErrEnded
	}
	select {
	case <-ran:
		return nil
	case <-l.done:
		return ErrEnded
	}
}
