package bitstream

// bits reads a bit string from its first byte's highest bit; after the end everything is zero and short is set.
type bits struct {
	b     []byte
	at    int
	short bool
}

func (r *bits) bit() uint32 {
	if r.at>>3 >= len(r.b) {
		r.short = true
		return 0
	}
	v := r.b[r.at>>3] >> (7 - r.at&7) & 1
	r.at++
	return uint32(v)
}

func (r *bits) flag() bool { return r.bit() == 1 }

// u reads n <= 32 bits.
func (r *bits) u(n int) uint32 {
	var v uint32
	for range n {
		v = v<<1 | r.bit()
	}
	return v
}

// ue reads an unsigned Exp-Golomb number (H.264 9.1).
func (r *bits) ue() uint32 {
	zeros := 0
	for r.bit() == 0 {
		zeros++
		if zeros > 31 || r.short {
			r.short = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.u(zeros)
}

// se reads a signed Exp-Golomb number.
func (r *bits) se() int32 {
	v := r.ue()
	if v&1 == 1 {
		return int32(v/2) + 1
	}
	return -int32(v / 2)
}
