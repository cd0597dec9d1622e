package encode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// frameIntake takes pictures from a frame socket. Each registered buffer is wrapped, and so mapped, once.
type frameIntake struct {
	source *framesource.Source
	socket *os.File
	bufs   *gstpipe.Buffers
}

// newFrameIntake takes source over.
func newFrameIntake(source *framesource.Source) (*frameIntake, error) {
	socket, err := source.Detach()
	if err != nil {
		_ = source.Close()
		return nil, err
	}
	return &frameIntake{source: source, socket: socket, bufs: gstpipe.NewBuffers(int(socket.Fd()))}, nil
}

func (in *frameIntake) buffers() *gstpipe.Buffers { return in.bufs }

func (in *frameIntake) run(ctx context.Context, lane *gstpipe.Lane, deliver func(gstpipe.Frame) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = in.source.Close() })
	defer stop()
	err := in.receive(lane, deliver)
	_ = in.source.Close() // all that is still with us comes back with the end of the connection
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (in *frameIntake) close() {
	in.bufs.Close()
	_ = in.socket.Close()
}

func (in *frameIntake) receive(lane *gstpipe.Lane, deliver func(gstpipe.Frame) bool) error {
	for {
		m, err := in.bufs.Read(lane)
		if err != nil {
			return sourceEnd(err)
		}
		f := m.Frame
		if !f.Picture.Valid() {
			if err := in.handle(m); err != nil {
				return err
			}
			continue
		}
		f.Handoff = media.Now()
		f.Capture = stamped(f.Capture, f.Handoff)
		if !deliver(f) {
			f.Picture.Release()
			return nil
		}
		runtime.Gosched() // Read keeps the processor for a while: let the run have the picture first
	}
}

// sourceEnd names the ordinary ends of a frame source.
func sourceEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
		return ErrSourceGone
	}
	return fmt.Errorf("read frame source: %w", err)
}

// handle does what a packet without a picture for us says.
func (in *frameIntake) handle(m gstpipe.Message) error {
	e, err := in.source.Accept(m.Packet, m.Rights, m.Flags)
	switch {
	case err != nil:
		return sourceEnd(err)
	case e.Added != nil:
		return in.add(e.Added)
	case e.Forgot != nil:
		in.bufs.Forget(*e.Forgot)
	case e.Frame != nil:
		return fmt.Errorf("buffer %d: %w", e.Frame.Buffer, ErrDoubleUse)
	}
	return nil
}

func (in *frameIntake) add(b *framesource.Buffer) error {
	defer b.File.Close() // the memory has a duplicate
	if err := in.bufs.Add(b.ID, b.File, b.Size, b.Memory == framesource.MemoryDMABuf, b.Layout); err != nil {
		return fmt.Errorf("register frame buffer %d: %w", b.ID, err)
	}
	return nil
}
