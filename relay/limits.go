package relay

import (
	"time"

	"github.com/wavry/fleet/relay/relaywire"
)

const (
	// maxWorkers bounds the data path's goroutines; more than 64 reuseport sockets per port gain nothing we could measure.
	maxWorkers = 64

	// maxMediaPorts bounds the pool: each port costs one socket per worker.
	maxMediaPorts = 1024

	// batchSize is how many messages one recvmmsg takes. With UDP_GRO each may be 64 kB, so 32 bound a worker's buffers to 2 MiB.
	batchSize = 32

	// messageSize holds the longest UDP payload, which is also the longest run that UDP_GRO hands over.
	messageSize = 1 << 16

	// maxSegments is how many datagrams one segmented send may have: UDP_MAX_SEGMENTS of every kernel since 4.18.
	maxSegments = 64

	// maxRunBytes keeps a segmented send below the 64 kB of an IP packet with its headers.
	maxRunBytes = 65000

	// socketBuffer asks for 20 ms of 1.6 Gbit/s per socket, so that a worker that is descheduled for a moment loses nothing.
	socketBuffer = 4 << 20

	// maxBusyPoll bounds busy_poll: traffic that pauses for longer than a second does not mind being woken for.
	maxBusyPoll = time.Second

	// verifyQueue is how many BINDs wait for a verifier; a full queue drops the newest, counted, and the host asks again.
	verifyQueue = 256

	// cookieAbove is the length of that queue from which strangers must first prove their address with a cookie.
	cookieAbove = verifyQueue / 4

	// cookieRate is the number of BINDs per second from which cookies are demanded although the queue is short: a quarter of what
	// one core verifies.
	cookieRate = 2500

	// cookieLifetime is how long a cookie secret is used; the one before it is still believed (WireGuard's numbers).
	cookieLifetime = 2 * time.Minute

	// sourceRate and sourceBurst limit control packets per source address. A host with 64 circuits sends one BIND per circuit and
	// lease half-life, so 50/s is generous even for many hosts behind one NAT.
	sourceRate  = 50
	sourceBurst = 200

	// sourceBuckets bounds the memory of that limit: addresses share a bucket when their keyed hashes meet.
	sourceBuckets = 8192

	// rebindBurst and rebindEvery limit the BINDs and RENEWs of one circuit: a host sends one per half-life of its lease, and a few
	// in a row when its path changes.
	rebindBurst = 20
	rebindEvery = time.Second

	// strayRate limits answers to packets about circuits the relay does not have, all sources together.
	strayRate = 5000

	// leaseCache is how many verified leases are remembered, so that a repeated BIND costs no second signature check. ~400 bytes each.
	leaseCache = 4096

	// hostCache is how many shared keys of hosts are remembered. ~100 bytes each.
	hostCache = 4096

	// bindWindow is how far a BIND's time may be from ours: lease.Skew each for two clocks. What is older is a replay.
	bindWindow = 2 * time.Minute

	// keepaliveInterval is what hosts are told. It bounds how long a host is lost after its NAT forgot it.
	keepaliveInterval = 2 * time.Second

	// hostIdle is how long a host leg may miss keepalives before its circuit ends: seven of them in a row.
	hostIdle = 15 * time.Second

	// pinWait is how long a circuit waits for its viewer: a page load over a bad link, twice.
	pinWait = 60 * time.Second

	// viewerIdle is how long a viewer may be silent before its circuit ends. Viewers speak every 50 ms; a hidden tab may stall for
	// long, and QUIC's own idle timeout (30 s) is the authority.
	viewerIdle = 60 * time.Second

	// maxCandidates bounds the candidates of one circuit; one address has at most half of the places. Of what a host answers within
	// 300 ms, 210 new addresses per second push nothing out. ~170 bytes each, while they last.
	maxCandidates = 128

	// maxOfferedAll bounds the candidates of all circuits: 11 MB. Above it a circuit that has some makes room among its own.
	maxOfferedAll = 1 << 16

	// candidateGrace is how long a candidate that the host answers keeps its place against newer ones: a handshake over a bad link.
	candidateGrace = time.Second

	// candidateIdle is how long a candidate may be silent before it is forgotten.
	candidateIdle = 5 * time.Second

	// candidateRate and candidateBurst limit the packets per second of one candidate: a viewer whose handshake takes 1 s sends ~20.
	candidateRate  = 64
	candidateBurst = 32

	// offerRate and offerBurst limit the packets per second of those candidates of one circuit that the host does not answer, so
	// that a flood costs a host no more than 10 Mbit/s.
	offerRate  = 1000
	offerBurst = 250

	// maxDatagram is the longest datagram of a candidate, and maxWhole the longest that travels in one OFFER: with its head it fits the
	// Ethernet path that the datagram itself filled.
	maxDatagram = 1500
	maxWhole    = 1400 - relaywire.CarryLen

	// probeRate and probeBurst limit the datagrams, of at most maxProbe bytes, that the candidates of a circuit may get without having sent
	// as much. The size is QUIC's for validating a path.
	maxProbe   = 1252
	probeRate  = 2
	probeBurst = 4

	// maxCredit bounds how much a candidate may be sent for what it sent long ago.
	maxCredit = 64 << 10

	// rateBurst is the depth of a lease's token bucket in time at its rate; a keyframe is at most a few frame times.
	rateBurst = 250 * time.Millisecond

	// minBurstBytes lets the smallest rates pass one full run.
	minBurstBytes = 128 << 10

	// sweepEvery is how often ended circuits are looked for: their ends are late by at most this.
	sweepEvery = 500 * time.Millisecond

	// reportEvery is how often load is reported to Control.
	reportEvery = 2 * time.Second

	// eventQueue is how many beginnings and ends of circuits wait for Control; see core.tell for what happens when it is full.
	eventQueue = 4096

	// maxRevoked and maxBans bound a policy; a longer one is refused and the previous one stays in force.
	maxRevoked = 1 << 20
	maxBans    = 1 << 16

	// handoverTimeout bounds each step of a hand-over to a successor: a silent but open port survives 2 s.
	handoverTimeout = 2 * time.Second
)
