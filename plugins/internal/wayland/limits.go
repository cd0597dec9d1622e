package wayland

import "time"

const (
	// maxRequest is the largest request: libwayland's receive buffer is 4 KiB and it drops clients that exceed it.
	maxRequest = 4096
	// flushAt is when queued requests are sent without being asked to, to bound the queue.
	flushAt = 16 << 10
	// readBuffer holds what one read returns; the largest event is 64 KiB.
	readBuffer = 128 << 10
	// maxQueuedFDs received but not yet taken by an event. libwayland sends at most 28 per message.
	maxQueuedFDs = 64
	// maxServerObjects that a compositor may make at once: output heads and their modes; a wall of displays has hundreds.
	maxServerObjects = 16384
	// firstServerID is where the compositor's own object ids begin (Wayland, wire format).
	firstServerID = 0xFF000000
	// writeTimeout is when a compositor that does not read is given up. Its socket buffer (200 KiB) is full then.
	writeTimeout = 1500 * time.Millisecond
)
