package wayland

import (
	"encoding/binary"
	"math"
	"os"
)

// The wire format: each message is the object's id (u32), then size in bytes including this header (upper 16 bits) and opcode (lower
// 16 bits), then arguments of 32 bits each, in the byte order of the machine. Strings and arrays are their length (strings: with a
// NUL) and their bytes padded to 32 bits; descriptors travel beside the bytes.
var order = binary.NativeEndian

const headerSize = 8

// message is the request being written; it is part of the Conn and guarded by its write lock from begin to end.
type message struct {
	c     *Conn
	start int      // of the message in c.out
	file  *os.File // to send along
}

// begin starts a request and locks the connection for writing until end.
func (c *Conn) begin(id uint32, opcode uint16) *message {
	c.writeMu.Lock()
	m := &c.message
	m.c, m.start, m.file = c, len(c.out), nil
	m.uint(id)
	m.uint(uint32(opcode)) // end adds the size
	return m
}

func (m *message) uint(v uint32) { m.c.out = order.AppendUint32(m.c.out, v) }
func (m *message) int(v int32)   { m.uint(uint32(v)) }

func (m *message) fixed(v float64) { m.int(toFixed(v)) }

func (m *message) string(s string) {
	m.uint(uint32(len(s) + 1))
	m.c.out = append(m.c.out, s...)
	m.c.out = append(m.c.out, 0)
	m.pad()
}

func (m *message) pad() {
	for (len(m.c.out)-m.start)%4 != 0 {
		m.c.out = append(m.c.out, 0)
	}
}

// fd sends f along; it stays the caller's. No request of ours has more than one.
func (m *message) fd(f *os.File) { m.file = f }

// create gives o the next free id. That happens under the write lock, because ids must reach the compositor in order.
func (m *message) create(o Object, version uint32) { m.uint(m.c.register(o, version)) }

func (m *message) end() {
	c := m.c
	defer c.writeMu.Unlock()
	size := len(c.out) - m.start
	if size > maxRequest {
		c.out = c.out[:m.start]
		c.fail(ErrTooLong)
		return
	}
	header := c.out[m.start+4:]
	order.PutUint32(header, order.Uint32(header)|uint32(size)<<16)
	if m.file != nil || len(c.out) >= flushAt {
		c.flushLocked(m.file)
	}
}

// toFixed is the wire's signed 24.8 fixed point number nearest to v; values out of its range are cut, NaN is 0.
func toFixed(v float64) int32 {
	switch f := math.Round(v * 256); {
	case math.IsNaN(f):
		return 0
	case f > math.MaxInt32:
		return math.MaxInt32
	case f < math.MinInt32:
		return math.MinInt32
	default:
		return int32(f)
	}
}
