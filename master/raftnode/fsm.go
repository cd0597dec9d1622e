package raftnode

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/state"
)

// FSM is the replicated state with its lock.
type FSM struct {
	mu      sync.RWMutex // guards the following
	state   *state.State
	applied uint64

	// observe is called after each entry, outside the lock, on Raft's goroutine: it must not block. restored tells that everything may be different.
	observe func(events []state.Event, restored bool)
}

func newFSM(observe func([]state.Event, bool)) *FSM {
	return &FSM{state: state.New(), observe: observe}
}

// Read calls f with the state under the read lock. f must not keep the state; records it returned may be kept.
func (f *FSM) Read(read func(*state.State)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	read(f.state)
}

// Applied is the index of the latest entry that was applied.
func (f *FSM) Applied() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.applied
}

// Apply implements raft.FSM; it returns []state.Result.
func (f *FSM) Apply(entry *raft.Log) any {
	f.mu.Lock()
	results, err := f.state.Apply(entry.Index, entry.Data)
	f.applied = entry.Index
	events := f.state.TakeEvents()
	f.mu.Unlock()
	if err != nil {
		// Going on would make this server's state differ from the others for good.
		panic(fmt.Sprintf("invariant: every committed log entry is known to every server: %v", err))
	}
	if len(events) > 0 {
		f.observe(events, false)
	}
	return results
}

// Snapshot implements raft.FSM.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return &snapshot{f.state.Snapshot()}, nil
}

// Restore implements raft.FSM.
func (f *FSM) Restore(r io.ReadCloser) error {
	fresh, err := state.Read(r)
	if err != nil {
		return fmt.Errorf("restore state: %w", err)
	}
	f.mu.Lock()
	f.state = fresh
	f.mu.Unlock()
	f.observe(nil, true)
	return nil
}

type snapshot struct{ *state.Snapshot }

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.Write(sink); err != nil {
		_ = sink.Cancel() // the write error matters more
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}
