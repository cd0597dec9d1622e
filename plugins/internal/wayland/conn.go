package wayland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// displayID is wl_display's, which exists from the start.
const displayID = 1

// Conn is a connection to a compositor.
type Conn struct {
	socket   *net.UnixConn
	display  display
	registry registry
	table    table

	writeMu sync.Mutex // guards the following; never taken while table.mu is held
	out     []byte
	message message

	done    chan struct{} // closed when the connection is over
	stopped chan struct{} // closed when the reader is gone

	mu      sync.Mutex // guards the following
	err     error
	globals []Global
}

// Address is the socket of display ("wayland-1", or an absolute path) in runtimeDir.
func Address(display, runtimeDir string) (string, error) {
	switch {
	case filepath.IsAbs(display):
		return display, nil
	case display == "" || runtimeDir == "":
		return "", ErrNoDisplay
	}
	return filepath.Join(runtimeDir, display), nil
}

// Dial connects to the compositor at the socket address and learns what it offers. ctx bounds the dialling only.
func Dial(ctx context.Context, address string) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the compositor: %w", err)
	}
	c := newConn(nc.(*net.UnixConn))
	go c.read() // ends with the connection
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("greet the compositor: %w", err), c.Close())
	}
	return c, nil
}

func newConn(s *net.UnixConn) *Conn {
	c := &Conn{socket: s, done: make(chan struct{}), stopped: make(chan struct{})}
	c.table.theirs = map[uint32]Object{}
	c.register(&c.display, 1) // gets displayID
	c.display.On.Error = c.protocolError
	c.display.On.DeleteId = c.free
	c.registry.On.Global = c.addGlobal
	c.registry.On.GlobalRemove = c.removeGlobal
	return c
}

func (c *Conn) start(ctx context.Context) error {
	c.display.GetRegistry(&c.registry)
	return c.Roundtrip(ctx)
}

// Close ends the connection and waits for its handlers. It must not be called from a handler.
func (c *Conn) Close() error {
	c.fail(net.ErrClosed)
	<-c.stopped
	return nil
}

// Done is closed when the connection is over.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection is over; nil while it is not. After Close it is net.ErrClosed.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// fail ends the connection; the first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	_ = c.socket.Close() // only its effect on the reader matters
}

// Roundtrip returns when the compositor has worked off all requests and its events have been handled.
func (c *Conn) Roundtrip(ctx context.Context) error {
	answered := make(chan struct{})
	var cb Callback
	cb.On.Done = func(uint32) { close(answered) }
	c.display.Sync(&cb)
	if err := c.Flush(); err != nil {
		return err
	}
	select {
	case <-answered:
		return nil
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("wait for the compositor's answer: %w", ctx.Err())
	}
}

// Flush sends the queued requests.
func (c *Conn) Flush() error {
	c.writeMu.Lock()
	c.flushLocked(nil)
	c.writeMu.Unlock()
	return c.Err()
}

func (c *Conn) flushLocked(file *os.File) {
	if len(c.out) == 0 {
		return
	}
	err := c.write(file)
	c.out = c.out[:0]
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.fail(ErrCompositorHung)
	case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		// The compositor's last words (an error event) may still be unread: the reader finds the end after them.
	default:
		c.fail(fmt.Errorf("send requests: %w", err))
	}
}

// write sends c.out; the descriptor goes with the first byte, as libwayland does.
func (c *Conn) write(file *os.File) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if file == nil {
		_, err := c.socket.Write(c.out)
		return err
	}
	n, _, err := c.socket.WriteMsgUnix(c.out, unix.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(c.out) {
		_, err = c.socket.Write(c.out[n:])
	}
	return err
}

// Globals lists what the compositor offers now.
func (c *Conn) Globals() []Global {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.globals)
}

// Offers returns the version in which the compositor offers an interface, 0 when it does not.
func (c *Conn) Offers(name string) uint32 {
	for _, g := range c.Globals() {
		if g.Interface == name {
			return g.Version
		}
	}
	return 0
}

// Bind makes o the first global of its interface, at the highest version that both sides know but at least atLeast.
// *MissingGlobalError says that there is none.
func (c *Conn) Bind(o Object, atLeast uint32) error {
	kind := o.describe()
	for _, g := range c.Globals() {
		if g.Interface == kind.Name && g.Version >= atLeast {
			c.BindGlobal(g, o)
			return nil
		}
	}
	return &MissingGlobalError{Interface: kind.Name, Version: atLeast, Offered: c.Offers(kind.Name)}
}

// BindGlobal makes o the global g, which must be of its interface.
func (c *Conn) BindGlobal(g Global, o Object) {
	version := min(g.Version, o.describe().Version)
	m := c.begin(c.registry.id, 0)
	m.uint(g.Name)
	m.string(g.Interface)
	m.uint(version)
	m.create(o, version)
	m.end()
}

func (c *Conn) addGlobal(name uint32, kind string, version uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.globals = append(c.globals, Global{Name: name, Interface: kind, Version: version})
}

func (c *Conn) removeGlobal(name uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.globals = slices.DeleteFunc(c.globals, func(g Global) bool { return g.Name == name })
}

func (c *Conn) protocolError(id, code uint32, text string) {
	e := &ProtocolError{Object: id, Code: code, Message: text}
	if known, _ := c.find(id); known.kind != nil {
		e.Interface = known.kind.Name
	}
	c.fail(e)
}

// read handles events until the connection is over.
func (c *Conn) read() {
	defer close(c.stopped)
	r := reader{c: c, buf: make([]byte, readBuffer), oob: make([]byte, unix.CmsgSpace(28*4))}
	defer r.fds.closeAll()
	raw, err := c.socket.SyscallConn()
	if err != nil {
		c.fail(err)
		return
	}
	r.raw.Init(raw)
	for {
		err := r.fill()
		if err == nil {
			err = r.dispatchAll()
		}
		if err != nil {
			c.fail(readError(err))
			return
		}
	}
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return ErrCompositorGone
	}
	return err
}
