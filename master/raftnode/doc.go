// Package raftnode runs one Raft server around the replicated state: stores, transport, group commit of commands, snapshots. It knows nothing of
// leases; the master proposes commands and reads the state under its lock.
package raftnode
