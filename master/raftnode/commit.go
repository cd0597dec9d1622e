package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/state"
)

// proposal is one command waiting for its result.
type proposal struct {
	command state.Command
	done    chan outcome // buffered
}

type outcome struct {
	result state.Result
	err    error
}

// outstanding is one log entry on its way.
type outstanding struct {
	future    raft.ApplyFuture
	proposals []proposal
}

// committer puts many commands into one log entry (group commit).
type committer struct {
	raft    *raft.Raft
	now     func() time.Time
	waiting chan proposal
	flying  chan outstanding
	slots   chan struct{} // one per entry on its way
}

func newCommitter(r *raft.Raft, now func() time.Time) *committer {
	return &committer{
		raft: r, now: now,
		waiting: make(chan proposal, maxWaiting), flying: make(chan outstanding, maxOutstanding),
		slots: make(chan struct{}, maxOutstanding),
	}
}

// propose waits until the command was applied. When ctx ends first the command may still be applied.
func (c *committer) propose(ctx context.Context, command state.Command) (state.Result, error) {
	p := proposal{command: command, done: make(chan outcome, 1)}
	select {
	case c.waiting <- p:
	default:
		return state.Result{}, ErrBusy
	}
	select {
	case o := <-p.done:
		return o.result, o.err
	case <-ctx.Done():
		return state.Result{}, ctx.Err()
	}
}

// run batches until ctx ends and answers everything that is queued then.
func (c *committer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(c.flying)
		c.batch(ctx)
		return nil
	})
	group.Go(func() error {
		for o := range c.flying {
			deliver(o)
			<-c.slots
		}
		return nil
	})
	err := group.Wait()
	c.refuseRest()
	return err
}

func (c *committer) batch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-c.waiting:
			c.slots <- struct{}{} // blocks while enough entries are on their way; meanwhile the next batch grows
			c.flying <- c.submit(c.gather(first))
		}
	}
}

func (c *committer) gather(first proposal) []proposal {
	batch := append(make([]proposal, 0, min(maxBatch, len(c.waiting)+1)), first)
	for len(batch) < maxBatch {
		select {
		case p := <-c.waiting:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

func (c *committer) submit(batch []proposal) outstanding {
	commands := make([]state.Command, len(batch))
	for i, p := range batch {
		commands[i] = p.command
	}
	entry := state.AppendEntry(make([]byte, 0, 256*len(batch)), state.At(c.now()), commands...)
	return outstanding{future: c.raft.Apply(entry, applyTimeout), proposals: batch}
}

func deliver(o outstanding) {
	results, err := await[[]state.Result](o.future)
	for i, p := range o.proposals {
		if err != nil {
			p.done <- outcome{err: err}
			continue
		}
		p.done <- outcome{result: results[i]}
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
