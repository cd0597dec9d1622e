// Package waylandtest is a compositor for tests: it speaks the wire protocol to one client after the other, and what it offers and does is
// a few functions per test. It knows no protocol beyond wl_display and wl_registry.
package waylandtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var order = binary.NativeEndian

// Handler works off one request to one object. It runs on the client's goroutine.
type Handler func(c *Client, opcode uint16, a *Args)

// Global is something the server offers. Bound is called with the new object and returns what handles its requests.
type Global struct {
	Interface string
	Version   uint32
	Bound     func(c *Client, id uint32) Handler
}

// Server listens on a socket of its own.
type Server struct {
	// Address is the path of the socket.
	Address string

	t       testing.TB
	globals []Global
	l       *net.UnixListener
	wg      sync.WaitGroup

	mu      sync.Mutex // guards clients
	clients map[*Client]bool
}

// Start serves globals until the test ends.
func Start(t testing.TB, globals ...Global) *Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wayland-0")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: path, t: t, globals: globals, l: l, clients: map[*Client]bool{}}
	s.wg.Add(1)
	go s.accept() // ends with Kill
	t.Cleanup(s.Kill)
	return s
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	_ = s.l.Close() // again at the test's end
	s.mu.Lock()
	for c := range s.clients {
		_ = c.conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		conn, err := s.l.AcceptUnix()
		if err != nil {
			return
		}
		c := &Client{t: s.t, conn: conn, handlers: map[uint32]Handler{1: s.display}}
		s.mu.Lock()
		s.clients[c] = true
		s.mu.Unlock()
		s.wg.Add(1)
		go func() { // ends with the connection
			defer s.wg.Done()
			defer conn.Close()
			c.serve()
		}()
	}
}

func (s *Server) display(c *Client, opcode uint16, a *Args) {
	id := a.Uint()
	switch opcode {
	case 0: // sync
		c.Event(id, 0, uint32(0))
		c.Delete(id)
	case 1: // get_registry
		c.Handle(id, s.registry)
		for i, g := range s.globals {
			c.Event(id, 0, uint32(i), g.Interface, g.Version)
		}
	}
}

func (s *Server) registry(c *Client, _ uint16, a *Args) {
	g := s.globals[a.Uint()]
	_, _ = a.String(), a.Uint() // interface and version
	id := a.Uint()
	c.Handle(id, g.Bound(c, id))
}

// Client is one connection. Event may be called from any goroutine, the rest from handlers.
type Client struct {
	t        testing.TB
	conn     *net.UnixConn
	handlers map[uint32]Handler
	files    []*os.File

	mu sync.Mutex // serializes writes
}

// Handle makes h work off the requests of id.
func (c *Client) Handle(id uint32, h Handler) { c.handlers[id] = h }

// Delete confirms that the client's object id is gone.
func (c *Client) Delete(id uint32) {
	delete(c.handlers, id)
	c.Event(1, 1, id)
}

// Event sends an event. Arguments are uint32, int32, string.
func (c *Client) Event(id uint32, opcode uint16, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Write(encode(id, opcode, args)); err != nil && !gone(err) {
		c.t.Errorf("send event %d of object %d: %v", opcode, id, err)
	}
}

func gone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

func encode(id uint32, opcode uint16, args []any) []byte {
	b := order.AppendUint32(nil, id)
	b = order.AppendUint32(b, 0)
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			b = order.AppendUint32(b, a)
		case int32:
			b = order.AppendUint32(b, uint32(a))
		case string:
			b = order.AppendUint32(b, uint32(len(a)+1))
			b = append(append(b, a...), 0)
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		default:
			panic(fmt.Sprintf("waylandtest: argument of type %T", a))
		}
	}
	order.PutUint32(b[4:], uint32(len(b))<<16|uint32(opcode))
	return b
}

func (c *Client) serve() {
	defer func() {
		for _, f := range c.files {
			_ = f.Close() // not taken by any request
		}
	}()
	var pending []byte
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(28*4))
	for {
		n, oobn, _, _, err := c.conn.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		c.takeFiles(oob[:oobn])
		pending = c.work(append(pending, buf[:n]...))
	}
}

func (c *Client) takeFiles(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		c.t.Errorf("rights: %v", err)
		return
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			c.t.Errorf("rights: %v", err)
			return
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			c.files = append(c.files, os.NewFile(uintptr(fd), "request"))
		}
	}
}

// work handles the complete requests in b and returns the rest.
func (c *Client) work(b []byte) []byte {
	for len(b) >= 8 {
		id, word := order.Uint32(b), order.Uint32(b[4:])
		size := int(word >> 16)
		if size < 8 || len(b) < size {
			return b
		}
		if h := c.handlers[id]; h != nil {
			h(c, uint16(word), &Args{c: c, b: b[8:size]})
		} else {
			c.t.Errorf("request %d for unknown object %d", uint16(word), id)
		}
		b = b[size:]
	}
	return b
}

// Args takes the arguments of a request.
type Args struct {
	c *Client
	b []byte
}

// Uint takes a 32-bit argument: uint, object, new id or (converted) int.
func (a *Args) Uint() uint32 {
	v := order.Uint32(a.b)
	a.b = a.b[4:]
	return v
}

// Int takes a signed argument.
func (a *Args) Int() int32 { return int32(a.Uint()) }

// Fixed takes a fixed point argument.
func (a *Args) Fixed() float64 { return float64(a.Int()) / 256 }

// String takes a string.
func (a *Args) String() string {
	n := a.Uint()
	s := string(a.b[:n-1])
	a.b = a.b[(n+3)&^3:]
	return s
}

// File takes the next descriptor; it belongs to the caller.
func (a *Args) File() *os.File {
	f := a.c.files[0]
	a.c.files = a.c.files[1:]
	return f
}
