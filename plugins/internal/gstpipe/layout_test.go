package gstpipe

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func rgb(w, h, stride, offset int) media.Layout {
	return media.Layout{Width: w, Height: h, Format: media.FormatXRGB8888, Planes: []media.Plane{{Offset: offset, Stride: stride}}}
}

// A layout gives the bytes that a reader touches; one that would read across rows or lacks planes is refused.
func TestExtent(t *testing.T) {
	nv12 := media.Layout{Width: 64, Height: 48, Format: media.FormatNV12, Planes: []media.Plane{{Stride: 64}, {Offset: 64 * 48, Stride: 64}}}
	onePlane := nv12
	onePlane.Planes = nv12.Planes[:1]
	for name, c := range map[string]struct {
		l    media.Layout
		want int64
	}{
		"packed":             {rgb(64, 48, 256, 0), 256 * 48},
		"padded rows":        {rgb(64, 48, 300, 8), 8 + 300*47 + 256},
		"nv12":               {nv12, 64 * 48 * 3 / 2},
		"stride too short":   {rgb(64, 48, 255, 0), 0},
		"stride negative":    {rgb(64, 48, -256, 0), 0},
		"nothing":            {rgb(0, 48, 256, 0), 0},
		"one pixel":          {rgb(1, 1, 4, 0), 0},
		"too large":          {rgb(maxDimension+2, 48, 1<<20, 0), 0},
		"a plane is missing": {onePlane, 0},
	} {
		got, err := extent(c.l)
		if (err == nil) != (c.want > 0) || got != c.want || err != nil && !errors.Is(err, ErrLayout) {
			t.Errorf("%s: %d %v, want %d", name, got, err, c.want)
		}
	}
}

// Each alternative of caps is narrowed to the size; without one they stay.
func TestSizedCaps(t *testing.T) {
	const narrowed = "a, width=(int)640, height=(int)480, max-framerate=(fraction)60/1; b, format=x, width=(int)640, height=(int)480, max-framerate=(fraction)60/1"
	if got := SizedCaps("a; b, format=x", 640, 480); got != narrowed {
		t.Error(got)
	}
	if got := SizedCaps("a; b", 0, 0); got != "a; b" {
		t.Error(got)
	}
}
