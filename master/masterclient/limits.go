package masterclient

import "time"

const (
	// defaultRetryFor is how long a unary call looks for a leader: an election takes under 3 s, twice that covers a bad one.
	defaultRetryFor = 6 * time.Second
	// attemptTimeout bounds one attempt of a call that only looks or allocates, so that a frozen server costs little.
	attemptTimeout = 12 * time.Second
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
	// dialTimeout bounds the connection to a server, and its handshake.
	dialTimeout = 3 * time.Second
	// pingAfter and pingTimeout notice a server that vanished, or froze, without closing its connections: two seconds leave room for an election
	// within the three that a person may have to wait.
	pingAfter   = time.Second
	pingTimeout = time.Second
)
