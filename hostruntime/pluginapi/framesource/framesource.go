// Package framesource hands raw pictures from a capture plugin to an encoder plugin, process to process, without a copy of ours.
//
// The host runtime makes a pair of unix SOCK_SEQPACKET sockets and hands one end to each plugin (package inbox); no path names it, and
// the host runtime is never on it. (By hand, and in tests, the capture plugin listens at a path.) A source is one of
//
//   - a PipeWire node: the HELLO message carries a descriptor of a PipeWire remote (SCM_RIGHTS) and a node id. The encoder opens it
//     itself; frames flow between compositor and encoder, and this socket only tells of a node that takes its place and of the end.
//   - a frame socket: buffers (memfd or DMA-BUF) are registered once with their descriptor, then each FRAME message names a
//     buffer, and the encoder gives it back with RELEASE. Credit is the set of released buffers: a capturer without one drops.
//
// One message per packet, integers big-endian, first byte is the type:
//
//	HELLO   1  capture->encoder  version u8, kind u8, node u32, width u32, height u32 (PipeWire; with 1 descriptor)
//	BUFFER  2  capture->encoder  id u32, memory u8, size u64, width u32, height u32, fourcc u32, modifier u64,
//	                             planes u8, planes x (offset u32, stride u32); with 1 descriptor
//	FORGET  3  capture->encoder  id u32
//	FRAME   4  capture->encoder  id u32, sequence u64, capture time i64 (CLOCK_MONOTONIC ns), flags u8 (bit 0: repeat)
//	RELEASE 5  encoder->capture  id u32
//	NODE    6  capture->encoder  node u32, width u32, height u32; with 1 descriptor (PipeWire only)
//
// Width and height are what the encoder must ask the node for: some compositors make the picture as large as their reader wants it.
// Zero is whatever the node has.
//
// Growth: a receiver ignores trailing bytes and refuses unknown types; a changed meaning is a new version, refused by name.
package framesource

import (
	"os"

	"github.com/wavry/fleet/hostruntime/media"
)

// Version of the messages above; both ends must have the same.
const Version = 2

// Kind is what a source hands over.
type Kind uint8

// The kinds of source.
const (
	KindPipeWire Kind = 1
	KindFrames   Kind = 2
)

// Memory is what a buffer's descriptor is.
type Memory uint8

// The kinds of memory.
const (
	MemoryShared Memory = 1 // memfd, sealed against shrinking
	MemoryDMABuf Memory = 2
)

// Node is a PipeWire node.
type Node struct {
	// Remote is a connection to PipeWire that sees the node, and that nobody has used. On the encoder's side it belongs to the receiver.
	Remote *os.File
	ID     uint32
	// Width and Height are what to ask the node for; 0: whatever it has.
	Width, Height int
}

// Buffer is memory that frames live in. It is registered once and reused.
type Buffer struct {
	ID     uint32
	Memory Memory
	Size   int64 // bytes of the descriptor's memory
	Layout media.Layout
	// File is the descriptor. On the encoder's side it belongs to the receiver, who closes it after FORGET or the end.
	File *os.File
}

// Frame says that a registered buffer holds a picture. The buffer is the receiver's until it is released.
type Frame struct {
	Buffer      uint32
	Sequence    uint64 // counts captured pictures; a gap is a drop
	CaptureTime media.Time
	// Repeat marks a picture sent again because nothing changed.
	Repeat bool
}
