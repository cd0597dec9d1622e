package gstpipe

// #include <stdlib.h>
// #include "pictures.h"
import "C"

import (
	"fmt"
	"os"
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

// Buffers are memories that a capturer lends, with a picture in one of them at a time, and takes back. They are used from one
// goroutine; pictures may end anywhere.
type Buffers struct {
	c     *C.wavry_buffers
	kinds map[uint32]kind
}

// kind is what pictures in a buffer look like.
type kind struct {
	layout media.Layout
	dmabuf bool
}

// NewBuffers takes a descriptor of the capturer's frame socket, which stays the caller's and must be open until Close. The capturer is told
// when a picture and all uses of it are gone. With -1 nobody is told, and pictures in one buffer may overlap.
func NewBuffers(socket int) *Buffers {
	Init()
	return &Buffers{c: C.wavry_buffers_new(C.int(socket)), kinds: map[uint32]kind{}}
}

// Close forgets every buffer. Pictures that are alive stay so; the capturer is not told of their end.
func (b *Buffers) Close() { C.wavry_buffers_close(b.c) }

// Add makes a buffer of a descriptor, which is mapped at most once however many pictures come in it. The file stays the caller's; the
// buffer holds a duplicate until it and its pictures are gone. release is the message that gives the buffer back, sent on whatever thread
// drops a picture last, so that no thread of Go's wakes for it; without a socket it is not used. An odd width or height loses its last
// column or row, since 4:2:0 cannot code it.
func (b *Buffers) Add(id uint32, file *os.File, size int64, dmabuf bool, layout media.Layout, release []byte) error {
	name := FormatName(layout.Format)
	if name == "" {
		return fmt.Errorf("pixel format %v is none that an encoder takes", layout.Format)
	}
	layout.Width, layout.Height = layout.Width&^1, layout.Height&^1
	if end, err := extent(layout); err != nil && !(dmabuf && layout.Modifier != 0) { // only a driver knows a tiled buffer's rows
		return err
	} else if err == nil && end > size {
		return fmt.Errorf("%w: it ends at byte %d of %d", ErrLayout, end, size)
	}
	if len(layout.Planes) > C.GST_VIDEO_MAX_PLANES {
		return fmt.Errorf("%w: %d planes", ErrLayout, len(layout.Planes))
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate a frame buffer's descriptor: %w", err)
	}
	native := nativeLayout(layout)
	if C.wavry_buffers_add(b.c, C.guint32(id), C.int(fd), C.gsize(size), cbool(dmabuf), &native,
		unsafe.Pointer(unsafe.SliceData(release)), C.gsize(len(release))) == 0 {
		_ = unix.Close(fd)
		return fmt.Errorf("wrap %d bytes of a descriptor as memory", size)
	}
	b.kinds[id] = kind{layout, dmabuf}
	return nil
}

// Forget gives a buffer's memory back when its last picture is gone. No picture comes in it again.
func (b *Buffers) Forget(id uint32) {
	delete(b.kinds, id)
	C.wavry_buffers_forget(b.c, C.guint32(id))
}

// Take makes a picture that lies in the buffer now; the zero Picture when there is no such buffer or its picture is still in use.
func (b *Buffers) Take(id uint32) Picture {
	k := b.kinds[id]
	return Picture{buffer: C.wavry_buffers_take(b.c, C.guint32(id)), layout: k.layout, dmabuf: k.dmabuf}
}

// Spare reports whether the capturer can draw while one more picture is kept. It may be called from any goroutine.
func (b *Buffers) Spare() bool { return C.wavry_buffers_spare(b.c) != 0 }

func nativeLayout(l media.Layout) C.wavry_layout {
	cname := C.CString(FormatName(l.Format))
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

// Frame is a picture with what is known about it. Whoever holds the frame holds the picture's reference.
type Frame struct {
	Picture Picture
	Capture media.Time
	Handoff media.Time
	Repeat  bool
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
