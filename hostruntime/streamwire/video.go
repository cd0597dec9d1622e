package streamwire

import (
	"encoding/binary"

	"github.com/wavry/fleet/hostruntime/media"
)

// VideoHeader stands before the access unit on a video stream.
type VideoHeader struct {
	Track         uint8
	Codec         media.Codec
	Keyframe      bool
	Repeat        bool // the same picture as the unit before
	Sequence      uint32
	Width, Height uint16
	CaptureTime   uint64 // microseconds, host clock
	Handoff       uint32 // microseconds from capture until the encoder had the picture
	Encode        uint32 // microseconds from there until the unit was encoded
	Send          uint32 // microseconds from there until it was given to QUIC
	LastInput     uint32 // id of the last input applied before this picture was captured; 0: none
}

const (
	videoKeyframe = 1
	videoRepeat   = 2
)

// AppendVideoHeader appends the kind byte and the header.
func AppendVideoHeader(b []byte, h VideoHeader) []byte {
	b = append(b, StreamVideo, h.Track, byte(h.Codec), boolByte(h.Keyframe)*videoKeyframe|boolByte(h.Repeat)*videoRepeat, 0)
	b = binary.BigEndian.AppendUint32(b, h.Sequence)
	b = appendSize(b, h.Width, h.Height)
	b = binary.BigEndian.AppendUint64(b, h.CaptureTime)
	b = binary.BigEndian.AppendUint32(b, h.Handoff)
	b = binary.BigEndian.AppendUint32(b, h.Encode)
	b = binary.BigEndian.AppendUint32(b, h.Send)
	return binary.BigEndian.AppendUint32(b, h.LastInput)
}

// ParseVideoHeader reads the header after the kind byte.
func ParseVideoHeader(b []byte) (VideoHeader, error) {
	if len(b) < VideoHeaderLen {
		return VideoHeader{}, truncated(StreamVideo, len(b))
	}
	r := reader{b: b}
	h := VideoHeader{Track: r.u8(), Codec: media.Codec(r.u8())}
	flags := r.u8()
	h.Keyframe, h.Repeat = flags&videoKeyframe != 0, flags&videoRepeat != 0
	r.u8() // reserved
	h.Sequence, h.Width, h.Height, h.CaptureTime = r.u32(), r.u16(), r.u16(), r.u64()
	h.Handoff, h.Encode, h.Send, h.LastInput = r.u32(), r.u32(), r.u32(), r.u32()
	return h, nil
}
