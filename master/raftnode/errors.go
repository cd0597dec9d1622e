package raftnode

import "errors"

var (
	// ErrNotLeader is returned when this server cannot commit now; the caller retries at the leader. The command may or may not take effect.
	ErrNotLeader = errors.New("not the leader")
	// ErrBusy is returned when too many commands wait; nothing was proposed.
	ErrBusy = errors.New("too many commands waiting")
	// ErrStorage is the cause when the log cannot be written (disk full, I/O error). The server stops: one that cannot write its log can neither lead
	// nor vote.
	ErrStorage = errors.New("raft log cannot be written")
)
