package bitstream

import (
	"bytes"

	"github.com/wavry/fleet/hostruntime/media"
)

// NAL unit types (H.264 table 7-1, H.265 table 7-1) and OBU types (AV1 6.2.2).
const (
	nalIDR = 5
	nalSEI = 6
	nalSPS = 7
	nalPPS = 8

	hevcVPS = 32
	hevcSPS = 33
	hevcPPS = 34

	obuSequence    = 1
	obuFrameHeader = 3
	obuFrame       = 6
)

// Info says what an access unit holds.
type Info struct {
	// Picture is set when there is a coded picture at all.
	Picture bool
	// Key is set when the picture decodes without any earlier one.
	Key bool
	// Params is set when all parameter sets of the codec are there.
	Params bool
	// Slices counts coded slices (H.264, HEVC) or frames (AV1).
	Slices int
}

// Inspect looks at one access unit.
func Inspect(codec media.Codec, unit []byte) Info {
	switch codec {
	case media.CodecH264:
		return inspectH264(unit)
	case media.CodecHEVC:
		return inspectHEVC(unit)
	case media.CodecAV1:
		return inspectAV1(unit)
	}
	return Info{}
}

func inspectH264(unit []byte) Info {
	var i Info
	var sps, pps bool
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		if len(nal) == 0 {
			continue
		}
		switch t := nal[0] & 0x1f; {
		case t >= 1 && t <= nalIDR:
			i.Picture = true
			i.Slices++
			i.Key = i.Key || t == nalIDR
			if t == 1 {
				// A slice of another picture cannot follow in the same unit: its type settles the matter without scanning the rest.
				return i
			}
		case t == nalSPS:
			sps = true
		case t == nalPPS:
			pps = true
		}
	}
	i.Params = sps && pps
	return i
}

func inspectHEVC(unit []byte) Info {
	var i Info
	var vps, sps, pps bool
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		if len(nal) < 2 {
			continue
		}
		switch t := nal[0] >> 1 & 0x3f; {
		case t < 32:
			i.Picture = true
			i.Slices++
			i.Key = i.Key || (t >= 16 && t <= 21) // IRAP
		case t == hevcVPS:
			vps = true
		case t == hevcSPS:
			sps = true
		case t == hevcPPS:
			pps = true
		}
	}
	i.Params = vps && sps && pps
	return i
}

func inspectAV1(unit []byte) Info {
	var i Info
	for len(unit) > 0 {
		kind, payload, rest, ok := nextOBU(unit)
		if !ok {
			return i
		}
		switch kind {
		case obuSequence:
			i.Params = true
		case obuFrameHeader, obuFrame:
			i.Picture = true
			i.Slices++
			// show_existing_frame 0 and frame_type KEY_FRAME 0 are the three highest bits.
			if len(payload) > 0 && payload[0]>>5 == 0 {
				i.Key = true
			}
		}
		unit = rest
	}
	return i
}

// nextOBU splits the first OBU off a low-overhead stream (AV1 5.3).
func nextOBU(b []byte) (kind byte, payload, rest []byte, ok bool) {
	head := b[0]
	kind = head >> 3 & 0xf
	at := 1
	if head&4 != 0 {
		at++
	}
	if at > len(b) {
		return 0, nil, nil, false
	}
	if head&2 == 0 { // no size: reaches to the end
		return kind, b[at:], nil, true
	}
	size, n := leb128(b[at:])
	if n == 0 || size > uint64(len(b)-at-n) {
		return 0, nil, nil, false
	}
	at += n
	return kind, b[at : at+int(size)], b[at+int(size):], true
}

// leb128 reads at most 8 bytes (AV1 4.10.5); n is 0 when it does not end.
func leb128(b []byte) (v uint64, n int) {
	for i := range min(len(b), 8) {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

// AppendParams appends the parameter sets that a unit holds, with start codes (or as OBUs), ready to be put before a keyframe
// that lacks them.
func AppendParams(dst []byte, codec media.Codec, unit []byte) []byte {
	if codec == media.CodecAV1 {
		return appendSequence(dst, unit)
	}
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		if isParam(codec, nal) {
			dst = append(append(dst, 0, 0, 0, 1), nal...)
		}
	}
	return dst
}

func isParam(codec media.Codec, nal []byte) bool {
	if len(nal) == 0 {
		return false
	}
	if codec == media.CodecHEVC {
		t := nal[0] >> 1 & 0x3f
		return t >= hevcVPS && t <= hevcPPS
	}
	t := nal[0] & 0x1f
	return t == nalSPS || t == nalPPS
}

func appendSequence(dst, unit []byte) []byte {
	for len(unit) > 0 {
		kind, _, rest, ok := nextOBU(unit)
		if !ok {
			return dst
		}
		if kind == obuSequence {
			dst = append(dst, unit[:len(unit)-len(rest)]...)
		}
		unit = rest
	}
	return dst
}

// FindSPS returns the first H.264 sequence parameter set of a unit, nil when it has none.
func FindSPS(unit []byte) []byte {
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		if len(nal) > 0 && nal[0]&0x1f == nalSPS {
			return nal
		}
	}
	return nil
}

// EncoderNote returns the text that x264 leaves in an SEI of each keyframe up to its options, for example
// "x264 - core 164 r3095 baee400"; empty when there is none.
func EncoderNote(unit []byte) string {
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		if len(nal) == 0 || nal[0]&0x1f != nalSEI {
			continue
		}
		_, note, found := bytes.Cut(nal, []byte("x264 - "))
		if !found {
			continue
		}
		note, _, _ = bytes.Cut(note, []byte(" - "))
		if len(note) > 64 {
			note = note[:64]
		}
		return "x264 - " + string(bytes.ToValidUTF8(note, nil))
	}
	return ""
}
