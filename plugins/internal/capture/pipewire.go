package capture

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// ServePipeWire hands a PipeWire node to one encoder after the other until l is closed (nil). open returns a new descriptor of the
// PipeWire remote for each encoder. A broken encoder is not the capture's end; a remote that cannot be opened is.
func ServePipeWire(ctx context.Context, l *framesource.Listener, open func() (*os.File, error), node uint32) error {
	for {
		sink, err := l.AcceptPipeWire(open, node)
		switch {
		case errors.Is(err, net.ErrClosed) && ctx.Err() != nil:
			return nil
		case isEncoderGone(err):
			continue
		case err != nil:
			return err
		}
		select {
		case <-sink.Done():
			_ = sink.Close()
		case <-ctx.Done():
			return sink.Close()
		}
	}
}
