package transport

import "time"

const (
	// idleTimeout ends a silent path. A viewer sends feedback every 50 ms and resumes on a new connection, so a dead path may be
	// dropped early; 10 s survive a laptop that changes its network.
	idleTimeout = 10 * time.Second
	// keepAlive keeps NATs open while nothing is shown; the shortest UDP timeouts seen in the field are 30 s.
	keepAlive = 5 * time.Second
	// maxViewerStreams a viewer may have open: control, input, HTTP/3's own, and room for clipboard and files.
	maxViewerStreams = 16
	// receiveWindow bounds what a viewer can make us buffer per stream.
	receiveWindow = 1 << 20
	// maxHeaderBytes of a connect request: a token of at most 1 kB and what browsers add.
	maxHeaderBytes = 8 << 10
	// maxControlPacket is the largest datagram a relay sends to a host that is not media; longer ones are cut and refused.
	maxControlPacket = 1500
	// reorderTimeout for streams that arrive before their session.
	reorderTimeout = 2 * time.Second
)
