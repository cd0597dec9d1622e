// Package capturetest is the other end of a frame socket for tests of capture plugins: it maps buffers, reads pixels and gives
// credit back, as an encoder would. The functional probes use it too, so it returns errors and knows no testing.
package capturetest

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// Encoder reads frames. It belongs to one goroutine.
type Encoder struct {
	source  *framesource.Source
	buffers map[uint32]mapped
}

type mapped struct {
	layout media.Layout
	data   []byte
}

// Picture is one frame. Pix is valid until Release.
type Picture struct {
	framesource.Frame
	Layout media.Layout
	Pix    []byte
}

// Dial connects to the capture plugin at path, which must serve frames of shared memory.
func Dial(ctx context.Context, path string) (*Encoder, error) {
	s, err := framesource.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if s.Kind() != framesource.KindFrames {
		return nil, errors.Join(fmt.Errorf("source kind %d is not a frame socket", s.Kind()), s.Close())
	}
	return &Encoder{source: s, buffers: map[uint32]mapped{}}, nil
}

// Next waits for the next frame; ctx ending ends the connection.
func (e *Encoder) Next(ctx context.Context) (Picture, error) {
	stop := context.AfterFunc(ctx, func() { _ = e.source.Close() })
	defer stop()
	for {
		event, err := e.source.Next()
		if err != nil {
			return Picture{}, errors.Join(err, ctx.Err())
		}
		switch {
		case event.Added != nil:
			err = e.add(event.Added)
		case event.Forgot != nil:
			err = e.forget(*event.Forgot)
		default:
			m := e.buffers[event.Frame.Buffer]
			return Picture{Frame: *event.Frame, Layout: m.layout, Pix: m.data}, nil
		}
		if err != nil {
			return Picture{}, err
		}
	}
}

func (e *Encoder) add(b *framesource.Buffer) error {
	defer b.File.Close()
	data, err := unix.Mmap(int(b.File.Fd()), 0, int(b.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map buffer %d: %w", b.ID, err)
	}
	e.buffers[b.ID] = mapped{layout: b.Layout, data: data}
	return nil
}

func (e *Encoder) forget(id uint32) error {
	m := e.buffers[id]
	delete(e.buffers, id)
	return unix.Munmap(m.data)
}

// Release gives a picture's buffer back.
func (e *Encoder) Release(p Picture) error { return e.source.Release(p.Buffer) }

// Close disconnects and unmaps everything.
func (e *Encoder) Close() error {
	errs := []error{e.source.Close()}
	for id := range e.buffers {
		errs = append(errs, e.forget(id))
	}
	return errors.Join(errs...)
}
