package framesource

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Listener is the capture plugin's end: it waits for encoders, one after the other.
type Listener struct {
	l *net.UnixListener
}

// Listen creates the socket at path. Close removes it.
func Listen(path string) (*Listener, error) {
	if path == "" { // the kernel would invent an abstract name, open to every user of the machine
		return nil, fmt.Errorf("listen for an encoder: %w", ErrNoPath)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen for an encoder: %w", err)
	}
	return &Listener{l: l}, nil
}

// Close ends waiting Accepts with net.ErrClosed; sinks already accepted stay open.
func (l *Listener) Close() error { return l.l.Close() }

// AcceptPipeWire waits for an encoder and hands it the PipeWire node that open returns, whose remote is closed here after it was
// sent. The returned sink takes another node (Replace) and tells when the encoder left.
func (l *Listener) AcceptPipeWire(open func() (Node, error)) (*Sink, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	n, err := open()
	if err != nil {
		_ = c.close()
		return nil, fmt.Errorf("open PipeWire remote: %w", err)
	}
	defer n.Remote.Close()
	return startSink(c, KindPipeWire, n)
}

// AcceptFrames waits for an encoder that takes frames from this process.
func (l *Listener) AcceptFrames() (*Sink, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	return startSink(c, KindFrames, Node{})
}

func (l *Listener) accept() (*conn, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("accept an encoder: %w", err)
	}
	return newConn(c)
}

// Sink is one connected encoder as the capturer sees it. Register, Send and Forget are called from one goroutine.
type Sink struct {
	c        *conn
	released chan uint32
	done     chan struct{}

	mu  sync.Mutex // guards err
	err error
}

func startSink(c *conn, kind Kind, n Node) (*Sink, error) {
	h := hello{version: Version, kind: kind}
	if err := c.send(func(out []byte) []byte { return appendHello(out, h, n) }, n.Remote); err != nil {
		_ = c.close()
		return nil, err
	}
	s := &Sink{c: c, released: make(chan uint32, MaxBuffers), done: make(chan struct{})}
	go s.readReleases() // ends with the connection
	return s, nil
}

// Register tells the encoder about a buffer. The file stays the caller's.
func (s *Sink) Register(b Buffer) error {
	return s.c.send(func(out []byte) []byte { return appendBuffer(out, b) }, b.File)
}

// Replace lets the encoder of a PipeWire source go on with n, whose remote stays the caller's. It may be called from any goroutine.
func (s *Sink) Replace(n Node) error {
	return s.c.send(func(out []byte) []byte { return appendNode(out, n) }, n.Remote)
}

// Forget tells the encoder that no frame will come in this buffer again.
func (s *Sink) Forget(id uint32) error { return s.c.sendID(typeForget, id) }

// Send hands over a frame; its buffer must not be touched until its id comes out of Released.
func (s *Sink) Send(f Frame) error { return s.c.sendFrame(f) }

// Released yields the ids of buffers the encoder gave back. It is never closed; use Done.
func (s *Sink) Released() <-chan uint32 { return s.released }

// Done is closed when the encoder is gone.
func (s *Sink) Done() <-chan struct{} { return s.done }

// Err says why the sink is done; nil means that the encoder left in order.
func (s *Sink) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close disconnects the encoder.
func (s *Sink) Close() error { return s.c.close() }

func (s *Sink) readReleases() {
	defer close(s.done)
	defer s.c.close()
	for {
		m, _, err := s.c.receive()
		if err == nil && m.kind != typeRelease {
			err = &MessageError{Type: m.kind, Problem: "an encoder sends only RELEASE"}
		}
		if err != nil {
			s.fail(err)
			return
		}
		select {
		case s.released <- m.id:
		default: // more releases than buffers exist: the encoder is broken
			s.fail(&MessageError{Type: typeRelease, Problem: "released more buffers than it was given"})
			return
		}
	}
}

func (s *Sink) fail(err error) {
	if ended(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// closeOn closes c when ctx ends, until the returned stop is called.
func closeOn(ctx context.Context, c *conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.close() })
}
