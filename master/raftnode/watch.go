package raftnode

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// watchLeader makes Raft notice a lost leader in time, until ctx ends. By itself Raft looks at random moments and takes one to three timeouts, and an
// election can be won only after a majority has noticed.
func (n *Node) watchLeader(ctx context.Context) {
	hurried := false
	timer := time.NewTimer(n.cfg.Election)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		left := n.cfg.Election
		if n.raft.State() != raft.Leader {
			left = n.patience() - time.Since(n.raft.LastContact())
		}
		if lost := left <= 0; lost != hurried {
			hurried = lost
			n.hurry(lost)
		}
		if left <= 0 {
			left = n.cfg.Election / 10 // to see a new leader soon
		}
		timer.Reset(left)
	}
}

// patience is how long this server waits for a sign of life of the leader. The servers give up one after the other, so that the last one needed for a
// majority wins without a rival.
func (n *Node) patience() time.Duration {
	servers, err := n.Servers()
	if err != nil {
		return n.cfg.Election // Raft is ending
	}
	_, leader := n.Leader()
	return n.cfg.Election + time.Duration(rank(servers, n.cfg.ID, leader))*n.cfg.Election/10
}

// rank is the place of id among the voters other than the leader.
func rank(servers []raft.Server, id, leader string) int {
	servers = slices.DeleteFunc(slices.Clone(servers), func(s raft.Server) bool { return s.Suffrage != raft.Voter || string(s.ID) == leader })
	sortServers(servers)
	return slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == id })
}

// hurry halves Raft's timeouts while no leader is heard, which makes it look at once, and makes a further round of votes come soon. A half is also what a
// leader waits for its followers.
func (n *Node) hurry(on bool) {
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout = n.cfg.Election
	if on {
		c.HeartbeatTimeout = n.cfg.Election / 2
	}
	c.ElectionTimeout = c.HeartbeatTimeout
	if err := n.raft.ReloadConfig(c); err != nil {
		n.cfg.Logger.Error("invariant: both timeouts are valid", "component", "raft", "err", err)
	}
}
