package fakeplugin

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// picture is a shared buffer with its mapping.
type picture struct {
	framesource.Buffer
	mem []byte
}

func newPicture(id uint32, width, height int, sealed bool) (*picture, error) {
	size := width * height * 4
	fd, err := unix.MemfdCreate("wavry-fake", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	p := &picture{Buffer: framesource.Buffer{
		ID: id, Memory: framesource.MemoryShared, Size: int64(size),
		Layout: media.Layout{Width: width, Height: height, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: width * 4}}},
		File:   os.NewFile(uintptr(fd), "picture"),
	}}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, fmt.Errorf("size shared memory: %w", err)
	}
	if sealed {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
			return nil, fmt.Errorf("seal shared memory: %w", err)
		}
	}
	if p.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return p, nil
}

func (p *picture) close() {
	_ = unix.Munmap(p.mem)
	_ = p.File.Close()
}

// paint draws a moving bar; step tells pictures apart.
func (p *picture) paint(step uint64) {
	clear(p.mem)
	width, stride := p.Layout.Width, p.Layout.Planes[0].Stride
	x := int(step*4) % width
	for y := range p.Layout.Height {
		row := p.mem[y*stride:]
		for dx := range min(32, width-x) {
			binary.LittleEndian.PutUint32(row[(x+dx)*4:], 0x00e0e0e0)
		}
	}
	binary.LittleEndian.PutUint64(p.mem, step|1<<40)
}

// look hashes a picture (FNV-1a over a sparse grid) and tells whether it is black.
func look(mem []byte, l media.Layout) (hash uint64, black bool) {
	const prime, basis = 1099511628211, 14695981039346656037
	hash, black = basis, true
	stepY, stepX := max(1, l.Height/16), max(1, l.Width/64)
	for y := 0; y < l.Height; y += stepY {
		row := mem[l.Planes[0].Offset+y*l.Planes[0].Stride:]
		for x := 0; x < l.Width; x += stepX {
			pixel := binary.LittleEndian.Uint32(row[x*4:]) & 0xffffff
			black = black && pixel == 0
			hash = (hash ^ uint64(pixel)) * prime
		}
	}
	return hash, black
}
