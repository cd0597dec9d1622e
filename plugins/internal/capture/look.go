package capture

import (
	"hash/maphash"

	"github.com/wavry/fleet/hostruntime/media"
)

// lookColumns and lookRows are the sparse grid on which a picture is judged: 64x36 looks cost about 10 us, and every thing larger
// than a 64th of the picture is hit.
const (
	lookColumns = 64
	lookRows    = 36
)

// blackBelow is the highest value of a colour that still counts as black: a dark desktop theme stays above it somewhere.
const blackBelow = 8

// Look is what a glance at a picture says.
type Look struct {
	Black bool   // every looked-at pixel is (nearly) black
	Hash  uint64 // of the looked-at pixels; equal pictures have equal hashes within one Looker
}

// Looker judges pictures of four bytes per pixel.
type Looker struct {
	seed maphash.Seed
	row  [lookColumns * 3]byte
}

// NewLooker returns a Looker with hashes of its own.
func NewLooker() *Looker { return &Looker{seed: maphash.MakeSeed()} }

// Look glances at pix, which has plane 0 of layout.
func (l *Looker) Look(pix []byte, layout media.Layout) Look {
	var h maphash.Hash
	h.SetSeed(l.seed)
	black := true
	plane := layout.Planes[0]
	for j := range lookRows {
		y := (2*j + 1) * layout.Height / (2 * lookRows)
		line := pix[plane.Offset+y*plane.Stride:]
		black = l.sample(line, layout.Width) && black
		_, _ = h.Write(l.row[:]) // never fails
	}
	return Look{Black: black, Hash: h.Sum64()}
}

// sample fills row from line and reports whether all of it is black.
func (l *Looker) sample(line []byte, width int) bool {
	black := true
	for i := range lookColumns {
		x := (2*i + 1) * width / (2 * lookColumns)
		p := l.row[3*i : 3*i+3]
		copy(p, line[4*x:4*x+3]) // without alpha or padding
		black = black && p[0] < blackBelow && p[1] < blackBelow && p[2] < blackBelow
	}
	return black
}
