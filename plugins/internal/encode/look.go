package encode

import (
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// look is what a sparse grid of a picture says. A zero hash means that the picture could not be read (a tiled DMA-BUF).
type look struct {
	black bool
	hash  uint64
}

// lookout looks at pictures now and then and keeps the last result. It owns its grid.
type lookout struct {
	grid [gridColumns * gridRows * 4]byte
	at   media.Time
	last look
}

// due reports whether the last look is old enough.
func (l *lookout) due(now media.Time) bool { return now.Sub(l.at) >= sampleEvery }

// see looks at p.
func (l *lookout) see(p *gstpipe.Picture, now media.Time) {
	l.at = now
	layout := p.Layout()
	if p.DMABuf() && layout.Modifier != 0 {
		l.last = look{} // tiled memory says nothing to a reader who takes it for rows
		return
	}
	size := pointSize(layout.Format)
	n := p.Sample(l.grid[:], size, gridColumns, gridRows)
	l.last = judge(l.grid[:n*size], layout.Format)
}

// pointSize is the bytes of one pixel in the first plane.
func pointSize(f media.FourCC) int {
	if f == media.FormatNV12 {
		return 1
	}
	return 4
}

// Luma at or below these is black: capture paths round, and video range begins at 16.
const (
	blackRGB   = 8
	blackVideo = 20
)

// judge hashes the points' colours (FNV-1a; the fourth byte of RGB formats is undefined) and tests whether all are black.
func judge(points []byte, f media.FourCC) look {
	if len(points) == 0 {
		return look{}
	}
	size := pointSize(f)
	out := look{black: true, hash: 14695981039346656037}
	for i := 0; i+size <= len(points); i += size {
		for _, c := range points[i : i+min(size, 3)] {
			out.hash = (out.hash ^ uint64(c)) * 1099511628211
		}
		if brightness(points[i:i+size]) > blackLevel(size) {
			out.black = false
		}
	}
	if out.hash == 0 {
		out.hash = 1 // zero is kept for pictures that were not read
	}
	return out
}

func blackLevel(size int) byte {
	if size == 1 {
		return blackVideo
	}
	return blackRGB
}

// brightness is the largest component, which is cheaper than luma and stricter: pure blue is not black.
func brightness(p []byte) byte {
	if len(p) == 1 {
		return p[0]
	}
	return max(p[0], p[1], p[2])
}
