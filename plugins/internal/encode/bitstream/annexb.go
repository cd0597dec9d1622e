// Package bitstream reads what our encoders write, as far as the stream's promises go: where NAL units and OBUs begin, which of
// them are parameter sets or keyframes, and what an H.264 SPS says about profile, size and reordering.
//
// It decodes no picture. All functions are pure, take any bytes without panicking and return views of their input.
package bitstream

import "bytes"

// startCode is the short form; the long one has one more zero in front, which is trailing padding of the unit before.
var startCode = []byte{0, 0, 1}

// NextNAL returns the first NAL unit of an Annex-B stream, without its start code, and what follows it. nal is nil when there is
// none. Bytes before the first start code are skipped.
func NextNAL(b []byte) (nal, rest []byte) {
	i := bytes.Index(b, startCode)
	if i < 0 {
		return nil, nil
	}
	b = b[i+3:]
	end := bytes.Index(b, startCode)
	if end < 0 {
		return trimZeros(b), nil
	}
	return trimZeros(b[:end]), b[end:]
}

// trimZeros takes off the zeros between a NAL unit and the next start code; a NAL unit ends with a set bit.
func trimZeros(b []byte) []byte {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return b[:n] // empty, not nil, for a unit of zeros alone
}

// unescape removes the emulation prevention bytes of a NAL unit: 00 00 03 becomes 00 00.
func unescape(nal []byte) []byte {
	out := make([]byte, 0, len(nal))
	zeros := 0
	for _, c := range nal {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, c)
	}
	return out
}
