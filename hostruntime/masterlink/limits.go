package masterlink

import "time"

const (
	// loadInterval of load reports, and how often leases are looked at.
	loadInterval = time.Second
	// renewRetry after a failed renewal: half a lease is 150 s, so a leader change costs a few tries at most.
	renewRetry = 5 * time.Second
	// slotTimeout is how long a new session waits for the slot of one that is ending: stopping plugins takes a fraction of it, emptying
	// the desktop and starting it anew a second for sway and three for GNOME. The master gives a host 6 s to prepare.
	slotTimeout = 5 * time.Second
	// slotPoll is how often it looks.
	slotPoll = 20 * time.Millisecond
	// bindTimeout for a relay to answer: a viewer waits for it. Three tries of the client fit.
	bindTimeout = 2 * time.Second
	// legLinger of a circuit whose lease has ended: a goodbye, or the first picture over another path, takes a few round trips.
	legLinger = time.Second
	// relaySilence after which a circuit is given up; its viewer has long asked for another path.
	relaySilence = 10 * time.Second
)
