package encode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// frameIntake takes pictures from a frame socket. Each registered buffer is wrapped, and so mapped, once.
type frameIntake struct {
	source *framesource.Source
	owner  *gstpipe.Owner

	mu      sync.Mutex // guards the following
	buffers map[uint32]*buffer
	serials map[uint32]*buffer
	serial  uint32
	ours    int // buffers with us
}

// buffer is one registration; a later one of the same id has another serial.
type buffer struct {
	id     uint32
	serial uint32
	memory *gstpipe.Memory
	ours   bool // a frame in it is with us
	forgot bool
}

func newFrameIntake(source *framesource.Source) *frameIntake {
	return &frameIntake{
		source:  source,
		buffers: map[uint32]*buffer{},
		serials: map[uint32]*buffer{},
	}
}

func (in *frameIntake) run(ctx context.Context, deliver func(frame) bool) error {
	in.owner = gstpipe.NewOwner(in.onGone)
	defer in.owner.Close()
	stop := context.AfterFunc(ctx, func() { _ = in.source.Close() })
	defer stop()
	err := in.receive(ctx, deliver)
	_ = in.source.Close() // all that is still with us comes back with the end of the connection
	in.forgetAll()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (in *frameIntake) receive(ctx context.Context, deliver func(frame) bool) error {
	for {
		e, err := in.source.Next()
		if err != nil {
			return sourceEnd(err)
		}
		switch {
		case e.Added != nil:
			err = in.add(e.Added)
		case e.Forgot != nil:
			in.forget(*e.Forgot)
		case e.Frame != nil:
			var f frame
			if f, err = in.take(e.Frame); err == nil && !deliver(f) {
				f.picture.Release()
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// sourceEnd names the ordinary ends of a frame source.
func sourceEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return ErrSourceGone
	}
	return fmt.Errorf("read frame source: %w", err)
}

func (in *frameIntake) add(b *framesource.Buffer) error {
	defer b.File.Close() // the memory has a duplicate
	in.mu.Lock()
	in.serial++
	serial := in.serial
	in.mu.Unlock()
	memory, err := in.owner.Wrap(b.File, b.Size, b.Memory == framesource.MemoryDMABuf, b.Layout, serial)
	if err != nil {
		return fmt.Errorf("register frame buffer %d: %w", b.ID, err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	r := &buffer{id: b.ID, serial: serial, memory: memory}
	in.buffers[b.ID], in.serials[serial] = r, r
	return nil
}

func (in *frameIntake) forget(id uint32) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r := in.buffers[id]
	if r == nil {
		return
	}
	delete(in.buffers, id)
	r.forgot = true
	r.memory.Close()
	if !r.ours {
		delete(in.serials, r.serial)
	}
}

func (in *frameIntake) forgetAll() {
	in.mu.Lock()
	ids := make([]uint32, 0, len(in.buffers))
	for id := range in.buffers {
		ids = append(ids, id)
	}
	in.mu.Unlock()
	for _, id := range ids {
		in.forget(id)
	}
}

func (in *frameIntake) take(f *framesource.Frame) (frame, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r := in.buffers[f.Buffer]
	if r == nil || r.ours {
		return frame{}, fmt.Errorf("buffer %d: %w", f.Buffer, ErrDoubleUse)
	}
	r.ours = true
	in.ours++
	now := media.Now()
	return frame{picture: r.memory.Picture(), capture: stamped(f.CaptureTime, now), handoff: now, repeat: f.Repeat}, nil
}

// onGone gives a buffer back. It is called from GStreamer's threads and may be: it never waits, since the socket holds far more
// messages than there are buffers.
func (in *frameIntake) onGone(serial uint32) {
	if id, ok := in.free(serial); ok {
		_ = in.source.Release(id) // an error is the connection's end: receive says why
	}
}

// free notes that a buffer is no longer with us; false means that the capturer does not wait for it.
func (in *frameIntake) free(serial uint32) (id uint32, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r := in.serials[serial]
	if r == nil {
		return 0, false
	}
	r.ours = false
	in.ours--
	if r.forgot {
		delete(in.serials, serial)
	}
	return r.id, !r.forgot
}

// spare: the capturer keeps at least one buffer to draw into.
func (in *frameIntake) spare() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.buffers)-in.ours >= 1
}
