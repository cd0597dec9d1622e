package master

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterclient"
	"github.com/wavry/fleet/master/raftnode"
	"github.com/wavry/fleet/master/state"
)

const (
	// deadAfter is how long a server may be silent before it may be removed, if enough others remain. Restarts and upgrades take less.
	deadAfter = 2 * time.Minute
	// stableAfter is how long a new server must be healthy before it votes.
	stableAfter = 5 * time.Second
	// minQuorum is the size below which dead servers are never removed.
	minQuorum = 3
	// statusTimeout bounds the question to one server.
	statusTimeout = time.Second
)

// pilot makes stable new servers voters and removes dead ones while enough remain. It only works at the leader.
type pilot struct {
	m *Master

	mu   sync.Mutex // guards the following
	seen map[string]serverSeen
	left map[string]bool
}

// serverSeen is the last answer of a server.
type serverSeen struct {
	at     time.Time
	status *masterapi.ServerStatusResponse
}

func newPilot(m *Master) *pilot {
	return &pilot{m: m, seen: map[string]serverSeen{}, left: map[string]bool{}}
}

// autopilot runs while this server leads.
func (l *leader) autopilot(ctx context.Context) error {
	l.m.pilot.begin()
	a := autopilot.New(l.m.node.Raft(), l.m.pilot,
		autopilot.WithLogger(raftnode.Logger(l.log).Named("autopilot")), autopilot.WithUpdateInterval(2*time.Second), autopilot.WithReconcileInterval(5*time.Second))
	a.Start(ctx)
	<-ctx.Done()
	<-a.Stop()
	return nil
}

// begin forgets what was seen in an earlier leadership: everybody counts as alive until deadAfter has passed.
func (p *pilot) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen, p.left = map[string]serverSeen{}, map[string]bool{}
}

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers: true, LastContactThreshold: 2 * time.Second, MaxTrailingLogs: 10000, MinQuorum: minQuorum, ServerStabilizationTime: stableAfter,
	}
}

// NotifyState implements autopilot.ApplicationIntegration; ListPeers shows the same from the servers' own answers.
func (p *pilot) NotifyState(*autopilot.State) {}

// FetchServerStats implements autopilot.ApplicationIntegration.
func (p *pilot) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var mu sync.Mutex
	var wait sync.WaitGroup
	stats := map[raft.ServerID]*autopilot.ServerStats{}
	for id, server := range servers {
		wait.Go(func() {
			status, err := p.ask(ctx, string(id), string(server.Address))
			if err != nil {
				return // no stats: unhealthy
			}
			mu.Lock()
			defer mu.Unlock()
			stats[id] = &autopilot.ServerStats{
				LastContact: time.Duration(status.GetLastContactMs()) * time.Millisecond, LastTerm: status.GetLastTerm(), LastIndex: status.GetLastIndex(),
			}
		})
	}
	wait.Wait()
	return stats
}

func (p *pilot) ask(ctx context.Context, id, address string) (*masterapi.ServerStatusResponse, error) {
	if id == p.m.cfg.ID {
		return p.m.status()
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	status, err := p.m.peers.Operator().ServerStatus(masterclient.At(ctx, address), &masterapi.ServerStatusRequest{})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[id] = serverSeen{at: time.Now(), status: status}
	delete(p.left, id)
	return status, nil
}

// KnownServers implements autopilot.ApplicationIntegration: the servers of the configuration, failed when silent for too long.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	servers, err := p.m.node.Servers()
	if err != nil {
		return nil
	}
	known := map[raft.ServerID]*autopilot.Server{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range servers {
		id := string(s.ID)
		if p.left[id] {
			continue
		}
		seen, asked := p.seen[id]
		if !asked {
			seen.at = time.Now()
			p.seen[id] = seen
		}
		status := autopilot.NodeAlive
		if id != p.m.cfg.ID && time.Since(seen.at) > deadAfter {
			status = autopilot.NodeFailed
		}
		known[s.ID] = &autopilot.Server{
			ID: s.ID, Name: id, Address: s.Address, NodeStatus: status, Version: seen.status.GetVersion(), RaftVersion: 3, IsLeader: id == p.m.cfg.ID,
		}
	}
	return known
}

// RemoveFailedServer implements autopilot.ApplicationIntegration: a server that is not known any more is removed by the next round.
func (p *pilot) RemoveFailedServer(s *autopilot.Server) {
	p.m.log.Warn("removing a dead server", "peer", string(s.ID), "cause", "silent for too long")
	p.mu.Lock()
	p.left[string(s.ID)] = true
	p.mu.Unlock()
	if l := p.m.leader.Load(); l != nil {
		l.later(&state.Note{Actor: state.MasterActor, Action: "server remove", Subject: string(s.ID), Detail: "dead"})
	}
}

// describe adds to a peer what it said about itself.
func (p *pilot) describe(peer *masterapi.Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, ok := p.seen[peer.GetServerId()]
	if !ok || seen.status == nil {
		return
	}
	peer.LastIndex, peer.LastContactMs, peer.Version = seen.status.GetLastIndex(), seen.status.GetLastContactMs(), seen.status.GetVersion()
	peer.Healthy = time.Since(seen.at) < 5*time.Second
}
