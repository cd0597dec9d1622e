// Package state is the replicated state of the fleet and the commands that change it: relays, hosts, sessions, leases, signing keys, bans and the
// audit. It is pure: no Raft, network, clock, random number or goroutine. Time and ids come in as arguments of commands, so the same log gives
// the same state and the same snapshot bytes on every server.
//
// The master's Raft layer calls Apply with each log entry and reads through the query methods. A State is not safe for concurrent use: the caller
// holds a lock, and records that queries return are immutable (a change replaces the record), so they may be kept after the lock is gone.
package state
