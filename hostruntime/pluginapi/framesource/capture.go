package framesource

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
)

// Listener is the capture plugin's end: it waits for encoders, one after the other.
type Listener struct {
	l *net.UnixListener // nil: encoders come by the inbox

	ctx    context.Context // ends waiting for the inbox
	cancel context.CancelFunc
}

// Listen creates the socket at path, or, when path is inbox.Handed, takes the connections that the host runtime hands over. Close removes
// the socket.
func Listen(path string) (*Listener, error) {
	if path == inbox.Handed {
		ctx, cancel := context.WithCancel(context.Background())
		return &Listener{ctx: ctx, cancel: cancel}, nil
	}
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
func (l *Listener) Close() error {
	if l.l == nil {
		l.cancel()
		return nil
	}
	return l.l.Close()
}

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
	c, err := l.next()
	if err != nil {
		return nil, fmt.Errorf("accept an encoder: %w", err)
	}
	return newConn(c)
}

func (l *Listener) next() (*net.UnixConn, error) {
	if l.l == nil {
		return inbox.Receive(l.ctx, inbox.Source)
	}
	return l.l.AcceptUnix()
}

// Sink is one connected encoder as the capturer sees it. Register, Send, Forget, Collect and Ready are called from one goroutine.
//
// Releases are read when they are wanted: a goroutine that woke for each would cost as much as sending the picture.
type Sink struct {
	c    *conn
	gone *watch
	lent int // frames that were sent and not released

	mu  sync.Mutex // guards err
	err error
}

func startSink(c *conn, kind Kind, n Node) (*Sink, error) {
	h := hello{version: Version, kind: kind}
	if err := c.send(func(out []byte) []byte { return appendHello(out, h, n) }, n.Remote); err != nil {
		_ = c.close()
		return nil, err
	}
	socket, err := c.detach()
	if err != nil {
		return nil, err
	}
	gone, err := startWatch(socket)
	if err != nil {
		return nil, err
	}
	return &Sink{c: c, gone: gone}, nil
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

// Send hands over a frame; its buffer must not be touched until Collect yields its id.
func (s *Sink) Send(f Frame) error {
	err := s.c.sendFrame(f)
	if err == nil {
		s.lent++
	}
	return err
}

// Collect yields the ids of buffers that the encoder gave back since the last time. It never waits.
func (s *Sink) Collect(yield func(id uint32)) {
	for {
		m, ok, err := s.c.poll()
		switch {
		case err != nil:
		case !ok:
			return
		case m.kind != typeRelease:
			err = &MessageError{Type: m.kind, Problem: "an encoder sends only RELEASE"}
		case s.lent == 0:
			err = &MessageError{Type: typeRelease, Problem: "released more buffers than it was given"}
		}
		if err != nil {
			s.fail(err)
			_ = s.Close()
			return
		}
		s.lent--
		yield(m.id)
	}
}

// Ready yields once when there is something to Collect; the wait for it begins with the call.
func (s *Sink) Ready() <-chan struct{} { return s.gone.arm() }

// Done is closed when the encoder is gone.
func (s *Sink) Done() <-chan struct{} { return s.gone.done }

// Err says why the sink is done; nil means that the encoder left in order.
func (s *Sink) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close disconnects the encoder and returns when nothing of the connection is left. It may be called from any goroutine, more than once.
func (s *Sink) Close() error {
	shutdown(s.gone.socket)
	<-s.gone.done
	return nil
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
