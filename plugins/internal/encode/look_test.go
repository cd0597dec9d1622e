package encode

import (
	"testing"

	"github.com/wavry/fleet/hostruntime/media"
)

// A grid of points is black only when no point has light, and its hash sees every colour but not the undefined fourth byte.
func TestJudge(t *testing.T) {
	points := make([]byte, 4*gridColumns*gridRows)
	black := judge(points, media.FormatXRGB8888)
	if !black.black || black.hash == 0 {
		t.Fatalf("%+v", black)
	}
	points[7] = 255
	if got := judge(points, media.FormatXRGB8888); got != black {
		t.Error("the fourth byte counts")
	}
	points[len(points)-4] = blackRGB
	if got := judge(points, media.FormatXRGB8888); !got.black || got.hash == black.hash {
		t.Errorf("nearly black blue in the last point: %+v", got)
	}
	points[len(points)-4] = blackRGB + 1
	if got := judge(points, media.FormatXRGB8888); got.black {
		t.Error("blue is black")
	}
	luma := []byte{16, 16, blackVideo}
	if got := judge(luma, media.FormatNV12); !got.black {
		t.Error("video black is not black")
	}
	luma[0] = blackVideo + 1
	if got := judge(luma, media.FormatNV12); got.black {
		t.Error("grey is black")
	}
	if got := judge(nil, media.FormatNV12); got != (look{}) {
		t.Errorf("nothing read: %+v", got)
	}
}

// Looking at a picture copies the grid's points and allocates nothing.
func TestLookAllocates(t *testing.T) {
	p, err := newPattern(640, 360)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	picture := p.draw(5)
	defer picture.Release()
	var l lookout
	l.see(&picture, t0)
	if l.last.black || l.last.hash == 0 {
		t.Fatalf("%+v", l.last)
	}
	first := l.last
	if n := testing.AllocsPerRun(100, func() { l.see(&picture, t0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if l.last != first {
		t.Error("the same picture has another hash")
	}
	other := p.draw(6)
	defer other.Release()
	if l.see(&other, t0); l.last.hash == first.hash {
		t.Error("another picture has the same hash")
	}
	if l.due(t0.Add(sampleEvery-1)) || !l.due(t0.Add(sampleEvery)) {
		t.Error("looks at the wrong times")
	}
}

// BenchmarkLook is one look at a 1080p picture.
func BenchmarkLook(b *testing.B) {
	p, err := newPattern(1920, 1080)
	if err != nil {
		b.Fatal(err)
	}
	defer p.close()
	picture := p.draw(5)
	defer picture.Release()
	var l lookout
	b.ReportAllocs()
	for b.Loop() {
		l.see(&picture, t0)
	}
}
