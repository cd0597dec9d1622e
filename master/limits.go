package master

import "time"

const (
	// admitAttempts is how many hosts an admission tries when preparing fails: a second and a third chance, then the person should know.
	admitAttempts = 3
	// allocateAttempts is how often a choice is repeated that lost a race for a slot; each round removes the loser's cause.
	allocateAttempts = 8
	// promiseStep is how long an admission waits for promised slots to be taken or given back before it looks again: a few commits.
	promiseStep = 25 * time.Millisecond
	// admitTimeout bounds one admission: a host that starts a desktop takes a few seconds.
	admitTimeout = 10 * time.Second
	// prepareTimeout bounds one host's preparation, so that a second host fits into admitTimeout.
	prepareTimeout = 6 * time.Second
	// electionPatience is how long admissions wait for hosts to link to a new leader instead of failing.
	electionPatience = 5 * time.Second
	// retrySoon is what callers are told when the cause is a change of leader.
	retrySoon = 250 * time.Millisecond

	// reportInterval is how often hosts and relays report; a link without report for linkTimeout is closed.
	reportInterval = 2 * time.Second
	linkTimeout    = 10 * time.Second
	// linkCommands is how many commands may wait for one machine; a machine that is further behind is cut and comes back with a hello.
	linkCommands = 1024
	// farewellLimit is how long all revoked hosts together have to take the end of what they run, before they are cut.
	farewellLimit = 500 * time.Millisecond
	// youngSession is how long a session may be unknown to its host: its admission is still being prepared.
	youngSession = 15 * time.Second
	// watcherEvents is how many events may wait for one gateway; a slower one is cut and synchronises again.
	watcherEvents = 4096
	// background is how many reports may be written to Raft at once; more make their links wait.
	background = 1024

	// expiryGrace is how long after its expiry a lease is kept: a renewal that is on its way still wins.
	expiryGrace = 2 * time.Second
	// expireBatch is how many leases one command expires: an entry of 50 kB.
	expireBatch = 2000
	// tick is how often the leader looks at its timers.
	tick = 250 * time.Millisecond
	// housekeeping is how often it looks at keys, probation and drains.
	housekeeping = 500 * time.Millisecond

	// moverWidth is how many viewers are moved off relays at once; each costs a host and a browser a handshake.
	moverWidth = 32
	// moveAgain is when a viewer that did not leave a draining relay is moved once more.
	moveAgain = 10 * time.Second
	// relayLost is how long a relay with circuits may be neither healthy nor linked before its viewers are moved: a restart that keeps its
	// sockets takes less.
	relayLost = 1500 * time.Millisecond

	// relaySilent is how long a linked relay may say nothing before its link counts for nothing: two reports and a bit.
	relaySilent = 2*reportInterval + time.Second

	// GCPercent and MemoryLimit are the garbage collector's settings of a process that is a master: a small heap may grow freely, since a
	// master allocates per call; a heap with a million leases is collected before it needs 2 GiB.
	GCPercent   = 400
	MemoryLimit = 1536 << 20

	// shutdownGrace is how long running calls may take when the server stops.
	shutdownGrace = 3 * time.Second
	// joinInterval is how often a server without a cluster looks for one.
	joinInterval = 500 * time.Millisecond
	// restoreTimeout bounds the replacement of the whole state.
	restoreTimeout = time.Minute
	// maxArchive bounds an uploaded snapshot: 4 million leases.
	maxArchive = 2 << 30
)
