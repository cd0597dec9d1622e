// Package media holds the words of the picture path: a raw Frame, an encoded AccessUnit, codecs and time.
//
// It is a leaf: plugins, plugin host, session and transport all import it, and it imports nothing of ours. It has no
// behaviour beyond the clock.
package media

import "fmt"

// Codec is an encoded format. The numbers are part of streamwire and of the plugin protocol.
type Codec uint8

// The closed set of codecs.
const (
	CodecUnknown Codec = 0
	CodecH264    Codec = 1 // Annex-B, SPS and PPS before every keyframe
	CodecHEVC    Codec = 2 // Annex-B, VPS, SPS and PPS before every keyframe
	CodecAV1     Codec = 3 // low-overhead OBU stream, sequence header before every keyframe
	CodecOpus    Codec = 16
)

// String is the codec's name in configuration, logs and metrics.
func (c Codec) String() string {
	switch c {
	case CodecH264:
		return "h264"
	case CodecHEVC:
		return "hevc"
	case CodecAV1:
		return "av1"
	case CodecOpus:
		return "opus"
	}
	return fmt.Sprintf("codec%d", uint8(c))
}

// ParseCodec is the inverse of String for the codecs of the set.
func ParseCodec(s string) (Codec, error) {
	for _, c := range []Codec{CodecH264, CodecHEVC, CodecAV1, CodecOpus} {
		if c.String() == s {
			return c, nil
		}
	}
	return CodecUnknown, fmt.Errorf("codec %q is none of h264, hevc, av1, opus", s)
}

// AccessUnit is one encoded picture.
type AccessUnit struct {
	// Sequence counts the units of one encoder run from 0 without gaps.
	Sequence uint64
	Codec    Codec
	// Keyframe units decode without any earlier unit.
	Keyframe bool
	// Repeat marks a keep-alive: the picture is the previous one encoded again, not a new capture.
	Repeat bool
	// Width and Height are the visible size in pixels.
	Width, Height int
	// CaptureTime is when the compositor's picture was taken, HandoffTime when the encoder process received it, EncodeTime when
	// its encoding was done. HandoffTime-CaptureTime is the hand-off stage, EncodeTime-HandoffTime the encode stage.
	CaptureTime, HandoffTime, EncodeTime Time
	// Data is owned by the receiver of the unit and never changed after.
	Data []byte
}

// FourCC is a DRM pixel format code (drm_fourcc.h): four ASCII bytes, first in the lowest byte.
type FourCC uint32

// The raw formats that pass between our plugins.
const (
	FormatXRGB8888 FourCC = 'X' | 'R'<<8 | '2'<<16 | '4'<<24 // bytes B G R x; GStreamer BGRx
	FormatARGB8888 FourCC = 'A' | 'R'<<8 | '2'<<16 | '4'<<24 // bytes B G R A; GStreamer BGRA
	FormatXBGR8888 FourCC = 'X' | 'B'<<8 | '2'<<16 | '4'<<24 // bytes R G B x; GStreamer RGBx
	FormatABGR8888 FourCC = 'A' | 'B'<<8 | '2'<<16 | '4'<<24 // bytes R G B A; GStreamer RGBA
	FormatNV12     FourCC = 'N' | 'V'<<8 | '1'<<16 | '2'<<24
)

// String is the four characters.
func (f FourCC) String() string {
	return string([]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)})
}

// Layout describes the memory of a raw frame.
type Layout struct {
	Width, Height int // pixels
	Format        FourCC
	// Modifier is the DRM format modifier of a DMA-BUF; 0 (linear) for shared memory.
	Modifier uint64
	Planes   []Plane
}

// Plane is one plane of a Layout, in bytes from the start of its buffer.
type Plane struct {
	Offset, Stride int
}
