package raftnode

import "time"

const (
	// maxBatch is how many commands make a log entry full: 256 issues of a lease are about 60 kB, one append and one fsync. The last proposal is
	// taken whole, so an entry may have twice as many, less one.
	maxBatch = 256
	// maxWaiting is how many proposals may wait for a batch; then ErrBusy.
	maxWaiting = 8192
	// applyTimeout bounds the wait for Raft's own queue.
	applyTimeout = 5 * time.Second
	// snapshotsKept is the number of snapshots on disk: the newest one and one to fall back to.
	snapshotsKept = 2
	// transportTimeout is the I/O deadline between servers.
	transportTimeout = 5 * time.Second
	// transportPool is the number of idle connections kept per server.
	transportPool = 3
	// logCache is the number of entries kept in memory, so that followers are fed without reading the log.
	logCache = 512
)
