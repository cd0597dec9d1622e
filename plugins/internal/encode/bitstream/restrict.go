package bitstream

// RestrictReorder makes the sequence parameter sets of an H.264 unit say that no picture is reordered, where they say nothing: a
// decoder that is not told keeps a whole buffer of pictures back. It returns unit itself when there is nothing to do or the
// parameter set cannot be read. The encoder must really not reorder.
func RestrictReorder(unit []byte) []byte {
	nal := FindSPS(unit)
	if nal == nil {
		return unit
	}
	s, err := ParseSPS(nal)
	if err != nil || s.Restricted {
		return unit
	}
	out := make([]byte, 0, len(unit)+32)
	for nal, rest := NextNAL(unit); nal != nil; nal, rest = NextNAL(rest) {
		out = append(out, 0, 0, 0, 1)
		if len(nal) > 0 && nal[0]&0x1f == nalSPS {
			out = appendRestricted(out, nal)
			continue
		}
		out = append(out, nal...)
	}
	return out
}

func appendRestricted(dst, nal []byte) []byte {
	s, err := ParseSPS(nal)
	if err != nil || s.Restricted {
		return append(dst, nal...)
	}
	raw := unescape(nal[1:])
	w := &bitWriter{}
	r := &bits{b: raw[3:]}
	keep := s.restrictAt
	if keep == 0 {
		keep = s.vuiAt
	}
	for range keep {
		w.bit(r.bit())
	}
	if s.restrictAt == 0 {
		w.emptyVUI()
	}
	w.restriction(uint32(s.RefFrames))
	w.bit(1) // rbsp_stop_one_bit; the last byte is filled with zeros
	dst = append(dst, nal[0])
	return appendEscaped(dst, append(raw[:3:3], w.b...))
}

// bitWriter is the inverse of bits.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) bit(v uint32) {
	if w.n&7 == 0 {
		w.b = append(w.b, 0)
	}
	w.b[len(w.b)-1] |= byte(v&1) << (7 - w.n&7)
	w.n++
}

func (w *bitWriter) ue(v uint32) {
	v++
	length := 0
	for v>>length > 1 {
		length++
	}
	for range length {
		w.bit(0)
	}
	for i := length; i >= 0; i-- {
		w.bit(v >> i)
	}
}

// emptyVUI writes vui_parameters_present_flag and a VUI up to its bitstream_restriction_flag in which all is left open.
func (w *bitWriter) emptyVUI() {
	w.bit(1)
	for range 8 { // aspect ratio, overscan, signal type, chroma location, timing, two HRDs, pic_struct
		w.bit(0)
	}
}

// restriction writes bitstream_restriction_flag and what follows it (E.1.1): no limits but the order of pictures.
func (w *bitWriter) restriction(refs uint32) {
	w.bit(1)
	w.bit(1)   // motion_vectors_over_pic_boundaries_flag
	w.ue(0)    // max_bytes_per_pic_denom: no limit
	w.ue(0)    // max_bits_per_mb_denom: no limit
	w.ue(15)   // log2_max_mv_length_horizontal
	w.ue(15)   // log2_max_mv_length_vertical
	w.ue(0)    // max_num_reorder_frames
	w.ue(refs) // max_dec_frame_buffering
}

// appendEscaped inserts emulation prevention: no 00 00 is followed by a byte below 4.
func appendEscaped(dst, raw []byte) []byte {
	zeros := 0
	for _, c := range raw {
		if zeros >= 2 && c <= 3 {
			dst = append(dst, 3)
			zeros = 0
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, c)
	}
	return dst
}
