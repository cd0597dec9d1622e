package relaypath

import "time"

const (
	// settle is how long QUIC must have a connection at a new address before the leg moves there. A packet that somebody copied and
	// brought first from elsewhere is followed by the viewer's own, over the leg, by then: the two ways differ by less.
	settle = 50 * time.Millisecond

	// hold is how long no connection moves after a packet came both from a candidate and over the leg, or from two candidates:
	// somebody copies. A viewer's own packets come from one place.
	hold = time.Second

	// suspense is how long what a candidate brought is compared with what comes over the leg.
	suspense = time.Second

	// recentDatagrams is how many of them: a candidate may bring 64 per second.
	recentDatagrams = 64

	// maxPaths bounds the candidates that are remembered; the relay offers at most 128 at a time. The one that was heard longest ago goes.
	maxPaths = 256

	// maxWaiting bounds the datagrams for a candidate that wait until it has sent enough: a server's first flight. A full queue drops the newest.
	maxWaiting = 16

	// probes is how much a candidate may be sent before it has sent as much: QUIC validates a path with datagrams of 1200 bytes, and
	// that may take two. The relay lets through two a second per circuit.
	probes = 2 * 1252

	// queue is how many packets of one circuit wait to be read; a full one drops the newest, as a socket does.
	queue = 512
)
