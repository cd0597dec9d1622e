// Package pattern is the machine-readable strip of the test picture: capture-test draws it into raw frames, tests read it back from
// decoded pixels and learn when the picture was made and which input it had seen. It is a leaf and imports nothing of ours.
//
// # Layout, for readers in other languages
//
// The strip is a grid of square cells whose side is exactly width/80 pixels of the picture (a fraction, so that a scaled picture
// reads alike). Columns 1 to 48 of rows 1 to 4 hold 192 bits, row by row, left to right, most significant bit of each byte first;
// white is 1, black is 0. Column 0, column 49, row 0 and row 5 are black. Bit n is therefore the cell
//
//	column 1 + n%48, row 1 + n/48, centre x = (column+0.5)*width/80, y = (row+0.5)*width/80.
//
// A reader averages the luma of the middle half of a cell and compares with 128. The 24 bytes are, big-endian:
//
//	 0     magic 0xA7
//	 1     version 1
//	 2- 7  time the picture was drawn, CLOCK_MONOTONIC microseconds
//	 8-11  frame sequence
//	12-13  inputs: input events seen so far, modulo 65536
//	14-15  last key: bit 15 is set while it is down, bits 0-14 are its evdev code
//	16     buttons that are down: bit 0 left, 1 right, 2 middle, 3 side, 4 extra
//	17-18  pointer x, 0 left edge to 65535 right edge
//	19-20  pointer y, 0 top edge to 65535 bottom edge
//	21     sum of scroll notches, down and right positive, two's complement, wrapping
//	22-23  CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xFFFF) of bytes 0 to 21
package pattern

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Geometry of the strip, in cells.
const (
	cellsAcross = 80
	columns     = 48
	rows        = 4
	quiet       = 1 // black cells around the bits
	// Rows is the height of the strip with its black border: pixels below Height are free for other drawing.
	stripRows    = rows + 2*quiet
	stripColumns = columns + 2*quiet
)

const (
	magic   = 0xA7
	version = 1
	// Size of an encoded Stamp in bytes.
	Size = rows * columns / 8
	// MinWidth is the narrowest picture that can carry a strip: two pixels a cell.
	MinWidth = 2 * cellsAcross
)

// Errors of Parse and Decode.
var (
	// ErrMagic is returned when there is no strip at all: the first byte is wrong.
	ErrMagic = errors.New("no test pattern in the picture")
	// ErrChecksum is returned when the strip is damaged, for example by strong compression or a torn picture.
	ErrChecksum = errors.New("test pattern damaged: checksum mismatch")
	// ErrSize is returned for pixels that cannot hold a strip.
	ErrSize = errors.New("picture too small for a test pattern")
)

// Stamp is what the strip says.
type Stamp struct {
	// Time is CLOCK_MONOTONIC in microseconds; it has 48 bits.
	Time     int64
	Sequence uint32
	Inputs   uint16
	Key      uint16 // evdev code, below 1<<15
	KeyDown  bool
	Buttons  uint8
	// X and Y are the pointer's place, 0 to 65535 across the picture.
	X, Y    uint16
	Notches int8
}

// Bytes is the encoded stamp.
func (s Stamp) Bytes() [Size]byte {
	var b [Size]byte
	b[0], b[1] = magic, version
	put48(b[2:8], uint64(s.Time))
	binary.BigEndian.PutUint32(b[8:], s.Sequence)
	binary.BigEndian.PutUint16(b[12:], s.Inputs)
	key := s.Key &^ (1 << 15)
	if s.KeyDown {
		key |= 1 << 15
	}
	binary.BigEndian.PutUint16(b[14:], key)
	b[16] = s.Buttons
	binary.BigEndian.PutUint16(b[17:], s.X)
	binary.BigEndian.PutUint16(b[19:], s.Y)
	b[21] = byte(s.Notches)
	binary.BigEndian.PutUint16(b[22:], crc16(b[:22]))
	return b
}

// Parse is the inverse of Bytes.
func Parse(b [Size]byte) (Stamp, error) {
	if b[0] != magic {
		return Stamp{}, ErrMagic
	}
	if crc16(b[:22]) != binary.BigEndian.Uint16(b[22:]) {
		return Stamp{}, ErrChecksum
	}
	if b[1] != version {
		return Stamp{}, fmt.Errorf("test pattern version %d, want %d", b[1], version)
	}
	key := binary.BigEndian.Uint16(b[14:])
	return Stamp{
		Time:     int64(get48(b[2:8])),
		Sequence: binary.BigEndian.Uint32(b[8:]),
		Inputs:   binary.BigEndian.Uint16(b[12:]),
		Key:      key &^ (1 << 15), KeyDown: key>>15 == 1,
		Buttons: b[16],
		X:       binary.BigEndian.Uint16(b[17:]), Y: binary.BigEndian.Uint16(b[19:]),
		Notches: int8(b[21]),
	}, nil
}

func put48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

func get48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			carry := crc>>15 == 1
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return crc
}
