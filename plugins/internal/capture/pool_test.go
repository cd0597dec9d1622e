package capture_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/capture/capturetest"
)

// connected is a pool with its encoder.
type connected struct {
	t       *testing.T
	ctx     context.Context
	pool    *capture.Pool
	encoder *capturetest.Encoder
	l       *framesource.Listener
	path    string
}

func connect(t *testing.T) *connected {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	path := filepath.Join(t.TempDir(), "source")
	l, err := framesource.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &connected{t: t, ctx: ctx, pool: &capture.Pool{}, l: l, path: path}
	t.Cleanup(func() {
		_ = c.encoder.Close()
		if err := c.pool.Close(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
		cancel()
	})
	c.attach()
	c.fill(64, 64, capture.Buffers)
	return c
}

// attach makes a new encoder the pool's.
func (c *connected) attach() {
	c.t.Helper()
	dialled := make(chan error, 1)
	var e *capturetest.Encoder
	go func() { // ends with the greeting
		var err error
		e, err = capturetest.Dial(c.ctx, c.path)
		dialled <- err
	}()
	sink, err := c.l.AcceptFrames()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := <-dialled; err != nil {
		c.t.Fatal(err)
	}
	c.pool.Attach(sink)
	c.encoder = e
}

func (c *connected) fill(width, height, n int) {
	c.t.Helper()
	var buffers []*capture.Buffer
	for range n {
		buffers = append(buffers, buffer(c.t, width, height))
	}
	if err := c.pool.Replace(buffers); err != nil {
		c.t.Fatal(err)
	}
}

func buffer(t testing.TB, width, height int) *capture.Buffer {
	t.Helper()
	b, err := capture.NewSharedBuffer(media.Layout{
		Width: width, Height: height, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 4 * width}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// send puts v into a free buffer and sends it.
func (c *connected) send(v byte) bool {
	b := c.pool.Take()
	if b == nil {
		return false
	}
	b.Data[0] = v
	c.pool.Send(b, media.Time(v), false)
	return true
}

func (c *connected) next() capturetest.Picture {
	c.t.Helper()
	p, err := c.encoder.Next(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// A buffer is lent until released, never written meanwhile, and comes back.
func TestPoolLends(t *testing.T) {
	c := connect(t)
	for v := range byte(capture.Buffers) {
		if !c.send(v) {
			t.Fatalf("no buffer for picture %d", v)
		}
	}
	if c.send(99) {
		t.Error("a fifth buffer")
	}
	c.pool.Drop()
	var held []capturetest.Picture
	for v := range byte(capture.Buffers) {
		p := c.next()
		if p.Pix[0] != v || p.CaptureTime != media.Time(v) || p.Sequence != uint64(v) {
			t.Errorf("picture %d is %+v with %d", v, p.Frame, p.Pix[0])
		}
		held = append(held, p)
	}
	if err := c.encoder.Release(held[2]); err != nil {
		t.Fatal(err)
	}
	if !c.send(42) {
		t.Fatal("a released buffer is not free")
	}
	if p := c.next(); p.Buffer != held[2].Buffer || p.Pix[0] != 42 || p.Sequence != capture.Buffers+1 {
		t.Errorf("picture %+v", p.Frame)
	}
	if n := c.pool.Counters(); n.Frames != capture.Buffers+1 || n.Dropped != 1 || n.LastFrame != 42 {
		t.Errorf("counters %+v", n)
	}
}

// New buffers replace old ones under the encoder, any number of times, and late releases of old ones free nothing.
func TestPoolReplace(t *testing.T) {
	c := connect(t)
	for i := range 5 {
		c.fill(64+i, 64, capture.Buffers)
		for range capture.Buffers {
			c.send(byte(i))
		}
		old := c.next()
		c.fill(200+i, 100, capture.Buffers)
		if err := c.encoder.Release(old); err != nil {
			t.Fatal(err)
		}
		c.send(7)
		p := c.next()
		for p.Layout.Width != 200+i {
			p = c.next()
		}
		if p.Pix[0] != 7 {
			t.Errorf("picture says %d", p.Pix[0])
		}
	}
}

// The newest picture can be repeated once the encoder gave it back, and is kept for that while other buffers are free.
func TestPoolRepeat(t *testing.T) {
	c := connect(t)
	c.pool.Repeat(1) // nothing yet
	c.send(1)
	c.send(2)
	first, second := c.next(), c.next()
	c.pool.Repeat(3) // the encoder has it
	for _, p := range []capturetest.Picture{first, second} {
		if err := c.encoder.Release(p); err != nil {
			t.Fatal(err)
		}
	}
	for range capture.Buffers - 1 {
		if b := c.pool.Take(); b == nil || b.ID == second.Buffer {
			t.Fatal("the newest picture is overwritten although others are free")
		}
	}
	c.pool.Repeat(4)
	if p := c.next(); !p.Repeat || p.Buffer != second.Buffer || p.Pix[0] != 2 || p.CaptureTime != 4 || p.Sequence != 2 {
		t.Errorf("repeated %+v", p.Frame)
	}
	if err := c.encoder.Release(second); err != nil {
		t.Fatal(err)
	}
	if b := c.pool.Take(); b == nil || b.ID != second.Buffer {
		t.Error("the last buffer is not given at all")
	}
	c.pool.Repeat(5) // overwritten
	if n := c.pool.Counters(); n.Frames != 3 {
		t.Errorf("%d frames", n.Frames)
	}
}

// An encoder that comes after another finds all buffers free and registered anew.
func TestPoolNewEncoder(t *testing.T) {
	c := connect(t)
	for range capture.Buffers {
		c.send(1)
	}
	first := c.encoder
	defer first.Close()
	c.attach()
	for range capture.Buffers {
		if !c.send(2) {
			t.Fatal("buffers are lost with the first encoder")
		}
		if p := c.next(); p.Pix[0] != 2 {
			t.Errorf("picture says %d", p.Pix[0])
		}
	}
}

// Without an encoder a picture is a drop, and its buffer stays free.
func TestPoolWithoutEncoder(t *testing.T) {
	c := connect(t)
	c.pool.Detach()
	for range 3 * capture.Buffers {
		if !c.send(1) {
			t.Fatal("a buffer is lost")
		}
	}
	if n := c.pool.Counters(); n.Dropped != 3*capture.Buffers || n.Frames != 0 {
		t.Errorf("counters %+v", n)
	}
	if c.pool.Attached() || c.pool.Gone() != nil || c.pool.Ready() != nil {
		t.Error("there is still an encoder")
	}
}

// Memory is sealed against every change of its size, and gone after Close.
func TestMemory(t *testing.T) {
	m, err := capture.NewMemory("test", 4096)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(m.File.Fd())
	for _, size := range []int64{0, 8192} {
		if err := unix.Ftruncate(fd, size); err == nil {
			t.Errorf("size changed to %d", size)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err == nil {
		t.Error("seals can still be added")
	}
	before := open(t)
	if err := m.Close(); err != nil || m.Close() != nil {
		t.Error(err)
	}
	if open(t) != before-1 {
		t.Error("the descriptor is still open")
	}
	if _, err := capture.NewMemory("none", 0); err == nil {
		t.Error("nothing was mapped")
	}
	if open(t) != before-1 {
		t.Error("the failed one left a descriptor")
	}
}

// open counts descriptors of shared memory; an encoder's connection closes in its own time.
func open(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(link, "/memfd:") {
			n++
		}
	}
	return n
}
