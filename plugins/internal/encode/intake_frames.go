package encode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// frameIntake takes pictures from a frame socket. Each registered buffer is wrapped, and so mapped, once.
type frameIntake struct {
	source   *framesource.Source
	releases *os.File // another descriptor of the socket, for buffers that go back
	bufs     *gstpipe.Buffers
}

// newFrameIntake takes source over.
func newFrameIntake(source *framesource.Source) (*frameIntake, error) {
	releases, err := source.Releases()
	if err != nil {
		_ = source.Close()
		return nil, err
	}
	return &frameIntake{source: source, releases: releases, bufs: gstpipe.NewBuffers(int(releases.Fd()))}, nil
}

func (in *frameIntake) buffers() *gstpipe.Buffers { return in.bufs }

func (in *frameIntake) run(ctx context.Context, deliver func(gstpipe.Frame) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = in.source.Close() })
	defer stop()
	err := in.receive(deliver)
	_ = in.source.Close() // all that is still with us comes back with the end of the connection
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (in *frameIntake) close() {
	in.bufs.Close()
	_ = in.releases.Close()
}

// receive does what the capturer says until the connection ends (why) or nobody takes pictures any more (nil).
func (in *frameIntake) receive(deliver func(gstpipe.Frame) bool) error {
	for {
		e, err := in.source.Next()
		switch {
		case err != nil:
			return sourceEnd(err)
		case e.Added != nil:
			err = in.add(e.Added)
		case e.Forgot != nil:
			in.bufs.Forget(*e.Forgot)
		case e.Frame != nil:
			f := in.take(e.Frame)
			if !f.Picture.Valid() {
				return fmt.Errorf("buffer %d: %w", e.Frame.Buffer, ErrDoubleUse)
			}
			if !deliver(f) {
				f.Picture.Release()
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// take makes the picture of a frame; an invalid one when the picture before it in the same buffer is still in use.
func (in *frameIntake) take(f *framesource.Frame) gstpipe.Frame {
	now := media.Now()
	return gstpipe.Frame{Picture: in.bufs.Take(f.Buffer), Capture: stamped(f.CaptureTime, now), Handoff: now, Repeat: f.Repeat}
}

// sourceEnd names the ordinary ends of a frame source.
func sourceEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
		return ErrSourceGone
	}
	return fmt.Errorf("read frame source: %w", err)
}

func (in *frameIntake) add(b *framesource.Buffer) error {
	defer b.File.Close() // the memory has a duplicate
	if err := in.bufs.Add(b.ID, b.File, b.Size, b.Memory == framesource.MemoryDMABuf, b.Layout, framesource.ReleaseMessage(b.ID)); err != nil {
		return fmt.Errorf("register frame buffer %d: %w", b.ID, err)
	}
	return nil
}
