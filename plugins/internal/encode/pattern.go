package encode

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// pattern draws pictures that move and never repeat, in shared memory as a capturer would: for probes, tests and benchmarks.
type pattern struct {
	width, height int
	file          *os.File
	pixels        []byte
	painter       *Painter
	buffers       *gstpipe.Buffers
}

func newPattern(width, height int) (*pattern, error) {
	p := &pattern{width: width, height: height}
	size := 4 * width * height
	file, pixels, err := SharedMemory(size)
	if err != nil {
		return nil, err
	}
	p.file, p.pixels = file, pixels
	p.painter = NewPainter(width, height)
	p.buffers = gstpipe.NewBuffers(-1)
	if err := p.buffers.Add(0, file, int64(size), false, p.layout(), nil); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pattern) layout() media.Layout { return packed(p.width, p.height) }

// draw paints picture i. The one drawn before must be out of use.
func (p *pattern) draw(i int) gstpipe.Picture {
	p.painter.Paint(p.pixels, i)
	return p.buffers.Take(0)
}

func (p *pattern) close() {
	p.buffers.Close()
	_ = unix.Munmap(p.pixels)
	_ = p.file.Close()
}

// SharedMemory makes size bytes of sealed shared memory, mapped for writing; the caller unmaps and closes.
func SharedMemory(size int) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("wavry-frame", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("make shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "wavry-frame")
	if err := file.Truncate(int64(size)); err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("size shared memory to %d: %w", size, err)
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("seal shared memory: %w", err)
	}
	pixels, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = file.Close()
		return nil, nil, fmt.Errorf("map shared memory: %w", err)
	}
	return file, pixels, nil
}

// Painter draws pictures that scroll over a gradient and carry their number.
type Painter struct {
	width, height int
	rows          []byte // twice height rows of BGRx that repeat after height, so that a scrolled picture is one copy
}

// NewPainter makes a painter for packed BGRx pictures.
func NewPainter(width, height int) *Painter {
	p := &Painter{width: width, height: height, rows: make([]byte, 2*height*width*4)}
	for y := range 2 * height {
		for x := range width {
			o := (y*width + x) * 4
			p.rows[o], p.rows[o+1] = byte(x*255/width), byte(y%height*255/height)
			p.rows[o+2], p.rows[o+3] = byte((x/16^y%height/16)*8), 255
		}
	}
	return p
}

// Paint draws picture i into dst: the gradient, scrolled by four rows a picture, and the number as black and white blocks.
func (p *Painter) Paint(dst []byte, i int) {
	shift := i * 4 % p.height
	copy(dst, p.rows[shift*p.width*4:][:p.width*p.height*4])
	const block = 8
	for bit := range min(16, p.width/block) {
		level := byte(255 * (i >> bit & 1))
		for y := range min(block, p.height) {
			o := (y*p.width + bit*block) * 4
			for x := range block * 4 {
				dst[o+x] = level
			}
		}
	}
}
