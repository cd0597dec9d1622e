package raftnode

import (
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// disk is a log store whose writes can be held up.
type disk struct {
	*raft.InmemStore
	mu  sync.Mutex // held: nothing is written
	err error      // of every write, if not nil
}

// StoreLogs implements raft.LogStore.
func (d *disk) StoreLogs(logs []*raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	return d.InmemStore.StoreLogs(logs)
}

// hang holds up writes until the returned function is called, at the latest until the test ends.
func (d *disk) hang(t *testing.T) (goOn func()) {
	d.mu.Lock()
	goOn = sync.OnceFunc(d.mu.Unlock)
	t.Cleanup(goOn)
	return goOn
}

// member is one Raft server as Open makes it, but for its stores and its state.
type member struct {
	*raft.Raft
	disk *disk
	fsm  *raft.MockFSM
}

func (m *member) has(entry string) bool {
	return slices.ContainsFunc(m.fsm.Logs(), func(log []byte) bool { return string(log) == entry })
}

func startMembers(t *testing.T, n int) []*member {
	t.Helper()
	var members []*member
	var servers raft.Configuration
	for i := range n {
		m := &member{disk: &disk{InmemStore: raft.NewInmemStore()}, fsm: &raft.MockFSM{}}
		log, err := newAheadLog(m.disk)
		if err != nil {
			t.Fatal(err)
		}
		network, err := raft.NewTCPTransport("127.0.0.1:0", nil, transportPool, transportTimeout, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		cfg := raft.DefaultConfig()
		cfg.LocalID, cfg.Logger = raft.ServerID(rune('a'+i)), hclog.NewNullLogger()
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout, cfg.CommitTimeout = time.Second, time.Second, time.Second, 5*time.Millisecond
		m.Raft, err = raft.NewRaft(cfg, m.fsm, log, m.disk.InmemStore, raft.NewInmemSnapshotStore(), &gatedTransport{network, log})
		if err != nil {
			t.Fatal(err)
		}
		log.raft.Store(m.Raft)
		t.Cleanup(func() {
			if err := errors.Join(m.Shutdown().Error(), network.Close()); err != nil {
				t.Error(err)
			}
			if err := log.Close(); err != nil && m.disk.err == nil {
				t.Error(err)
			}
		})
		members, servers.Servers = append(members, m), append(servers.Servers, raft.Server{ID: cfg.LocalID, Address: network.LocalAddr()})
	}
	if err := members[0].BootstrapCluster(servers).Error(); err != nil {
		t.Fatal(err)
	}
	return members
}

// leaderFirst waits for a leader that has committed, and puts it first.
func leaderFirst(t *testing.T, members []*member) {
	t.Helper()
	eventually(t, "a leader", func() bool {
		slices.SortFunc(members, func(a, b *member) int { return int(b.State()) - int(a.State()) })
		return members[0].State() == raft.Leader && members[0].Barrier(time.Second).Error() == nil
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, ticker := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal(what + ": not in time")
		}
	}
}

// apply proposes and reports how it ended.
func apply(m *member, entry string) <-chan error {
	done := make(chan error, 1)
	future := m.Apply([]byte(entry), 0)
	go func() { done <- future.Error() }()
	return done
}

// stays fails when the entry is committed although nothing may commit it.
func stays(t *testing.T, done <-chan error, members []*member, entry string) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("answered (%v) before the leader's disk had it", err)
	case <-time.After(300 * time.Millisecond):
	}
	for _, m := range members {
		if m.has(entry) {
			t.Errorf("applied before the leader's disk had it")
		}
	}
}

// While the leader's disk writes, the followers get the entry, but nothing is committed.
func TestNothingIsCommittedBeforeTheLeadersDiskHasIt(t *testing.T) {
	members := startMembers(t, 3)
	leaderFirst(t, members)
	lead, committed := members[0], members[0].CommitIndex()
	goOn := lead.disk.hang(t)
	done := apply(lead, "x")
	eventually(t, "followers have the entry", func() bool {
		for _, m := range members[1:] {
			if last, err := m.disk.LastIndex(); err != nil || last <= committed {
				return false
			}
		}
		return true
	})
	stays(t, done, members, "x")
	goOn()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, m := range members {
		eventually(t, "applied everywhere", func() bool { return m.has("x") })
	}
}

// A lone voter has nobody who could vouch for its entry.
func TestALoneVoterWaitsForItsDisk(t *testing.T) {
	members := startMembers(t, 1)
	leaderFirst(t, members)
	goOn := members[0].disk.hang(t)
	done := apply(members[0], "x")
	stays(t, done, members, "x")
	goOn()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A leader whose disk hangs follows another one, and catches up when the disk goes on.
func TestALeaderIsReplacedWhileItsDiskHangs(t *testing.T) {
	members := startMembers(t, 3)
	leaderFirst(t, members)
	old := members[0]
	goOn := old.disk.hang(t)
	done := apply(old, "x")
	patient := old.ReloadableConfig()
	patient.HeartbeatTimeout, patient.ElectionTimeout = time.Hour, time.Hour // the others shall win
	if err := old.ReloadConfig(patient); err != nil {
		t.Fatal(err)
	}
	stranger, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Second, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	vote := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("z"), Addr: []byte("z")}, Term: old.CurrentTerm() + 1, LeadershipTransfer: true}
	address, id := old.LeaderWithID()
	if err := stranger.RequestVote(id, address, vote, new(raft.RequestVoteResponse)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("committed without the leader's disk")
	}
	others := members[1:]
	leaderFirst(t, others)
	if err := <-apply(others[0], "y"); err != nil {
		t.Fatal(err)
	}
	goOn()
	for _, m := range members {
		eventually(t, "applied everywhere", func() bool { return m.has("y") })
	}
}

// A write that hangs for long and fails then ends the leader as soon as Raft hears of it: proposals are answered, the others elect one of
// them and keep what they have, and the server can be shut down (by startMembers).
func TestAFailedWriteEndsTheLeader(t *testing.T) {
	members := startMembers(t, 3)
	leaderFirst(t, members)
	lead, others := members[0], members[1:]
	if err := <-apply(lead, "kept"); err != nil {
		t.Fatal(err)
	}
	goOn := lead.disk.hang(t)
	done := apply(lead, "x")
	stays(t, done, members, "x") // for longer than Raft fills its pipeline with empty requests
	lead.disk.err = errors.New("input/output error")
	goOn()
	eventually(t, "the leader steps down", func() bool { return lead.Barrier(0).Error() != nil && lead.State() != raft.Leader })
	if err := <-done; err == nil {
		t.Error("committed without the leader's disk")
	}
	leaderFirst(t, others)
	if err := <-apply(others[0], "y"); err != nil {
		t.Fatal(err)
	}
	for _, m := range others {
		eventually(t, "applied", func() bool { return m.has("y") && m.has("kept") })
	}
}

// A server that does not lead vouches for nothing that is still being written, and for nothing after a write failed.
func TestOnlyALeaderRunsAhead(t *testing.T) {
	fails := errors.New("no space left on device")
	var entry raft.Log
	uses := map[string]func(*aheadLog) error{
		"GetLog":      func(l *aheadLog) error { return l.GetLog(5, &entry) },
		"StoreLog":    func(l *aheadLog) error { return l.StoreLog(&raft.Log{Index: 6}) },
		"LastIndex":   func(l *aheadLog) error { _, err := l.LastIndex(); return err },
		"DeleteRange": func(l *aheadLog) error { return l.DeleteRange(5, 5) },
		"written":     func(l *aheadLog) error { return l.written(5) },
		"Close":       func(l *aheadLog) error { return l.Close() },
	}
	for name, use := range uses {
		synctest.Test(t, func(t *testing.T) {
			l, err := newAheadLog(raft.NewInmemStore())
			if err != nil {
				t.Fatal(err)
			}
			w := &write{logs: []*raft.Log{{Index: 5}}, done: make(chan struct{})}
			l.latest.Store(w)
			if err := l.written(4); err != nil {
				t.Errorf("what was written before: %v", err)
			}
			done := make(chan error, 1)
			go func() { done <- use(l) }()
			synctest.Wait()
			if len(done) > 0 {
				t.Errorf("%s did not wait for the disk", name)
			}
			w.err = fails
			close(w.done)
			if err := <-done; !errors.Is(err, fails) {
				t.Errorf("%s while a write failed: %v", name, err)
			}
			if err := use(l); !errors.Is(err, fails) {
				t.Errorf("%s after a failed write: %v", name, err)
			}
		})
	}
}
