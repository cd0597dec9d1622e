// Package encodetest plays the capture plugin for tests and benchmarks of encoder plugins: on a frame socket, where it draws moving pictures
// into shared memory and keeps account of its credit, and with a private PipeWire.
package encodetest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/encode"
)

// ErrNoCredit is returned by Send when the encoder holds every buffer.
var ErrNoCredit = errors.New("the encoder holds every buffer")

// Capturer serves one encoder. Its methods are called from one goroutine.
type Capturer struct {
	Sink *framesource.Sink

	listener *framesource.Listener
	buffers  map[uint32]*shared
	free     []uint32
	nextID   uint32
	sequence uint64
	picture  int
	painter  *encode.Painter
}

type shared struct {
	file   *os.File
	pixels []byte
	w, h   int
}

// Listen opens the socket at path.
func Listen(path string) (*Capturer, error) {
	l, err := framesource.Listen(path)
	if err != nil {
		return nil, err
	}
	return &Capturer{listener: l, buffers: map[uint32]*shared{}}, nil
}

// Accept waits for the encoder.
func (c *Capturer) Accept() error {
	sink, err := c.listener.AcceptFrames()
	c.Sink = sink
	return err
}

// Register makes n buffers of a size and forgets all others.
func (c *Capturer) Register(n, width, height int) error {
	if err := c.forget(); err != nil {
		return err
	}
	c.painter = encode.NewPainter(width, height)
	for range n {
		if err := c.register(width, height); err != nil {
			return err
		}
	}
	return nil
}

func (c *Capturer) register(width, height int) error {
	size := 4 * width * height
	file, pixels, err := encode.SharedMemory(size)
	if err != nil {
		return err
	}
	id := c.nextID
	c.nextID++
	c.buffers[id] = &shared{file: file, pixels: pixels, w: width, h: height}
	c.free = append(c.free, id)
	return c.Sink.Register(framesource.Buffer{
		ID: id, Memory: framesource.MemoryShared, Size: int64(size), File: file,
		Layout: media.Layout{Width: width, Height: height, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 4 * width}}},
	})
}

func (c *Capturer) forget() error {
	for id, b := range c.buffers {
		if err := c.Sink.Forget(id); err != nil {
			return err
		}
		b.close()
		delete(c.buffers, id)
	}
	c.free = nil
	return nil
}

func (b *shared) close() {
	_ = unix.Munmap(b.pixels)
	_ = b.file.Close()
}

// Draw says how a picture looks; nil is the moving pattern.
type Draw func(pixels []byte, width, height int)

// Black is a picture without light.
func Black(pixels []byte, _, _ int) { clear(pixels) }

// Send draws the next picture into a free buffer and hands it over. It returns ErrNoCredit at once when there is none.
func (c *Capturer) Send(draw Draw) error {
	c.collect()
	if len(c.free) == 0 {
		return ErrNoCredit
	}
	id := c.free[0]
	c.free = c.free[1:]
	b := c.buffers[id]
	if draw == nil {
		c.painter.Paint(b.pixels, c.picture)
	} else {
		draw(b.pixels, b.w, b.h)
	}
	c.picture++
	c.sequence++
	return c.Sink.Send(framesource.Frame{Buffer: id, Sequence: c.sequence, CaptureTime: media.Now()})
}

// Credit is the number of buffers to draw into now.
func (c *Capturer) Credit() int {
	c.collect()
	return len(c.free)
}

// AwaitCredit waits until n buffers are free.
func (c *Capturer) AwaitCredit(n int, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for c.Credit() < n {
		select {
		case <-c.Sink.Ready():
		case <-c.Sink.Done():
			return fmt.Errorf("encoder left: %w", errors.Join(c.Sink.Err(), os.ErrClosed))
		case <-timer.C:
			return fmt.Errorf("%d of %d buffers free after %v", c.Credit(), n, limit)
		}
	}
	return nil
}

func (c *Capturer) collect() { c.Sink.Collect(c.put) }

func (c *Capturer) put(id uint32) {
	if c.buffers[id] != nil {
		c.free = append(c.free, id)
	}
}

// Close ends everything.
func (c *Capturer) Close() {
	_ = c.listener.Close()
	if c.Sink != nil {
		_ = c.Sink.Close()
		<-c.Sink.Done()
	}
	for id, b := range c.buffers {
		b.close()
		delete(c.buffers, id)
	}
}
