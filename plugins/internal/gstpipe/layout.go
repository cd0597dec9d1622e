package gstpipe

import (
	"fmt"
	"math"

	"github.com/wavry/fleet/hostruntime/media"
)

// maxDimension of a picture in pixels: 16K, as the frame socket has it.
const maxDimension = 16384

// extent checks that a picture's planes are those of its format and returns how many bytes from the start of its memory a reader
// touches. Nothing may be read by the CPU beyond it, so memory that is shorter must be refused.
func extent(l media.Layout) (int64, error) {
	if l.Width < 2 || l.Height < 2 || l.Width > maxDimension || l.Height > maxDimension {
		return 0, fmt.Errorf("%w: %dx%d is outside 2..%d", ErrLayout, l.Width, l.Height, maxDimension)
	}
	rows := []int{4 * l.Width} // bytes per row of each plane
	if l.Format == media.FormatNV12 {
		rows = []int{l.Width, (l.Width + 1) &^ 1}
	}
	if len(l.Planes) != len(rows) {
		return 0, fmt.Errorf("%w: %d planes of format %v, want %d", ErrLayout, len(l.Planes), l.Format, len(rows))
	}
	var end int64
	for i, p := range l.Planes {
		height := l.Height
		if i > 0 {
			height = (height + 1) / 2
		}
		if p.Stride < rows[i] || p.Stride > math.MaxInt32 || p.Offset < 0 || p.Offset > math.MaxInt32 {
			return 0, fmt.Errorf("%w: plane %d with stride %d at offset %d for rows of %d bytes", ErrLayout, i, p.Stride, p.Offset, rows[i])
		}
		end = max(end, int64(p.Offset)+int64(p.Stride)*int64(height-1)+int64(rows[i]))
	}
	return end, nil
}
