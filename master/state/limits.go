package state

import "time"

const (
	// RememberFor is how long an ended session and its leases stay readable, and a retry of an admission is recognised.
	RememberFor = 10 * time.Minute
	// maxEnded bounds the ended leases that are remembered, oldest forgotten first: a busy hour of a large fleet.
	maxEnded = 65536
	// maxAudit bounds the audit in memory, oldest forgotten first; ship the log lines for longer.
	maxAudit = 10000
	// maxHistory is how many transitions each relay and host remembers.
	maxHistory = 20
	// maxKeys bounds all keys remembered, dead ones forgotten first: a year of weekly rotations.
	maxKeys = 64
	// maxBatch bounds the commands of one log entry.
	maxBatch = 4096
	// maxSessionLeases bounds the leases of one session, live and remembered: a lecture with a few hundred watchers who reconnect.
	maxSessionLeases = 1024
	// maxList bounds any list inside a record: direct addresses, attributes, codecs.
	maxList = 64
	// maxText bounds any string of a record.
	maxText = 4096
	// blockSize is how much of a snapshot is written and read at once.
	blockSize = 1 << 20
	// maxHint bounds what a snapshot's counts may allocate ahead; larger tables grow as they are read.
	maxHint = 1 << 20
	// maxBlock bounds what a snapshot's block header may claim: one block and one record of the largest size.
	maxBlock = 4 * blockSize
)
