package portal

import "time"

const (
	// maxSignals between the bus and their reader; a session sends a handful in its life.
	maxSignals = 64
	// watchEvery and watchTimeout together find a service that stopped answering within two seconds.
	watchEvery   = 800 * time.Millisecond
	watchTimeout = 1 * time.Second
	// wedgedFor a service that does not answer may come back; after this long the capture is over.
	wedgedFor = 12 * time.Second
	// DialogTimeout is how long a portal request may take before we conclude that it shows a dialog; without one the slowest seen
	// took 0.7 s. It leaves time for the next method within the time that opening one may take.
	DialogTimeout = 7 * time.Second
	// notifyTimeout is how long an input event waits for the one before; a portal that hangs is found by the watch meanwhile.
	notifyTimeout = 250 * time.Millisecond
	// maxToken is far above a UUID.
	maxToken = 256
)
