package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/state"
)

// proposal is commands waiting for their results, in one log entry.
type proposal struct {
	commands []state.Command
	done     chan outcome // buffered
}

type outcome struct {
	results []state.Result
	err     error
}

// committer puts many commands into one log entry (group commit).
type committer struct {
	raft    *raft.Raft
	now     func() time.Time
	waiting chan proposal
}

func newCommitter(r *raft.Raft, now func() time.Time) *committer {
	return &committer{raft: r, now: now, waiting: make(chan proposal, maxWaiting)}
}

// propose waits until the commands were applied. When ctx ends first they may still be applied.
func (c *committer) propose(ctx context.Context, commands []state.Command) ([]state.Result, error) {
	p := proposal{commands: commands, done: make(chan outcome, 1)}
	select {
	case c.waiting <- p:
	default:
		return nil, ErrBusy
	}
	select {
	case o := <-p.done:
		return o.results, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run commits one entry after the other until ctx ends, and answers everything that is queued then. While one is on its way the next batch grows:
// two at once make smaller batches, which costs more processor time than the waiting saves.
func (c *committer) run(ctx context.Context) {
	defer c.refuseRest()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case first := <-c.waiting:
			c.commit(c.gather(first))
		}
	}
}

// gather takes what waits until there are maxBatch commands or more.
func (c *committer) gather(first proposal) []proposal {
	batch, n := []proposal{first}, len(first.commands)
	for n < maxBatch {
		select {
		case p := <-c.waiting:
			batch, n = append(batch, p), n+len(p.commands)
		default:
			return batch
		}
	}
	return batch
}

func (c *committer) commit(batch []proposal) {
	var commands []state.Command
	for _, p := range batch {
		commands = append(commands, p.commands...)
	}
	entry := state.AppendEntry(make([]byte, 0, 256*len(commands)), state.At(c.now()), commands...)
	results, err := await[[]state.Result](c.raft.Apply(entry, applyTimeout))
	for _, p := range batch {
		if err != nil {
			p.done <- outcome{err: err}
			continue
		}
		n := len(p.commands)
		p.done <- outcome{results: results[:n:n]}
		results = results[n:]
	}
}

// await is the typed end of raft's future: it checks the error and the response.
func await[T any](future raft.ApplyFuture) (T, error) {
	var zero T
	if err := future.Error(); err != nil {
		return zero, raftError(err)
	}
	response, ok := future.Response().(T)
	if !ok {
		panic(fmt.Sprintf("invariant: FSM.Apply returns %T, got %T", zero, future.Response()))
	}
	return response, nil
}

// raftError maps Raft's reasons for "not here, not now" to ErrNotLeader.
func raftError(err error) error {
	for _, e := range []error{raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress, raft.ErrRaftShutdown, raft.ErrEnqueueTimeout, raft.ErrAbortedByRestore} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		}
	}
	return fmt.Errorf("%w: commit: %w", ErrNotLeader, err)
}

func (c *committer) refuseRest() {
	for {
		select {
		case p := <-c.waiting:
			p.done <- outcome{err: ErrNotLeader}
		default:
			return
		}
	}
}
