package bitstream

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/wavry/fleet/hostruntime/media"
)

// sps720 is x264's for 1280x720 constrained baseline, with a VUI that restricts reordering.
const sps720 = "6742c020da01405b9b010100140000030004000003 00f03c60c654"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// plainSPS writes a constrained-baseline SPS without a VUI for w x h macroblocks.
func plainSPS(w, h, crop uint32) []byte {
	b := &bitWriter{}
	b.ue(0) // id
	b.ue(0) // log2_max_frame_num
	b.ue(0) // pic_order_cnt_type
	b.ue(0)
	b.ue(1) // refs
	b.bit(0)
	b.ue(w - 1)
	b.ue(h - 1)
	b.bit(1)
	b.bit(1)
	b.bit(min(crop, 1))
	if crop > 0 {
		b.ue(0)
		b.ue(0)
		b.ue(0)
		b.ue(crop)
	}
	b.bit(0) // no VUI
	b.bit(1)
	return appendEscaped([]byte{0x67}, append([]byte{66, 0xc0, 31}, b.b...))
}

func unit(nals ...[]byte) []byte {
	var out []byte
	for i, n := range nals {
		if i%2 == 0 {
			out = append(out, 0) // both forms of the start code
		}
		out = append(append(out, 0, 0, 1), n...)
	}
	return out
}

// NAL units are found behind both start codes; padding belongs to none.
func TestNextNAL(t *testing.T) {
	b := append([]byte{9, 9}, unit([]byte{1, 2}, []byte{3}, []byte{4, 0, 0, 3, 5})...)
	b = append(b, 0, 0)
	var got [][]byte
	for nal, rest := NextNAL(b); nal != nil; nal, rest = NextNAL(rest) {
		got = append(got, nal)
	}
	want := [][]byte{{1, 2}, {3}, {4, 0, 0, 3, 5}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("unit %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// A plain SPS gives its size after cropping, and every truncation is an error.
func TestParseSPS(t *testing.T) {
	s, err := ParseSPS(plainSPS(120, 68, 4))
	if err != nil || s.Width != 1920 || s.Height != 1080 || s.Restricted || s.RefFrames != 1 || s.CodecString() != "avc1.42C01F" {
		t.Fatalf("%+v %v", s, err)
	}
	full := plainSPS(120, 68, 4)
	for n := range len(full) - 1 {
		if got, err := ParseSPS(full[:n]); err == nil {
			t.Errorf("%d of %d bytes give %+v", n, len(full), got)
		}
	}
	if _, err := ParseSPS([]byte{0x68, 1, 2, 3, 4, 5}); err == nil {
		t.Error("a PPS is taken for an SPS")
	}
}

// An SPS that says nothing about reordering is made to say that there is none, and keeps all else.
func TestRestrictReorder(t *testing.T) {
	before, err := ParseSPS(plainSPS(80, 45, 0))
	if err != nil {
		t.Fatal(err)
	}
	pps, idr := []byte{0x68, 0xce, 0x38, 0x80}, []byte{0x65, 0x88, 0x84}
	out := RestrictReorder(unit(plainSPS(80, 45, 0), pps, idr))
	after, err := ParseSPS(FindSPS(out))
	if err != nil || !after.Restricted || after.MaxReorder != 0 || after.MaxBuffering != 1 {
		t.Fatalf("%+v %v", after, err)
	}
	if after.Width != before.Width || after.Height != before.Height || after.Level != before.Level {
		t.Errorf("%+v became %+v", before, after)
	}
	if !bytes.Contains(out, pps) || !bytes.HasSuffix(out, idr) {
		t.Error("the other units changed")
	}
	if again := RestrictReorder(out); &again[0] != &out[0] {
		t.Error("a restricted SPS is written again")
	}
	if plain := unit(idr); &RestrictReorder(plain)[0] != &plain[0] {
		t.Error("a unit without SPS is copied")
	}
}

// Keyframes, parameter sets and slices are seen in all three codecs.
func TestInspect(t *testing.T) {
	for name, c := range map[string]struct {
		codec media.Codec
		unit  []byte
		want  Info
	}{
		"h264 key":    {media.CodecH264, unit([]byte{0x67, 1}, []byte{0x68, 1}, []byte{0x65, 1}, []byte{0x65, 2}), Info{Picture: true, Key: true, Params: true, Slices: 2}},
		"h264 bare":   {media.CodecH264, unit([]byte{0x65, 1}), Info{Picture: true, Key: true, Slices: 1}},
		"h264 delta":  {media.CodecH264, unit([]byte{0x41, 1}, []byte{0x41, 2}), Info{Picture: true, Slices: 1}},
		"h264 sei":    {media.CodecH264, unit([]byte{0x06, 1}), Info{}},
		"hevc key":    {media.CodecHEVC, unit([]byte{32 << 1, 1, 1}, []byte{33 << 1, 1}, []byte{34 << 1, 1}, []byte{19 << 1, 1}), Info{Picture: true, Key: true, Params: true, Slices: 1}},
		"hevc delta":  {media.CodecHEVC, unit([]byte{1 << 1, 1}), Info{Picture: true, Slices: 1}},
		"av1 key":     {media.CodecAV1, []byte{0x12, 0, 0x0a, 1, 0, 0x32, 2, 0x10, 0}, Info{Picture: true, Key: true, Params: true, Slices: 1}},
		"av1 delta":   {media.CodecAV1, []byte{0x12, 0, 0x32, 1, 0x30}, Info{Picture: true, Slices: 1}},
		"av1 cut off": {media.CodecAV1, []byte{0x12, 0, 0x32, 9, 0x30}, Info{}},
		"nothing":     {media.CodecH264, nil, Info{}},
	} {
		if got := Inspect(c.codec, c.unit); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Parameter sets are taken out of a unit in every codec.
func TestAppendParams(t *testing.T) {
	sps, pps := []byte{0x67, 1}, []byte{0x68, 2}
	got := AppendParams(nil, media.CodecH264, unit(sps, pps, []byte{0x65, 3}))
	if !bytes.Equal(got, []byte{0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2}) {
		t.Errorf("%x", got)
	}
	av1 := []byte{0x12, 0, 0x0a, 2, 7, 8, 0x32, 1, 0x10}
	if got := AppendParams(nil, media.CodecAV1, av1); !bytes.Equal(got, av1[2:6]) {
		t.Errorf("%x", got)
	}
	if i := Inspect(media.CodecHEVC, AppendParams(nil, media.CodecHEVC, unit([]byte{64, 1}, []byte{66, 1}, []byte{68, 1}, []byte{38, 1}))); !i.Params || i.Picture {
		t.Errorf("%+v", i)
	}
}

// A delta unit is inspected without allocating and without reading its slices.
func TestInspectAllocates(t *testing.T) {
	u := unit(append([]byte{0x41}, bytes.Repeat([]byte{7}, 1<<16)...))
	if n := testing.AllocsPerRun(100, func() { Inspect(media.CodecH264, u) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzUnit: no bytes make any function panic, and what RestrictReorder writes it can read.
func FuzzUnit(f *testing.F) {
	f.Add(uint8(1), unit(plainSPS(120, 68, 4), []byte{0x68, 1}, []byte{0x65, 1}))
	f.Add(uint8(2), unit([]byte{64, 1}, []byte{38, 1}))
	f.Add(uint8(3), []byte{0x12, 0, 0x0a, 2, 7, 8, 0x32, 1, 0x10})
	f.Add(uint8(1), unit(unhex(f, sps720)))
	f.Fuzz(func(t *testing.T, codec uint8, b []byte) {
		c := media.Codec(codec)
		Inspect(c, b)
		AppendParams(nil, c, b)
		EncoderNote(b)
		before, err := ParseSPS(FindSPS(b))
		if err != nil {
			return
		}
		after, err := ParseSPS(FindSPS(RestrictReorder(b)))
		if err != nil || !after.Restricted {
			t.Fatalf("%x: %+v became %+v, %v", b, before, after, err)
		}
		if before.Width != after.Width || before.Height != after.Height || (before.Restricted && before.MaxReorder != after.MaxReorder) {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}
