package capture

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// Encoders accepts encoders that take frames and yields them, the newest being the one to serve.
type Encoders struct {
	// C yields each encoder once. The receiver owns it.
	C    <-chan *framesource.Sink
	done chan struct{}
	err  error
}

// AcceptEncoders accepts on l until it is closed or ctx ends.
func AcceptEncoders(ctx context.Context, l *framesource.Listener) *Encoders {
	c := make(chan *framesource.Sink)
	e := &Encoders{C: c, done: make(chan struct{})}
	go func() { // ends when l is closed
		defer close(e.done)
		e.err = e.accept(ctx, l, c)
	}()
	return e
}

func (e *Encoders) accept(ctx context.Context, l *framesource.Listener, c chan<- *framesource.Sink) error {
	for {
		sink, err := l.AcceptFrames()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case isEncoderGone(err):
			continue
		case err != nil:
			return err
		}
		select {
		case c <- sink:
		case <-ctx.Done():
			return sink.Close()
		}
	}
}

// Done is closed when no more encoders come; then Err says why.
func (e *Encoders) Done() <-chan struct{} { return e.done }

// Err is nil after an ordinary end. Valid after Done.
func (e *Encoders) Err() error { return e.err }

// isEncoderGone reports that an encoder left while it was being greeted: the next one may come.
func isEncoderGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}
