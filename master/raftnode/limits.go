package raftnode

import "time"

const (
	// maxBatch is how many commands go into one log entry: 256 issues of a lease are about 60 kB, one append and one fsync.
	maxBatch = 256
	// maxOutstanding is how many entries may be on their way at once. One would leave the disk idle while followers answer; many would make small
	// batches. Measured with master/bench: 2 and 3 are best, 4 and more lose rate.
	maxOutstanding = 2
	// maxWaiting is how many commands may wait for a batch; then ErrBusy.
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
