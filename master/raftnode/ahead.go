package raftnode

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// aheadLog lets a leader send commands to its followers while its own disk is still writing them, which saves each command the time of one sync. Raft
// allows that (Ongaro's dissertation, 10.2.1), but the library takes an entry for written once StoreLogs has returned. So these hold:
//
//   - Nothing is committed before it is on the leader's disk. With two voters or more the leader's word alone commits nothing, and what a follower answers
//     is kept from Raft until the disk has caught up (gatedTransport). With one voter, and for anything but commands, StoreLogs waits for the disk.
//   - Who leads no more vouches for nothing that is not on its disk: for everybody but the leader who sends it, the log waits.
//   - After a failed write the log takes nothing, and the server ends (watchedStore, Node.Run).
type aheadLog struct {
	*raft.LogCache
	raft   atomic.Pointer[raft.Raft] // nil while Raft starts
	latest atomic.Pointer[write]     // nil: none yet
}

func newAheadLog(store raft.LogStore) (*aheadLog, error) {
	cache, err := raft.NewLogCache(logCache, store)
	if err != nil {
		return nil, fmt.Errorf("make log cache: %w", err)
	}
	return &aheadLog{LogCache: cache}, nil
}

// write is an append that StoreLogs did not wait for.
type write struct {
	logs []*raft.Log
	done chan struct{}
	err  error // valid once done is closed
}

func (w *write) wait() error {
	if w == nil {
		return nil
	}
	<-w.done
	return w.err
}

func (w *write) running() bool {
	if w == nil {
		return false
	}
	select {
	case <-w.done:
		return false
	default:
		return true
	}
}

// StoreLogs implements raft.LogStore. There is one write at a time.
func (l *aheadLog) StoreLogs(logs []*raft.Log) error {
	if err := l.latest.Load().wait(); err != nil {
		return err
	}
	if !l.mayRunAhead(logs) {
		return l.LogCache.StoreLogs(logs)
	}
	w := &write{logs: logs, done: make(chan struct{})}
	l.latest.Store(w)
	go func() {
		defer close(w.done)
		runtime.Gosched() // those who send go first: a follower that lacks the entry when the leader dies costs a round of votes
		w.err = l.LogCache.StoreLogs(logs)
	}()
	return nil
}

// StoreLog implements raft.LogStore.
func (l *aheadLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// mayRunAhead reports whether nothing can be committed without a follower's answer.
func (l *aheadLog) mayRunAhead(logs []*raft.Log) bool {
	if !l.leads() {
		return false
	}
	for _, log := range logs {
		if log.Type != raft.LogCommand {
			return false // a change of the servers may leave one voter
		}
	}
	voters := 0
	for _, server := range l.raft.Load().GetConfiguration().Configuration().Servers {
		if server.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters > 1
}

func (l *aheadLog) leads() bool {
	r := l.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// written waits until the entries up to index are on the disk.
func (l *aheadLog) written(index uint64) error {
	w := l.latest.Load()
	if w == nil || index < w.logs[0].Index {
		return nil
	}
	return w.wait()
}

// vouch waits until what a follower has taken is on this server's disk as well.
func (l *aheadLog) vouch(request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	n := len(request.Entries)
	if n == 0 || !response.Success {
		return nil
	}
	return l.written(request.Entries[n-1].Index)
}

// GetLog implements raft.LogStore. The leader gets what is still being written, in order to send it. What could not be written is never
// ErrLogNotFound: Raft would send its snapshot to followers that lack nothing.
func (l *aheadLog) GetLog(index uint64, log *raft.Log) error {
	w := l.latest.Load()
	if w == nil || index < w.logs[0].Index {
		return l.LogCache.GetLog(index, log)
	}
	running, k := w.running(), index-w.logs[0].Index
	if !running || !l.leads() || k >= uint64(len(w.logs)) {
		if err := w.wait(); err != nil {
			return err
		}
	}
	if running && k < uint64(len(w.logs)) {
		*log = *w.logs[k]
		return nil
	}
	return l.LogCache.GetLog(index, log)
}

// LastIndex implements raft.LogStore.
func (l *aheadLog) LastIndex() (uint64, error) {
	if err := l.latest.Load().wait(); err != nil {
		return 0, err
	}
	return l.LogCache.LastIndex()
}

// DeleteRange implements raft.LogStore.
func (l *aheadLog) DeleteRange(first, last uint64) error {
	if err := l.latest.Load().wait(); err != nil {
		return err
	}
	return l.LogCache.DeleteRange(first, last)
}

// Close waits for the last write; the stores below are closed after it.
func (l *aheadLog) Close() error { return l.latest.Load().wait() }

// gatedTransport lets Raft know that a follower has entries once they are on this server's disk as well.
type gatedTransport struct {
	*raft.NetworkTransport
	log *aheadLog
}

// AppendEntries implements raft.Transport.
func (t *gatedTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	if err := t.NetworkTransport.AppendEntries(id, target, request, response); err != nil {
		return err
	}
	return t.log.vouch(request, response)
}

// AppendEntriesPipeline implements raft.Transport. Without a pipeline a quarter of the failovers took 170 ms longer: presumably the slower follower lacked
// the latest entry when the leader died, and lost the first vote.
func (t *gatedTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &gatedPipeline{AppendPipeline: inner, log: t.log, answers: make(chan raft.AppendFuture), done: make(chan struct{})}
	go p.run() // until Close
	return p, nil
}

// gatedPipeline is the gate of a pipeline.
type gatedPipeline struct {
	raft.AppendPipeline
	log     *aheadLog
	answers chan raft.AppendFuture
	done    chan struct{}
}

func (p *gatedPipeline) run() {
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			if p.log.vouch(answer.Request(), answer.Response()) != nil {
				_ = p.AppendPipeline.Close() // else Raft's goroutines wait for room in it; the server ends
				return
			}
			select {
			case p.answers <- answer:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *gatedPipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline; Raft calls it once.
func (p *gatedPipeline) Close() error {
	close(p.done)
	return p.AppendPipeline.Close()
}
