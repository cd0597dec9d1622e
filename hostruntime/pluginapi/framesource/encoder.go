package framesource

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/rawio"
)

// Source is the encoder plugin's end.
type Source struct {
	c     *conn
	kind  Kind
	known map[uint32]bool // registered buffers
	frame Frame           // what Event.Frame points to
	id    uint32          // what Event.Forgot points to

	mu   sync.Mutex // guards node
	node Node
}

// Event is what Next returns: exactly one of the fields is set. Frame and Forgot are valid until the next call of Next.
type Event struct {
	Added  *Buffer // map it and keep it; close File after Forgot or at the end
	Forgot *uint32 // its buffer will not be used again
	Frame  *Frame  // encode it, then Release its buffer
	Node   *Node   // go on with this one
}

// Dial connects to the capture plugin at path, or takes the connection that the host runtime handed over when path is inbox.Handed, and
// waits for what it offers.
func Dial(ctx context.Context, path string) (*Source, error) {
	if path == "" {
		return nil, fmt.Errorf("connect to the capture plugin: %w", ErrNoPath)
	}
	nc, err := connect(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("connect to the capture plugin: %w", err)
	}
	c, err := newConn(nc)
	if err != nil {
		return nil, err
	}
	s := &Source{c: c, known: map[uint32]bool{}}
	stop := closeOn(ctx, s.c)
	defer stop()
	if err := s.readHello(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("greet the capture plugin: %w", err)
	}
	return s, nil
}

func connect(ctx context.Context, path string) (*net.UnixConn, error) {
	if path == inbox.Handed {
		return inbox.Receive(ctx, inbox.Source)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

func (s *Source) readHello() error {
	m, fd, err := s.c.receive()
	if err != nil {
		return err
	}
	s.kind, s.node = m.hello.kind, m.node
	s.node.Remote = fd
	switch {
	case m.kind != typeHello:
		return &MessageError{Type: m.kind, Problem: "the first message must be HELLO"}
	case m.hello.version != Version:
		return fmt.Errorf("%w: capture plugin has %d, encoder %d", ErrVersion, m.hello.version, Version)
	case s.kind != KindPipeWire && s.kind != KindFrames:
		return &MessageError{Type: m.kind, Problem: fmt.Sprintf("unknown kind %d", s.kind)}
	}
	return nil
}

// Kind says which of PipeWire and Next to use.
func (s *Source) Kind() Kind { return s.kind }

// PipeWire returns the node that HELLO offered; its remote belongs to the caller from now on, and is nil when asked for again.
func (s *Source) PipeWire() Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.node
	s.node.Remote = nil
	return n
}

// Next blocks for the next event. On a PipeWire source there is none but Node. The ordinary
// end is io.EOF or net.ErrClosed. It is called from one goroutine.
func (s *Source) Next() (Event, error) {
	m, fd, err := s.c.receive()
	if err != nil {
		return Event{}, err
	}
	e, err := s.event(m, fd)
	if err != nil && fd != nil {
		_ = fd.Close()
	}
	return e, err
}

func (s *Source) event(m message, fd *os.File) (Event, error) {
	bad := func(problem string) (Event, error) { return Event{}, &MessageError{Type: m.kind, Problem: problem} }
	switch m.kind {
	case typeBuffer:
		if s.known[m.buffer.ID] {
			return bad("buffer registered twice")
		}
		if len(s.known) >= MaxBuffers {
			return bad(fmt.Sprintf("more than %d buffers", MaxBuffers))
		}
		s.known[m.buffer.ID] = true
		b := m.buffer
		b.File = fd
		return Event{Added: &b}, nil
	case typeForget:
		if !s.known[m.id] {
			return bad("unknown buffer forgotten")
		}
		delete(s.known, m.id)
		s.id = m.id
		return Event{Forgot: &s.id}, nil
	case typeFrame:
		if !s.known[m.frame.Buffer] {
			return bad("frame in an unknown buffer")
		}
		s.frame = m.frame
		return Event{Frame: &s.frame}, nil
	case typeNode:
		if s.kind != KindPipeWire {
			return bad("a node of a frame socket")
		}
		n := m.node
		n.Remote = fd
		return Event{Node: &n}, nil
	}
	return bad("a capturer does not send this after HELLO")
}

// Release gives a frame's buffer back. It may be called from any goroutine.
func (s *Source) Release(buffer uint32) error {
	return s.c.sendID(typeRelease, buffer)
}

// Releases returns another descriptor of the connection, for whoever gives buffers back by ReleaseMessage from outside of Go. It is the
// caller's to close.
func (s *Source) Releases() (*os.File, error) {
	socket, err := rawio.Duplicate(s.c.raw)
	if err != nil {
		return nil, fmt.Errorf("duplicate the capture plugin's connection: %w", err)
	}
	return socket, nil
}

// ReleaseMessage is what Release sends.
func ReleaseMessage(buffer uint32) []byte { return appendID(nil, typeRelease, buffer) }

// Close disconnects. It may be called from any goroutine, more than once.
func (s *Source) Close() error {
	if remote := s.PipeWire().Remote; remote != nil {
		_ = remote.Close() // a socket that nobody used
	}
	return s.c.close()
}
