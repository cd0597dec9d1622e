package capture

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// PipeWire hands a PipeWire node to encoders. The fields are set once.
type PipeWire struct {
	Node uint32
	// Open returns a new descriptor of the PipeWire remote.
	Open func() (*os.File, error)

	mu   sync.Mutex        // guards the following
	size Size              // that the encoder asks the node for; zero: whatever it has
	sink *framesource.Sink // the encoder; nil: none
}

// Ask makes the encoder of now and those to come ask the node for pictures of this size.
func (p *PipeWire) Ask(size Size) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
	if p.sink == nil {
		return nil
	}
	n, err := p.node()
	if err != nil {
		return err
	}
	defer n.Remote.Close()
	return p.sink.Replace(n)
}

// node is called with mu held.
func (p *PipeWire) node() (framesource.Node, error) {
	remote, err := p.Open()
	return framesource.Node{Remote: remote, ID: p.Node, Width: p.size.Width, Height: p.size.Height}, err
}

// Serve serves one encoder after the other until l is closed (nil). A broken encoder is not the capture's end; a remote that cannot
// be opened is.
func (p *PipeWire) Serve(ctx context.Context, l *framesource.Listener) error {
	for {
		sink, err := p.accept(l)
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
		case <-ctx.Done():
		}
		p.mu.Lock()
		p.sink = nil
		p.mu.Unlock()
		_ = sink.Close() // an encoder that is gone, or is told so
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (p *PipeWire) accept(l *framesource.Listener) (*framesource.Sink, error) {
	var asked Size
	sink, err := l.AcceptPipeWire(func() (framesource.Node, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		asked = p.size
		return p.node()
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.sink = sink
	now := p.size
	p.mu.Unlock()
	if now != asked { // changed while the encoder was greeted
		_ = p.Ask(now) // an encoder that is gone shows in Serve
	}
	return sink, nil
}
