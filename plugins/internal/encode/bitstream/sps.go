package bitstream

import (
	"errors"
	"fmt"
)

// ErrSPS is returned for a sequence parameter set that ends early or has values outside the standard.
var ErrSPS = errors.New("bad H.264 sequence parameter set")

// SPS is what we care about in an H.264 sequence parameter set (ITU-T H.264 7.3.2.1.1 and annex E).
type SPS struct {
	Profile     uint8 // profile_idc
	Constraints uint8 // constraint_set0..5 flags, highest bit first
	Level       uint8 // level_idc
	// Width and Height are visible pixels, after cropping.
	Width, Height int
	RefFrames     int
	// Restricted says that the VUI tells MaxReorder and MaxBuffering; a decoder without them must wait for a full buffer.
	Restricted               bool
	MaxReorder, MaxBuffering int
	// PicOrder is pic_order_cnt_type: 2 means output order is decoding order.
	PicOrder int

	// Bit positions, after profile and level and without emulation prevention: of vui_parameters_present_flag, and of
	// bitstream_restriction_flag when there is a VUI, else 0.
	vuiAt, restrictAt int
}

// CodecString is what WebCodecs and MP4 call it: avc1.PPCCLL.
func (s SPS) CodecString() string {
	return fmt.Sprintf("avc1.%02X%02X%02X", s.Profile, s.Constraints, s.Level)
}

// maxMacroblocks bounds width and height: 16384 pixels.
const maxMacroblocks = 1024

// ParseSPS reads a NAL unit of type 7.
func ParseSPS(nal []byte) (SPS, error) {
	if len(nal) == 0 || nal[0]&0x1f != nalSPS {
		return SPS{}, fmt.Errorf("%w: not one", ErrSPS)
	}
	raw := unescape(nal[1:])
	if len(raw) < 4 {
		return SPS{}, fmt.Errorf("%w: truncated at %d bytes", ErrSPS, len(nal))
	}
	r := &bits{b: raw[3:]}
	s := SPS{Profile: raw[0], Constraints: raw[1], Level: raw[2]}
	r.ue() // seq_parameter_set_id
	chroma := s.chroma(r)
	r.ue() // log2_max_frame_num_minus4
	s.picOrder(r)
	s.RefFrames = int(r.ue())
	r.bit() // gaps_in_frame_num_value_allowed_flag
	if err := s.size(r, chroma); err != nil {
		return SPS{}, err
	}
	s.vuiAt = r.at
	if r.flag() {
		s.vui(r)
	}
	if r.short {
		return SPS{}, fmt.Errorf("%w: truncated at %d bytes", ErrSPS, len(nal))
	}
	return s, nil
}

// chroma reads the fields of the high profiles and returns chroma_format_idc.
func (s *SPS) chroma(r *bits) uint32 {
	switch s.Profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
	default:
		return 1
	}
	format := r.ue()
	if format == 3 {
		r.bit()
	}
	r.ue() // bit_depth_luma_minus8
	r.ue() // bit_depth_chroma_minus8
	r.bit()
	if r.flag() {
		scalingLists(r, format)
	}
	return format
}

func scalingLists(r *bits, format uint32) {
	lists := 8
	if format == 3 {
		lists = 12
	}
	for i := range lists {
		if !r.flag() {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int32(8), int32(8)
		for range size {
			if next != 0 {
				next = (last + r.se() + 256) % 256
			}
			if next != 0 {
				last = next
			}
		}
	}
}

func (s *SPS) picOrder(r *bits) {
	s.PicOrder = int(r.ue())
	switch s.PicOrder {
	case 0:
		r.ue()
	case 1:
		r.bit()
		r.se()
		r.se()
		for range min(r.ue(), 255) {
			r.se()
		}
	}
}

func (s *SPS) size(r *bits, chroma uint32) error {
	w, h := r.ue()+1, r.ue()+1
	frameOnly := r.bit()
	if frameOnly == 0 {
		r.bit() // mb_adaptive_frame_field_flag
	}
	r.bit() // direct_8x8_inference_flag
	if w > maxMacroblocks || h > maxMacroblocks {
		return fmt.Errorf("%w: %dx%d macroblocks", ErrSPS, w, h)
	}
	s.Width, s.Height = int(w)*16, int(h)*16*int(2-frameOnly)
	if !r.flag() {
		return nil
	}
	unitX, unitY := 1, int(2-frameOnly)
	if chroma == 1 || chroma == 2 {
		unitX = 2
	}
	if chroma == 1 {
		unitY *= 2
	}
	left, right, top, bottom := r.ue(), r.ue(), r.ue(), r.ue()
	if max(left, right, top, bottom) > 16*maxMacroblocks {
		return fmt.Errorf("%w: cropping", ErrSPS)
	}
	s.Width -= unitX * int(left+right)
	s.Height -= unitY * int(top+bottom)
	if s.Width <= 0 || s.Height <= 0 {
		return fmt.Errorf("%w: cropped to nothing", ErrSPS)
	}
	return nil
}

func (s *SPS) vui(r *bits) {
	if r.flag() && r.u(8) == 255 { // aspect_ratio_idc Extended_SAR
		r.u(32)
	}
	if r.flag() {
		r.bit() // overscan
	}
	if r.flag() {
		r.u(4) // video_format, full range
		if r.flag() {
			r.u(24)
		}
	}
	if r.flag() {
		r.ue()
		r.ue()
	}
	if r.flag() { // timing
		r.u(32)
		r.u(32)
		r.bit()
	}
	nal := r.flag()
	if nal {
		hrd(r)
	}
	vcl := r.flag()
	if vcl {
		hrd(r)
	}
	if nal || vcl {
		r.bit() // low_delay_hrd_flag
	}
	r.bit() // pic_struct_present_flag
	s.restrictAt = r.at
	s.Restricted = r.flag()
	if !s.Restricted {
		return
	}
	r.bit()
	r.ue()
	r.ue()
	r.ue()
	r.ue()
	s.MaxReorder, s.MaxBuffering = int(r.ue()), int(r.ue())
}

func hrd(r *bits) {
	n := min(r.ue(), 31) + 1
	r.u(8)
	for range n {
		r.ue()
		r.ue()
		r.bit()
	}
	r.u(20)
}
