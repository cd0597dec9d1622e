package masterclient

import "time"

const (
	// defaultRetryFor is how long a unary call looks for a leader: an election takes under 3 s, twice that covers a bad one.
	defaultRetryFor = 6 * time.Second
	// attemptTimeout bounds one attempt of a call that only looks or allocates, so that a frozen server costs little.
	attemptTimeout = 12 * time.Second
	// directTimeout bounds a call over the direct connection, which has no pings: most answers take a millisecond, and a slow one is found by the repetition.
	directTimeout = 2 * time.Second
	// directBuffer takes the lease calls of a few dozen callers in one read or write.
	directBuffer = 32 << 10
	// idleTimeout is how long an unused connection is kept, less than the server does.
	idleTimeout = time.Minute
	// firstBackoff and maxBackoff bound the pause between attempts and between links; jitter keeps a fleet from returning in step.
	firstBackoff = 25 * time.Millisecond
	maxBackoff   = time.Second
	// maxRetryPause bounds the pause between attempts of one call: an election takes well under a second, and nobody should sleep past its end.
	maxRetryPause = 150 * time.Millisecond
	// linkQueue is how many reports wait for a slow link; then Send refuses. A host with 1000 sessions renews and reports less per second.
	linkQueue = 4096
	// farewell is how long a link that ends waits for the master to have taken the last reports.
	farewell = time.Second
	// pingAfter and pingTimeout notice a server that vanished without closing its connections.
	pingAfter   = 2 * time.Second
	pingTimeout = 3 * time.Second
)
