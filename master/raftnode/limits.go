package raftnode

import "time"

const (
	// maxBatch is how many commands go into one log entry: 256 issues of a lease are about 60 kB, one append and one fsync.
	maxBatch = 256
	// maxOutstanding is how many entries may be on their way at once. While one is, the next batch grows; more at once make smaller batches, which
	// costs more processor time than the waiting saves. Measured with master/bench on two cores: 1 gives a third more leases per second than 2.
	maxOutstanding = 1
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
