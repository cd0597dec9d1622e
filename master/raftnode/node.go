package raftnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/wavry/fleet/master/state"
)

// Config says how one Raft server runs.
type Config struct {
	ID string
	// Dir is the data directory; empty keeps everything in memory, for one server only.
	Dir string
	// Stream carries Raft between servers; nil: one server, which nobody can speak Raft with.
	Stream raft.StreamLayer
	// Advertise is this server's address in the configuration of the cluster.
	Advertise string
	// Election is the heartbeat timeout; the leader's lease, and both timeouts while there is no leader, are half of it.
	Election time.Duration
	// SnapshotThreshold is the number of entries after which a snapshot is taken; 0: Raft's default (8192).
	SnapshotThreshold uint64
	// SegmentSize is the size of the log's files in bytes; 0: 64 MiB.
	SegmentSize int
	// Observe is called after each applied entry on Raft's goroutine and must not block.
	Observe func(events []state.Event, restored bool)
	// Now is the clock of proposals; nil: time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Node is one running Raft server.
type Node struct {
	cfg       Config
	raft      *raft.Raft
	fsm       *FSM
	stores    *stores
	transport raft.Transport
	commit    *committer
	leader    chan bool

	failure chan error // the first storage failure
	once    sync.Once
}

// Open starts Raft. The caller runs Run and then Close, in any case.
func Open(cfg Config) (*Node, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	n := &Node{cfg: cfg, fsm: newFSM(cfg.Observe), leader: make(chan bool, 16), failure: make(chan error, 1)}
	log := hcLogger(cfg.Logger)
	var err error
	if n.stores, err = openStores(cfg.Dir, cfg.SegmentSize, log, n.failed); err != nil {
		return nil, err
	}
	n.transport = newTransport(cfg, log)
	n.raft, err = raft.NewRaft(n.raftConfig(log), n.fsm, n.stores.logs, n.stores.stable, n.stores.snapshots, n.transport)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), n.closeTransport(), n.stores.closer.Close())
	}
	n.commit = newCommitter(n.raft, cfg.Now)
	return n, nil
}

func newTransport(cfg Config, log hclog.Logger) raft.Transport {
	if cfg.Stream == nil {
		_, transport := raft.NewInmemTransport(raft.ServerAddress(cfg.Advertise))
		return transport
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: cfg.Stream, MaxPool: transportPool, Timeout: transportTimeout, Logger: log.Named("transport"),
	})
}

func (n *Node) raftConfig(log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.ID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = n.cfg.Election, n.cfg.Election, n.cfg.Election/2
	c.CommitTimeout = min(50*time.Millisecond, n.cfg.Election/10)
	c.MaxAppendEntries = 128
	c.BatchApplyCh = true
	c.NotifyCh = n.leader
	c.NoLegacyTelemetry = true
	c.Logger = log
	if n.cfg.SnapshotThreshold > 0 {
		c.SnapshotThreshold = n.cfg.SnapshotThreshold
		c.SnapshotInterval = 5 * time.Second
		c.TrailingLogs = n.cfg.SnapshotThreshold
	}
	return c
}

// failed keeps the first failure for Run.
func (n *Node) failed(err error) {
	n.once.Do(func() { n.failure <- err })
}

// Run commits until ctx ends or the storage fails; then the error says why the server cannot go on.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var others sync.WaitGroup // end with ctx, which ends with Run
	others.Go(func() {
		select {
		case err := <-n.failure:
			cancel(err)
		case <-ctx.Done():
		}
	})
	others.Go(func() { n.watchLeader(ctx) })
	n.commit.run(ctx)
	cancel(nil)
	others.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, ErrStorage) {
		return cause
	}
	return nil
}

// Close stops Raft, gives up its transport and closes the stores.
func (n *Node) Close() error {
	err := n.raft.Shutdown().Error()
	return errors.Join(err, n.closeTransport(), n.stores.closer.Close())
}

func (n *Node) closeTransport() error {
	if network, ok := n.transport.(*raft.NetworkTransport); ok {
		network.CloseStreams() // the idle ones, which Close leaves open
	}
	if closer, ok := n.transport.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// Propose commits one command and returns its result. ErrNotLeader leaves open whether it took effect; commands are safe to repeat.
func (n *Node) Propose(ctx context.Context, command state.Command) (state.Result, error) {
	results, err := n.commit.propose(ctx, []state.Command{command})
	if err != nil {
		return state.Result{}, err
	}
	return results[0], nil
}

// State is the replicated state with its lock.
func (n *Node) State() *FSM { return n.fsm }

// Raft is the Raft server itself, for autopilot and status.
func (n *Node) Raft() *raft.Raft { return n.raft }

// Leadership reports true when this server became leader and false when it lost that.
func (n *Node) Leadership() <-chan bool { return n.leader }

// IsLeader reports whether this server leads, as far as it knows.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// Leader is the address and id of the leader this server knows, empty when none.
func (n *Node) Leader() (address, id string) {
	a, i := n.raft.LeaderWithID()
	return string(a), string(i)
}

// Configured reports whether this server was ever part of a cluster.
func (n *Node) Configured() (bool, error) {
	return raft.HasExistingState(n.stores.logs, n.stores.stable, n.stores.snapshots)
}

// Bootstrap makes the servers (id to address) the first configuration. Every server of it may do so, with the same servers.
func (n *Node) Bootstrap(servers map[string]string) error {
	var c raft.Configuration
	for id, address := range servers {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(address)})
	}
	sortServers(c.Servers)
	if err := n.raft.BootstrapCluster(c).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap cluster: %w", err)
	}
	return nil
}

// Barrier waits until everything committed so far is applied here.
func (n *Node) Barrier(timeout time.Duration) error {
	if err := n.raft.Barrier(timeout).Error(); err != nil {
		return raftError(err)
	}
	return nil
}

// Servers is the configuration of the cluster.
func (n *Node) Servers() ([]raft.Server, error) {
	future := n.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read cluster configuration: %w", err)
	}
	return future.Configuration().Servers, nil
}

// Save takes a snapshot and opens it.
func (n *Node) Save() (*raft.SnapshotMeta, io.ReadCloser, error) {
	future := n.raft.Snapshot()
	if err := future.Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil, nil, fmt.Errorf("take snapshot: %w", err)
	} else if err == nil {
		return future.Open()
	}
	list, err := n.stores.snapshots.List()
	if err != nil || len(list) == 0 {
		return nil, nil, fmt.Errorf("find the latest snapshot: %w", errors.Join(err, raft.ErrNothingNewToSnapshot))
	}
	return n.stores.snapshots.Open(list[0].ID)
}

// Restore replaces the state of the whole cluster.
func (n *Node) Restore(meta *raft.SnapshotMeta, r io.Reader, timeout time.Duration) error {
	if err := n.raft.Restore(meta, r, timeout); err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	return nil
}
