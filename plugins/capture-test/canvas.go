package main

import (
	"image"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/capture-test/pattern"
)

// Colours as the bytes B, G, R, x of a pixel.
var (
	boxColour     = [4]byte{0x30, 0xC0, 0xF0, 0xFF}
	pointerColour = [4]byte{0x40, 0x40, 0xFF, 0xFF}
	pressedColour = [4]byte{0x40, 0xFF, 0x40, 0xFF}
	lampColours   = [2][4]byte{{0x60, 0x30, 0x20, 0xFF}, {0xFF, 0xFF, 0xFF, 0xFF}}
)

// boxPeriod is how long the box takes to cross the picture and return.
const boxPeriod = 4_000_000 // microseconds

// scene is the picture at one moment, shared by all canvases of a size: the resting background and the geometry.
type scene struct {
	layout     media.Layout
	background []byte
}

func newScene(layout media.Layout) *scene {
	s := &scene{layout: layout, background: make([]byte, layout.Planes[0].Stride*layout.Height)}
	w, h, stride := layout.Width, layout.Height, layout.Planes[0].Stride
	for y := range h {
		for x := range w {
			copy(s.background[y*stride+4*x:], backgroundPixel(x, y, w, h))
		}
	}
	return s
}

// backgroundPixel is eight colour bars fading downwards, with a fine grid so that scaling and blur are seen.
func backgroundPixel(x, y, w, h int) []byte {
	bar := 8 * x / w
	v := byte(40 + 120*(h-y)/h)
	p := []byte{v / 3, v / 3, v / 3, 0xFF}
	for c := range 3 {
		if bar>>c&1 == 1 {
			p[c] = v
		}
	}
	if x%64 == 0 || y%64 == 0 {
		p[0], p[1], p[2] = p[0]/2+64, p[1]/2+64, p[2]/2+64
	}
	return p
}

// canvas is one frame buffer with the memory of what was drawn into it last, so that only that is erased.
type canvas struct {
	scene *scene
	pix   []byte
	fresh bool // nothing was ever drawn
	dirty [3]image.Rectangle
}

func newCanvas(s *scene, pix []byte) *canvas { return &canvas{scene: s, pix: pix, fresh: true} }

// draw makes the canvas show s. It allocates nothing.
func (c *canvas) draw(s pattern.Stamp) {
	if c.fresh {
		copy(c.pix, c.scene.background)
		c.fresh = false
	}
	for _, r := range c.dirty {
		c.erase(r)
	}
	c.dirty = [3]image.Rectangle{c.scene.box(s), c.scene.lamp(), c.scene.pointer(s)}
	c.fill(c.dirty[0], boxColour)
	c.fill(c.dirty[1], lampColours[s.Inputs&1])
	colour := pointerColour
	if s.Buttons != 0 || s.KeyDown {
		colour = pressedColour
	}
	c.fill(c.dirty[2], colour)
	// The strip is drawn last and wins over the pointer. It fits: newSource refuses smaller sizes.
	_ = pattern.Draw(c.pix, c.scene.layout.Planes[0].Stride, c.scene.layout.Width, s)
}

func (c *canvas) erase(r image.Rectangle) {
	stride := c.scene.layout.Planes[0].Stride
	for y := r.Min.Y; y < r.Max.Y; y++ {
		from, to := y*stride+4*r.Min.X, y*stride+4*r.Max.X
		copy(c.pix[from:to], c.scene.background[from:to])
	}
}

func (c *canvas) fill(r image.Rectangle, colour [4]byte) {
	if r.Empty() {
		return
	}
	stride := c.scene.layout.Planes[0].Stride
	first := c.pix[r.Min.Y*stride+4*r.Min.X : r.Min.Y*stride+4*r.Max.X]
	for i := 0; i < len(first); i += 4 {
		copy(first[i:], colour[:])
	}
	for y := r.Min.Y + 1; y < r.Max.Y; y++ {
		copy(c.pix[y*stride+4*r.Min.X:], first)
	}
}

func (s *scene) bounds() image.Rectangle { return image.Rect(0, 0, s.layout.Width, s.layout.Height) }

// box is the moving thing: its place depends on the time only, so its speed does not depend on the frame rate.
func (s *scene) box(st pattern.Stamp) image.Rectangle {
	side := s.layout.Width / 10
	way := s.layout.Width - side
	phase := int(st.Time % boxPeriod)
	x := 2 * way * phase / boxPeriod
	if x > way {
		x = 2*way - x
	}
	top := pattern.Height(s.layout.Width)
	y := top + (s.layout.Height-top-side)/2
	return image.Rect(x, y, x+side, y+side).Intersect(s.below())
}

// below is the picture under the strip.
func (s *scene) below() image.Rectangle {
	r := s.bounds()
	r.Min.Y = min(pattern.Height(s.layout.Width), r.Max.Y)
	return r
}

// lamp is the field at the top right that changes with every input, for human eyes and cameras.
func (s *scene) lamp() image.Rectangle {
	w := s.layout.Width
	return image.Rect(w-w/10, 0, w, min(pattern.Height(w), s.layout.Height))
}

func (s *scene) pointer(st pattern.Stamp) image.Rectangle {
	b := s.bounds()
	x, y, half := int(st.X)*(b.Dx()-1)/65535, int(st.Y)*(b.Dy()-1)/65535, max(b.Dx()/80, 2)
	return image.Rect(x-half, y-half, x+half, y+half).Intersect(b)
}
