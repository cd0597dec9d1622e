package streamwire

import (
	"encoding/binary"
	"fmt"
)

// Datagram is one parsed datagram; Type says which field is set, an unknown type sets none.
type Datagram struct {
	Type     DatagramType
	Absolute MotionAbsolute
	Relative MotionRelative
	Feedback Feedback
	Ping     Ping
	Pong     Pong
}

// DatagramType is the first byte of a datagram.
type DatagramType byte

// The types of datagrams.
const (
	DatagramMotionAbsolute DatagramType = typeMotionAbsolute
	DatagramMotionRelative DatagramType = typeMotionRelative
	DatagramFeedback       DatagramType = typeFeedback
	DatagramPing           DatagramType = typePing
	DatagramPong           DatagramType = typePong
)

// MotionAbsolute moves the pointer to a place.
type MotionAbsolute struct {
	ID   uint32
	X, Y uint16
}

// MotionRelative is all motion since the start of the connection; the host applies what is new.
type MotionRelative struct {
	ID     uint32
	DX, DY int32 // 1/256 pixel, wraps
}

// Ping is answered at once by a Pong with the same id and time; together they give RTT and the clocks' offset.
type Ping struct {
	ID         uint16
	ViewerTime uint64
}

// Pong answers a Ping.
type Pong struct {
	ID         uint16
	ViewerTime uint64
	HostTime   uint64
}

// NotYet is a delay in a UnitReport that is not known yet.
const NotYet = 0xffffffff

// Feedback is the viewer's report, sent 20 to 50 times a second.
type Feedback struct {
	Now       uint64 // viewer time at sending
	Highest   uint32 // highest sequence received
	Lost      uint32 // units given up since the start
	Undecoded uint8  // units waiting for the decoder
	Units     []UnitReport
	Inputs    []InputReport
}

// UnitReport says when one unit arrived. A unit is reported again when more of its delays are known.
type UnitReport struct {
	Sequence uint32
	Received uint64 // viewer time of the last byte
	Decode   uint32 // microseconds from there until it was decoded
	Present  uint32 // microseconds from there until it was presented
}

// InputReport is the time from an input event to the first picture that shows what it did.
type InputReport struct {
	ID      uint32
	Latency uint32 // microseconds
}

// AppendMotionAbsolute appends a whole datagram.
func AppendMotionAbsolute(b []byte, m MotionAbsolute) []byte {
	return appendSize(binary.BigEndian.AppendUint32(append(b, typeMotionAbsolute), m.ID), m.X, m.Y)
}

// AppendMotionRelative appends a whole datagram.
func AppendMotionRelative(b []byte, m MotionRelative) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeMotionRelative), m.ID)
	b = binary.BigEndian.AppendUint32(b, uint32(m.DX))
	return binary.BigEndian.AppendUint32(b, uint32(m.DY))
}

// AppendPing appends a whole datagram.
func AppendPing(b []byte, p Ping) []byte {
	b = binary.BigEndian.AppendUint16(append(b, typePing), p.ID)
	return binary.BigEndian.AppendUint64(b, p.ViewerTime)
}

// AppendPong appends a whole datagram.
func AppendPong(b []byte, p Pong) []byte {
	b = binary.BigEndian.AppendUint16(append(b, typePong), p.ID)
	b = binary.BigEndian.AppendUint64(b, p.ViewerTime)
	return binary.BigEndian.AppendUint64(b, p.HostTime)
}

// AppendFeedback appends a whole datagram. Reports beyond MaxReports and MaxInputReports are left out.
func AppendFeedback(b []byte, f Feedback) []byte {
	units, inputs := f.Units[:min(len(f.Units), MaxReports)], f.Inputs[:min(len(f.Inputs), MaxInputReports)]
	b = binary.BigEndian.AppendUint64(append(b, typeFeedback), f.Now)
	b = binary.BigEndian.AppendUint32(b, f.Highest)
	b = binary.BigEndian.AppendUint32(b, f.Lost)
	b = append(b, f.Undecoded, byte(len(units)))
	for _, u := range units {
		b = binary.BigEndian.AppendUint32(b, u.Sequence)
		b = binary.BigEndian.AppendUint64(b, u.Received)
		b = binary.BigEndian.AppendUint32(b, u.Decode)
		b = binary.BigEndian.AppendUint32(b, u.Present)
	}
	b = append(b, byte(len(inputs)))
	for _, in := range inputs {
		b = binary.BigEndian.AppendUint32(b, in.ID)
		b = binary.BigEndian.AppendUint32(b, in.Latency)
	}
	return b
}

// ParseDatagram reads b into d, reusing the slices of d.Feedback. An unknown type is no error.
func ParseDatagram(d *Datagram, b []byte) error {
	if len(b) == 0 {
		return &WireError{Problem: "empty datagram"}
	}
	d.Type = DatagramType(b[0])
	r := reader{b: b[1:]}
	switch b[0] {
	case typeMotionAbsolute:
		d.Absolute = MotionAbsolute{ID: r.u32(), X: r.u16(), Y: r.u16()}
	case typeMotionRelative:
		d.Relative = MotionRelative{ID: r.u32(), DX: int32(r.u32()), DY: int32(r.u32())}
	case typeFeedback:
		if err := parseFeedback(&d.Feedback, &r); err != nil {
			return err
		}
	case typePing:
		d.Ping = Ping{ID: r.u16(), ViewerTime: r.u64()}
	case typePong:
		d.Pong = Pong{ID: r.u16(), ViewerTime: r.u64(), HostTime: r.u64()}
	}
	if r.short {
		return truncated(b[0], len(b))
	}
	return nil
}

func parseFeedback(f *Feedback, r *reader) error {
	f.Now, f.Highest, f.Lost, f.Undecoded = r.u64(), r.u32(), r.u32(), r.u8()
	f.Units, f.Inputs = f.Units[:0], f.Inputs[:0]
	n := int(r.u8())
	if n > MaxReports {
		return &WireError{Type: typeFeedback, Problem: fmt.Sprintf("%d unit reports, at most %d", n, MaxReports)}
	}
	for range n {
		f.Units = append(f.Units, UnitReport{Sequence: r.u32(), Received: r.u64(), Decode: r.u32(), Present: r.u32()})
	}
	m := int(r.u8())
	if m > MaxInputReports {
		return &WireError{Type: typeFeedback, Problem: fmt.Sprintf("%d input reports, at most %d", m, MaxInputReports)}
	}
	for range m {
		f.Inputs = append(f.Inputs, InputReport{ID: r.u32(), Latency: r.u32()})
	}
	return nil
}
