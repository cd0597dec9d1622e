package pattern

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

var full = Stamp{
	Time: 1<<48 - 2, Sequence: 0xDEADBEEF, Inputs: 65535, Key: 0x7FFE, KeyDown: true, Buttons: 0x15, X: 1, Y: 65535, Notches: -128,
}

// Every stamp survives the way through its bytes.
func TestBytesRoundTrip(t *testing.T) {
	for _, s := range []Stamp{{}, full, {Key: 30, Notches: 127}} {
		if got, err := Parse(s.Bytes()); err != nil || got != s {
			t.Errorf("Parse(Bytes(%+v)) = %+v, %v", s, got, err)
		}
	}
}

// Each single damaged bit is noticed.
func TestDamageIsNoticed(t *testing.T) {
	for bit := range Size * 8 {
		b := full.Bytes()
		b[bit/8] ^= 0x80 >> (bit % 8)
		if _, err := Parse(b); !errors.Is(err, ErrChecksum) && !errors.Is(err, ErrMagic) {
			t.Errorf("bit %d flipped: %v", bit, err)
		}
	}
}

// The documented vector keeps readers in other languages honest.
func TestVector(t *testing.T) {
	s := Stamp{Time: 0x010203040506, Sequence: 7, Inputs: 8, Key: 30, KeyDown: true, Buttons: 1, X: 0x8000, Y: 0x4000, Notches: -1}
	want := "a701010203040506000000070008801e0180004000ff3385"
	if got := fmt.Sprintf("%x", s.Bytes()); got != want {
		t.Errorf("Bytes() = %s, want %s", got, want)
	}
}

// A strip drawn at any width is read back, also when the picture carries noise and lost contrast as after strong compression.
func TestDrawDecode(t *testing.T) {
	for _, width := range []int{160, 161, 320, 640, 854, 1280, 1366, 1920, 3840} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			pix, stride, height := drawn(t, width, full)
			damage(pix)
			if got, err := Decode(pix, stride, width, height); err != nil || got != full {
				t.Errorf("Decode = %+v, %v", got, err)
			}
		})
	}
}

// A picture scaled down by the nearest pixel still reads.
func TestDecodeScaled(t *testing.T) {
	pix, stride, height := drawn(t, 1280, full)
	const w = 800
	h := height * w / 1280
	small := make([]byte, 4*w*h)
	for y := range h {
		for x := range w {
			copy(small[4*(y*w+x):][:4], pix[y*1280/w*stride+4*(x*1280/w):])
		}
	}
	if got, err := Decode(small, 4*w, w, h); err != nil || got != full {
		t.Errorf("Decode = %+v, %v", got, err)
	}
}

// Pixels without a strip, and too few pixels, are refused and never read out of bounds.
func TestDecodeRefuses(t *testing.T) {
	const w, h = 320, 200
	if _, err := Decode(make([]byte, 4*w*h), 4*w, w, h); !errors.Is(err, ErrMagic) {
		t.Errorf("black picture: %v", err)
	}
	pix, stride, height := drawn(t, w, full)
	for _, c := range []struct{ n, stride, width, height int }{
		{len(pix) - stride, stride, w, height}, {len(pix), 4*w - 1, w, height}, {len(pix), stride, 159, height}, {len(pix), stride, w, 23}, {0, 0, 0, 0},
	} {
		if _, err := Decode(pix[:c.n], c.stride, c.width, c.height); !errors.Is(err, ErrSize) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := Draw(pix, stride, 159, full); !errors.Is(err, ErrSize) {
		t.Errorf("Draw into 159 pixels: %v", err)
	}
}

// Drawing and reading allocate nothing.
func TestNoAllocations(t *testing.T) {
	pix, stride, height := drawn(t, 1280, full)
	n := testing.AllocsPerRun(20, func() {
		if Draw(pix, stride, 1280, full) != nil {
			t.Error("not drawn")
		}
		if _, err := Decode(pix, stride, 1280, height); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	pix, stride, height := drawn(f, 160, full)
	f.Add(pix, stride, 160, height)
	f.Add([]byte{}, 0, 0, 0)
	f.Fuzz(func(t *testing.T, pix []byte, stride, width, height int) {
		if width > 1<<14 || height > 1<<14 || stride > 1<<18 {
			return
		}
		s, err := Decode(pix, stride, width, height)
		if err == nil && s.Bytes() == (Stamp{}).Bytes() && s != (Stamp{}) {
			t.Error("two stamps with the same bytes")
		}
	})
}

func BenchmarkDraw(b *testing.B) {
	pix, stride, _ := drawn(b, 1280, full)
	b.ReportAllocs()
	for b.Loop() {
		_ = Draw(pix, stride, 1280, full)
	}
}

func drawn(t testing.TB, width int, s Stamp) (pix []byte, stride, height int) {
	t.Helper()
	stride, height = 4*width+64, Height(width)+5
	pix = make([]byte, stride*height)
	for i := range pix {
		pix[i] = 0x55
	}
	if err := Draw(pix, stride, width, s); err != nil {
		t.Fatal(err)
	}
	return pix, stride, height
}

// damage squeezes the contrast to a half and adds noise of +-40.
func damage(pix []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i, v := range pix {
		pix[i] = byte(64 + int(v)/2 + r.IntN(81) - 40)
	}
}
