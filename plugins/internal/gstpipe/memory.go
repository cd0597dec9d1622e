package gstpipe

// #include <stdlib.h>
// #include "bridge.h"
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
)

// formats maps our pixel formats to GStreamer's names.
var formats = map[media.FourCC]string{
	media.FormatXRGB8888: "BGRx",
	media.FormatARGB8888: "BGRA",
	media.FormatXBGR8888: "RGBx",
	media.FormatABGR8888: "RGBA",
	media.FormatNV12:     "NV12",
}

// FormatName is GStreamer's name of a pixel format; empty for one that we do not pass.
func FormatName(f media.FourCC) string { return formats[f] }

func formatOf(name string) media.FourCC {
	for f, n := range formats {
		if n == name {
			return f
		}
	}
	return 0
}

// Memory is a descriptor's memory, mapped at most once in its life, in which pictures come again and again.
type Memory struct {
	memory *C.GstMemory
	layout media.Layout
	c      C.wavry_layout
	dmabuf bool
	owner  *Owner
	id     uint32
}

// Owner learns when pictures of its memories are no longer used by anyone.
type Owner struct {
	gone func(id uint32)
	key  uintptr
}

// owners finds an Owner by the number that C code carries.
var owners = struct {
	sync.RWMutex
	next uintptr
	m    map[uintptr]*Owner
}{m: map[uintptr]*Owner{}}

// NewOwner registers gone, which is called from GStreamer's threads and must not block or call into a pipeline.
func NewOwner(gone func(id uint32)) *Owner {
	Init()
	owners.Lock()
	defer owners.Unlock()
	owners.next++
	o := &Owner{gone: gone, key: owners.next}
	owners.m[o.key] = o
	return o
}

// Close ends the calls; later ends of pictures go unheard.
func (o *Owner) Close() {
	owners.Lock()
	defer owners.Unlock()
	delete(owners.m, o.key)
}

//export wavryPictureGone
func wavryPictureGone(key C.guintptr, id C.guint32) {
	owners.RLock()
	o := owners.m[uintptr(key)]
	owners.RUnlock()
	if o != nil {
		o.gone(uint32(id))
	}
}

// Wrap makes memory of a descriptor. The file stays the caller's; the memory holds a duplicate until it and its pictures are gone.
// An odd width or height loses its last column or row, since 4:2:0 cannot code it.
func (o *Owner) Wrap(file *os.File, size int64, dmabuf bool, layout media.Layout, id uint32) (*Memory, error) {
	name := FormatName(layout.Format)
	if name == "" {
		return nil, fmt.Errorf("pixel format %v is none that an encoder takes", layout.Format)
	}
	layout.Width, layout.Height = layout.Width&^1, layout.Height&^1
	if end, err := extent(layout); err != nil && !(dmabuf && layout.Modifier != 0) { // only a driver knows a tiled buffer's rows
		return nil, err
	} else if err == nil && end > size {
		return nil, fmt.Errorf("%w: it ends at byte %d of %d", ErrLayout, end, size)
	}
	if len(layout.Planes) > C.GST_VIDEO_MAX_PLANES {
		return nil, fmt.Errorf("%w: %d planes", ErrLayout, len(layout.Planes))
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a frame buffer's descriptor: %w", err)
	}
	m := &Memory{layout: layout, dmabuf: dmabuf, owner: o, id: id, c: nativeLayout(layout, name)}
	m.memory = C.wavry_memory_wrap(C.int(fd), C.gsize(size), cbool(dmabuf))
	if m.memory == nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("wrap %d bytes of a descriptor as memory", size)
	}
	return m, nil
}

func nativeLayout(l media.Layout, name string) C.wavry_layout {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	n := C.wavry_layout{
		format: C.gint(C.gst_video_format_from_string(cname)),
		width:  C.guint(l.Width), height: C.guint(l.Height), planes: C.guint(len(l.Planes)),
	}
	for i, p := range l.Planes {
		n.offset[i], n.stride[i] = C.gsize(p.Offset), C.gint(p.Stride)
	}
	return n
}

// Close gives the memory back when its last picture is gone.
func (m *Memory) Close() {
	if m.memory == nil {
		return
	}
	C.gst_mini_object_unref((*C.GstMiniObject)(unsafe.Pointer(m.memory)))
	m.memory = nil
}

// Picture makes a picture that lies in the memory now. The owner hears of the memory's id when the picture and all uses of it
// are gone.
func (m *Memory) Picture() Picture {
	return Picture{
		buffer: C.wavry_picture_new(m.memory, &m.c, C.guintptr(m.owner.key), C.guint32(m.id)),
		layout: m.layout,
		dmabuf: m.dmabuf,
	}
}

// Picture is one reference to a raw picture. The zero Picture is none.
type Picture struct {
	buffer *C.GstBuffer
	layout media.Layout
	dmabuf bool
}

// Valid reports whether there is a picture.
func (p *Picture) Valid() bool { return p.buffer != nil }

// Layout says how it lies in memory; its size is even.
func (p *Picture) Layout() media.Layout { return p.layout }

// DMABuf reports whether it lies in a DMA-BUF.
func (p *Picture) DMABuf() bool { return p.dmabuf }

// Release gives the reference back and makes p the zero Picture. It is idempotent.
func (p *Picture) Release() {
	if p.buffer == nil {
		return
	}
	C.gst_mini_object_unref((*C.GstMiniObject)(unsafe.Pointer(p.buffer)))
	*p = Picture{}
}

// Sample copies the pixels of a columns x rows grid into out, bytesPerPoint each, from plane 0, and returns how many points it
// read: 0 when the memory cannot be read by the CPU. out must hold columns*rows*bytesPerPoint bytes.
func (p *Picture) Sample(out []byte, bytesPerPoint, columns, rows int) int {
	if p.buffer == nil || len(out) < columns*rows*bytesPerPoint || columns*rows == 0 {
		return 0
	}
	return int(C.wavry_sample(p.buffer, 0, C.guint(bytesPerPoint), C.guint(columns), C.guint(rows),
		(*C.guint8)(unsafe.Pointer(&out[0]))))
}

func cbool(b bool) C.gboolean {
	if b {
		return 1
	}
	return 0
}
