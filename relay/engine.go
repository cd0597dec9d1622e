package relay

import (
	"context"
	"net/netip"
	"sync/atomic"

	"github.com/wavry/fleet/relay/relaywire"
)

// engine is what a data path asks about each packet: the tables, the admission and the clock.
type engine struct {
	*core
	admission *admission
	clock     clock
}

// dataPath moves datagrams. There are two: recvmmsg and sendmmsg with segmentation on Linux, package net anywhere else.
type dataPath interface {
	// run moves datagrams until ctx ends. It may be called again after it has returned.
	run(ctx context.Context) error
	// controlPort and mediaPorts are the ports that were bound.
	controlPort() uint16
	mediaPorts() []uint16
	// sendControl and sendMedia send one control packet; any goroutine may call them.
	sendControl(p []byte, to netip.AddrPort) error
	sendMedia(port int, p []byte, to netip.AddrPort) error
	// stats are the counters of all workers; kernelDrops counts what the kernel dropped for want of buffer.
	stats() []*workerStats
	kernelDrops() uint64
	describe() string
	close() error
}

// controlIndex is the index of the control port in tables of ports: no media port has it.
const controlIndex = maxMediaPorts

// workerStats are the counters of one worker, alone on their cache lines.
type workerStats struct {
	packetsIn, packetsOut, bytesIn, bytesOut atomic.Uint64
	polling                                  atomic.Uint64 // nanoseconds of looking at sockets that had nothing
	drops                                    [numDrops]atomic.Uint64
	_                                        [64]byte
}

func (s *workerStats) drop(d drop, packets int) { s.drops[d].Add(uint64(packets)) }

// control handles one datagram at the control port, or one control packet at a media port, and returns what to send: the answer, to
// where it came from, or what is for a candidate, to that.
func (e *engine) control(from legKey, p []byte, now int64, out []byte, s *workerStats) (reply []byte, to *leg) {
	var d drop
	switch {
	case from.port() == controlIndex:
		reply, d = e.admission.consider(from, p, now, &e.counts, out)
	case relaywire.TypeIs(p, relaywire.TypeAnswer):
		to, reply, d = e.answerTo(from, p, now)
	default:
		reply, d = e.signal(from, p, now, out)
	}
	if d != dropNone {
		s.drop(d, 1)
	}
	return reply, to
}

// isControl looks for a control packet; one byte decides for nearly all data.
func isControl(p []byte) bool { return p[0] == relaywire.FirstByte && relaywire.IsControl(p) }
