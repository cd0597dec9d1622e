package standalone

import "time"

const (
	// endTimeout is how long a page waits for its last session to be gone: stopping plugins takes a fraction of it.
	endTimeout = 3 * time.Second
	// endPoll is how often it looks.
	endPoll = 20 * time.Millisecond
	// maxBody of a request: the largest is a sign-in.
	maxBody = 4 << 10
	// maxMessage on the signaling WebSocket.
	maxMessage = 16 << 10
	// maxEvents waiting for one page; more are dropped, and the page resumes.
	maxEvents = 16
	// maxLogins at once; the oldest is signed out.
	maxLogins = 256
	// linkLife of an unused sign-in link.
	linkLife = time.Hour
	// loginLife of a browser that signed in.
	loginLife = 12 * time.Hour

	maxHeaderBytes  = 16 << 10
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 2 * time.Second
	writeTimeout    = 5 * time.Second
)
