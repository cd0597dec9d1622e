package transport

import "time"

const (
	// idleTimeout ends a silent path. A viewer sends feedback every 50 ms and resumes on a new connection, so a dead path may be
	// dropped early; 10 s survive a laptop that changes its network.
	idleTimeout = 10 * time.Second
	// keepAlive keeps NATs open while nothing is shown; the shortest UDP timeouts seen in the field are 30 s.
	keepAlive = 5 * time.Second
	// packetSize is that of the first packets: what every QUIC path carries (RFC 9000, section 14.1). Discovery finds more.
	packetSize = 1200
	// unprovenBurst and unprovenRate (per second) are how many handshakes may begin without proof of the address, which costs a round
	// trip: all viewers of a host that come back together, then one and its retries each quarter of a second. maxUnproven of them may
	// be open at once. Beyond either, the address is proved first.
	unprovenBurst = 32
	unprovenRate  = 4
	maxUnproven   = 32
	// maxProven handshakes with a proven address may be open, maxProvenPerNetwork from one network: some 50 kB each, for the 10 s that
	// QUIC waits at most and sessionWait. Beyond it they are refused, and browsers try again.
	maxProven           = 256
	maxProvenPerNetwork = 32
	// sessionWait is how long a connection may be without a session: a browser asks for one as soon as it has shaken hands.
	sessionWait = 5 * time.Second
	// connectionIDLen of direct viewers' connections: nobody guesses 8 bytes.
	connectionIDLen = 8
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
