package session

import (
	"time"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// Area is where a viewer shows the picture.
type Area struct {
	Width, Height int     // device pixels; 0: unknown
	Scale         float64 // device pixels of a logical one; 0: unknown
}

func (a Area) known() bool { return a.Width > 0 && a.Height > 0 }

// areaOf reads the fields of Hello and Resize. 4:2:0 needs even sides.
func areaOf(width, height, scale uint16) Area {
	return Area{Width: int(width) &^ 1, Height: int(height) &^ 1, Scale: float64(scale) / streamwire.ScaleUnit}
}

// fit holds a viewer's first picture back until it has the viewer's size: the desktop still has that of whoever was here before, and a
// phone's column is no picture for a laptop. The desktop may not do as it is asked, so it waits for a bounded time.
type fit struct {
	want  Area
	until time.Duration // 0: nothing is held
}

// begin waits for pictures of that area from now on.
func (f *fit) begin(now time.Duration, want Area) { *f = fit{want: want, until: now + fitPatience} }

// answered: the desktop was asked, and has the size or will not. What was captured before is still under way.
func (f *fit) answered(now time.Duration, err error) {
	switch {
	case f.until == 0:
	case err != nil:
		f.until = 0
	default:
		f.until = min(f.until, now+fitSettles)
	}
}

// holds says whether a picture of this size is not yet to be shown.
func (f *fit) holds(now time.Duration, width, height int) bool {
	if f.until == 0 {
		return false
	}
	if now >= f.until || (width == f.want.Width && height == f.want.Height) {
		f.until = 0
	}
	return f.until != 0
}
