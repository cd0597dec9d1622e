package framesource

import (
	"encoding/binary"
	"fmt"

	"github.com/wavry/fleet/hostruntime/media"
)

const (
	typeHello   = 1
	typeBuffer  = 2
	typeForget  = 3
	typeFrame   = 4
	typeRelease = 5
	typeNode    = 6
)

const flagRepeat = 1

// message is any parsed message; fields that its type does not have are zero.
type message struct {
	kind    byte
	hello   hello
	buffer  Buffer // without File
	frame   Frame
	node    Node   // without Remote; HELLO and NODE
	id      uint32 // FORGET and RELEASE
	wantsFD bool
}

type hello struct {
	version byte
	kind    Kind
}

func appendHello(b []byte, h hello, n Node) []byte {
	return appendNodeBody(append(b, typeHello, h.version, byte(h.kind)), n)
}

func appendNode(b []byte, n Node) []byte { return appendNodeBody(append(b, typeNode), n) }

func appendNodeBody(b []byte, n Node) []byte {
	b = binary.BigEndian.AppendUint32(b, n.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(n.Width))
	return binary.BigEndian.AppendUint32(b, uint32(n.Height))
}

func appendBuffer(b []byte, buf Buffer) []byte {
	b = append(b, typeBuffer)
	b = binary.BigEndian.AppendUint32(b, buf.ID)
	b = append(b, byte(buf.Memory))
	b = binary.BigEndian.AppendUint64(b, uint64(buf.Size))
	b = binary.BigEndian.AppendUint32(b, uint32(buf.Layout.Width))
	b = binary.BigEndian.AppendUint32(b, uint32(buf.Layout.Height))
	b = binary.BigEndian.AppendUint32(b, uint32(buf.Layout.Format))
	b = binary.BigEndian.AppendUint64(b, buf.Layout.Modifier)
	b = append(b, byte(len(buf.Layout.Planes)))
	for _, p := range buf.Layout.Planes {
		b = binary.BigEndian.AppendUint32(b, uint32(p.Offset))
		b = binary.BigEndian.AppendUint32(b, uint32(p.Stride))
	}
	return b
}

func appendFrame(b []byte, f Frame) []byte {
	b = append(b, typeFrame)
	b = binary.BigEndian.AppendUint32(b, f.Buffer)
	b = binary.BigEndian.AppendUint64(b, f.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(f.CaptureTime))
	var flags byte
	if f.Repeat {
		flags |= flagRepeat
	}
	return append(b, flags)
}

func appendID(b []byte, kind byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), id)
}

// parse reads one packet. It checks sizes and ranges, not descriptors.
func parse(b []byte) (message, error) {
	if len(b) == 0 {
		return message{}, &MessageError{Problem: "empty packet"}
	}
	m, r := message{kind: b[0]}, reader{b: b[1:]}
	switch m.kind {
	case typeHello:
		m.hello = hello{version: r.u8(), kind: Kind(r.u8())}
		if m.hello.version == Version { // another version is refused by its number, whatever follows
			m.node = r.node()
		}
		m.wantsFD = m.hello.kind == KindPipeWire
	case typeNode:
		m.node = r.node()
		m.wantsFD = true
	case typeBuffer:
		m.buffer = r.buffer()
		m.wantsFD = true
	case typeForget, typeRelease:
		m.id = r.u32()
	case typeFrame:
		m.frame = Frame{Buffer: r.u32(), Sequence: r.u64(), CaptureTime: media.Time(r.u64()), Repeat: r.u8()&flagRepeat != 0}
	default:
		return m, &MessageError{Type: m.kind, Problem: "unknown type"}
	}
	if r.short {
		return m, &MessageError{Type: m.kind, Problem: fmt.Sprintf("truncated at %d bytes", len(b))}
	}
	if m.kind == typeBuffer {
		return m, checkLayout(m.buffer)
	}
	if n := m.node; n.Width > MaxDimension || n.Height > MaxDimension {
		return m, &MessageError{Type: m.kind, Problem: fmt.Sprintf("size %dx%d is above %d", n.Width, n.Height, MaxDimension)}
	}
	return m, nil
}

func checkLayout(b Buffer) error {
	l := b.Layout
	bad := func(format string, args ...any) error {
		return &MessageError{Type: typeBuffer, Problem: fmt.Sprintf(format, args...)}
	}
	if b.Memory != MemoryShared && b.Memory != MemoryDMABuf {
		return bad("unknown memory %d", b.Memory)
	}
	if l.Width < 1 || l.Height < 1 || l.Width > MaxDimension || l.Height > MaxDimension {
		return bad("size %dx%d is outside 1..%d", l.Width, l.Height, MaxDimension)
	}
	if n := len(l.Planes); n < 1 || n > MaxPlanes {
		return bad("%d planes, want 1..%d", n, MaxPlanes)
	}
	if b.Size < 0 {
		return bad("size %d is negative", b.Size)
	}
	if b.Memory == MemoryDMABuf {
		return nil // strides of a tiled buffer say nothing about its size; the driver checks
	}
	if want, known := planes[l.Format]; known && len(l.Planes) != want {
		return bad("%d planes of %v, want %d", len(l.Planes), l.Format, want)
	}
	for i, p := range l.Planes {
		// A stride shorter than a row would let the last row end behind the memory.
		if row, known := rowBytes(l); known && p.Stride < row {
			return bad("plane %d has a stride of %d bytes for rows of %d", i, p.Stride, row)
		}
		height := l.Height
		if i > 0 {
			height = (height + 1) / 2 // all our multi-plane formats are 4:2:0
		}
		if end := int64(p.Offset) + int64(p.Stride)*int64(height); end > b.Size {
			return bad("plane %d ends at byte %d of %d", i, end, b.Size)
		}
	}
	return nil
}

// planes of the formats that this package knows; others are the encoder's business.
var planes = map[media.FourCC]int{
	media.FormatXRGB8888: 1, media.FormatARGB8888: 1, media.FormatXBGR8888: 1, media.FormatABGR8888: 1, media.FormatNV12: 2,
}

// rowBytes is the shortest stride of a known format, the same for each of its planes.
func rowBytes(l media.Layout) (int, bool) {
	switch l.Format {
	case media.FormatNV12:
		return l.Width + l.Width%2, true
	case media.FormatXRGB8888, media.FormatARGB8888, media.FormatXBGR8888, media.FormatABGR8888:
		return 4 * l.Width, true
	}
	return 0, false
}

// reader takes fields off a packet; after the first missing byte everything is zero and short is set.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.short, r.b = true, nil
		return make([]byte, n)
	}
	field := r.b[:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) node() Node {
	return Node{ID: r.u32(), Width: int(r.u32()), Height: int(r.u32())}
}

func (r *reader) buffer() Buffer {
	b := Buffer{ID: r.u32(), Memory: Memory(r.u8()), Size: int64(r.u64())}
	b.Layout.Width, b.Layout.Height = int(r.u32()), int(r.u32())
	b.Layout.Format, b.Layout.Modifier = media.FourCC(r.u32()), r.u64()
	n := int(r.u8())
	for range min(n, MaxPlanes+1) {
		b.Layout.Planes = append(b.Layout.Planes, media.Plane{Offset: int(r.u32()), Stride: int(r.u32())})
	}
	return b
}
