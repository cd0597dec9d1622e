package masterclient

import "errors"

var (
	// ErrNoAddress is returned while no address of a master is known.
	ErrNoAddress = errors.New("no address of a master is known")
	// ErrNotLinked is returned by Send while the link is down; the next hello tells the master everything that matters.
	ErrNotLinked = errors.New("no link to the master")
	// ErrSlowLink is returned by Send when the link's queue is full; the caller drops or repeats telemetry, and repeats what must arrive.
	ErrSlowLink = errors.New("link to the master is too slow")
)
