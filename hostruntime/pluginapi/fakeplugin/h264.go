package fakeplugin

// stream writes a constrained-baseline H.264 stream (ITU-T H.264, 2021) in Annex-B form in which every picture is flat grey:
// keyframes of Intra16x16 DC macroblocks without residual, and delta pictures that skip every macroblock.
type stream struct {
	frameNum uint32
	idr      uint32
}

// next is one access unit of at least size bytes (filler data NAL unit).
func (s *stream) next(width, height int, key bool, size int) []byte {
	var out []byte
	if key {
		s.frameNum = 0
		s.idr ^= 1
		out = appendNAL(out, 0x67, sps(width, height))
		out = appendNAL(out, 0x68, pps())
		out = appendNAL(out, 0x65, s.slice(width, height, true))
	} else {
		s.frameNum = (s.frameNum + 1) & 0xffff
		out = appendNAL(out, 0x41, s.slice(width, height, false))
	}
	return appendFiller(out, size)
}

func macroblocks(pixels int) int { return (pixels + 15) / 16 }

// sps is 7.3.2.1.1 for profile 66, level 5.1, one reference, picture order by decoding (type 2).
func sps(width, height int) []byte {
	w := &bits{}
	w.put(66, 8)
	w.put(0xc0, 8)
	w.put(51, 8)
	w.ue(0)  // id
	w.ue(12) // log2_max_frame_num - 4
	w.ue(2)  // pic_order_cnt_type
	w.ue(1)  // max_num_ref_frames
	w.put(0, 1)
	w.ue(uint32(macroblocks(width) - 1))
	w.ue(uint32(macroblocks(height) - 1))
	w.put(0b11, 2) // frame_mbs_only, direct_8x8_inference
	right, bottom := macroblocks(width)*16-width, macroblocks(height)*16-height
	if right == 0 && bottom == 0 {
		w.put(0, 1)
	} else {
		w.put(1, 1)
		w.ue(0)
		w.ue(uint32(right / 2))
		w.ue(0)
		w.ue(uint32(bottom / 2))
	}
	w.put(0, 1) // no VUI: type 2 implies no reordering
	return w.end()
}

// pps is 7.3.2.2: CAVLC, deblocking controlled per slice.
func pps() []byte {
	w := &bits{}
	w.ue(0)
	w.ue(0)
	w.put(0, 2)
	w.ue(0)
	w.ue(0)
	w.ue(0)
	w.put(0, 3)
	w.ue(0) // the three quantizer offsets, se(0) each
	w.ue(0)
	w.ue(0)
	w.put(0b100, 3)
	return w.end()
}

// slice is 7.3.3 and 7.3.4.
func (s *stream) slice(width, height int, key bool) []byte {
	w := &bits{}
	n := macroblocks(width) * macroblocks(height)
	w.ue(0)
	if key {
		w.ue(7) // all slices are I
	} else {
		w.ue(5) // all slices are P
	}
	w.ue(0)
	w.put(s.frameNum, 16)
	if key {
		w.ue(s.idr)
		w.put(0, 2) // dec_ref_pic_marking
	} else {
		w.put(0, 3) // no override, no list modification, sliding window
	}
	w.ue(0) // slice_qp_delta
	w.ue(1) // no deblocking
	if !key {
		w.ue(uint32(n)) // mb_skip_run
		return w.end()
	}
	for range n {
		w.ue(3)     // I_16x16_2_0_0: DC prediction, nothing coded
		w.ue(0)     // chroma DC prediction
		w.ue(0)     // mb_qp_delta
		w.put(1, 1) // coeff_token of an empty DC block
	}
	return w.end()
}

// bits is an RBSP under construction.
type bits struct {
	b    []byte
	free uint // unused bits of the last byte
}

func (w *bits) put(v uint32, n uint) {
	for n > 0 {
		n--
		if w.free == 0 {
			w.b, w.free = append(w.b, 0), 8
		}
		w.free--
		w.b[len(w.b)-1] |= byte(v>>n&1) << w.free
	}
}

// ue writes an Exp-Golomb code (9.1).
func (w *bits) ue(v uint32) {
	n := uint(0)
	for (v+1)>>(n+1) != 0 {
		n++
	}
	w.put(0, n)
	w.put(v+1, n+1)
}

// end adds the trailing bits.
func (w *bits) end() []byte {
	w.put(1, 1)
	return w.b
}

// appendNAL adds a start code, the header and the payload with emulation prevention (7.4.1).
func appendNAL(out []byte, header byte, rbsp []byte) []byte {
	out = append(out, 0, 0, 0, 1, header)
	zeros := 0
	for _, b := range rbsp {
		if zeros >= 2 && b <= 3 {
			out, zeros = append(out, 3), 0
		}
		out = append(out, b)
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}

func appendFiller(out []byte, size int) []byte {
	const overhead = 6 // start code, header, trailing bits
	if len(out)+overhead > size {
		return out
	}
	n := size - len(out) - overhead
	out = append(out, 0, 0, 0, 1, 12)
	for range n {
		out = append(out, 0xff)
	}
	return append(out, 0x80)
}
