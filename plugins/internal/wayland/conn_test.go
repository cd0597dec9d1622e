package wayland

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// compositor is the other end, scripted: serve answers sync and get_registry until it is told to do otherwise.
type compositor struct {
	t       *testing.T
	conn    *net.UnixConn
	globals []Global

	mu sync.Mutex // guards the following
	// onSync, when set, is sent before the first sync is answered.
	onSync []byte
	// dieAtSync closes the connection instead of answering.
	dieAtSync bool
}

// plan changes what the next sync does.
func (c *compositor) plan(onSync []byte, die bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onSync, c.dieAtSync = onSync, die
}

// serve answers until the client leaves.
func (c *compositor) serve() {
	defer c.conn.Close()
	buf := make([]byte, 0, 1<<16)
	chunk := make([]byte, 4096)
	for {
		n, err := c.conn.Read(chunk)
		if err != nil {
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			h, complete, err := parseHeader(buf)
			if err != nil || !complete {
				break
			}
			if !c.request(h, buf[headerSize:h.size]) {
				return
			}
			buf = buf[h.size:]
		}
	}
}

func (c *compositor) request(h header, body []byte) bool {
	switch {
	case h.object == displayID && h.opcode == 1: // get_registry
		for _, g := range c.globals {
			c.send(event(order.Uint32(body), 0, g.Name, g.Interface, g.Version))
		}
	case h.object == displayID && h.opcode == 0: // sync
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.dieAtSync {
			return false
		}
		c.send(c.onSync)
		c.onSync = nil
		c.send(event(order.Uint32(body), 0, uint32(1)))
		c.send(event(displayID, 1, order.Uint32(body)))
	}
	return true
}

func (c *compositor) send(b []byte) {
	if _, err := c.conn.Write(b); err != nil && !errors.Is(err, unix.EPIPE) {
		c.t.Errorf("compositor: %v", err)
	}
}

// connect starts a Conn to a compositor and waits for its greeting.
func connect(t *testing.T, c *compositor) *Conn {
	t.Helper()
	ours, theirs := pair(t)
	c.t, c.conn = t, theirs
	done := make(chan struct{})
	go func() { // ends when the client leaves
		defer close(done)
		c.serve()
	}()
	conn := newConn(ours)
	go conn.read() // ends with the connection
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	if err := conn.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// What is offered is known after dialling, binding respects versions, and a missing interface is named.
func TestBind(t *testing.T) {
	c := connect(t, &compositor{globals: []Global{{1, "wl_shm", 1}, {2, "wl_output", 3}, {3, "wl_output", 4}, {4, "zwlr_screencopy_manager_v1", 1}}})
	var o Output
	if err := c.Bind(&o, 4); err != nil || o.Version() != 4 {
		t.Errorf("wl_output: version %d, %v", o.Version(), err)
	}
	var missing *MissingGlobalError
	if err := c.Bind(&ScreencopyManager{}, 2); !errors.As(err, &missing) || missing.Offered != 1 {
		t.Errorf("too old: %v", err)
	}
	if err := c.Bind(&FakeInput{}, 1); !errors.As(err, &missing) || missing.Offered != 0 {
		t.Errorf("missing: %v", err)
	}
}

// The compositor's complaint reaches the caller with object, code and text.
func TestProtocolError(t *testing.T) {
	server := &compositor{}
	c := connect(t, server)
	var f FakeInput
	c.register(&f, 4)
	server.plan(event(displayID, 0, f.ID(), uint32(7), "you may not"), false)
	err := c.Roundtrip(t.Context())
	var p *ProtocolError
	if !errors.As(err, &p) || p.Interface != "org_kde_kwin_fake_input" || p.Code != 7 || p.Message != "you may not" {
		t.Errorf("got %v", err)
	}
	<-c.Done()
	if !errors.As(c.Flush(), &p) {
		t.Error("later calls forget the reason")
	}
}

// A compositor that dies ends everything with ErrCompositorGone; Close on our side is net.ErrClosed.
func TestEnds(t *testing.T) {
	server := &compositor{}
	c := connect(t, server)
	server.plan(nil, true)
	if err := c.Roundtrip(t.Context()); !errors.Is(err, ErrCompositorGone) {
		t.Errorf("died: %v", err)
	}
	c = connect(t, &compositor{})
	if err := c.Close(); err != nil || !errors.Is(c.Err(), net.ErrClosed) || !errors.Is(c.Roundtrip(t.Context()), net.ErrClosed) {
		t.Errorf("closed: %v, %v", err, c.Err())
	}
}

// A compositor that does not answer costs no more than the caller's patience.
func TestSilentCompositor(t *testing.T) {
	ours, _ := pair(t)
	c := newConn(ours)
	go c.read() // ends with Close
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Roundtrip(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A compositor that does not read is given up when its socket is full.
func TestFullSocket(t *testing.T) {
	ours, theirs := pair(t)
	if err := ours.SetWriteBuffer(4096); err != nil {
		t.Fatal(err)
	}
	c := newConn(ours)
	go c.read() // ends with Close
	defer c.Close()
	defer theirs.Close()
	var f FakeInput
	c.register(&f, 4)
	var err error
	for range 10_000 {
		f.Authenticate("x", string(make([]byte, 3000)))
		if err = c.Flush(); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrCompositorHung) {
		t.Errorf("got %v", err)
	}
}

// Descriptors cross a real socket in both directions, in order.
func TestDescriptorsCross(t *testing.T) {
	ours, theirs := pair(t)
	c := newConn(ours)
	var k Keyboard
	got := make(chan string, 2)
	k.On.Keymap = func(_ uint32, f *os.File, _ uint32) {
		text, _ := io.ReadAll(f)
		closeUnwanted(f)
		got <- string(text)
	}
	c.register(&k, 8)
	go c.read() // ends with Close
	defer c.Close()
	both := append(event(k.ID(), 0, uint32(1), uint32(2)), event(k.ID(), 0, uint32(1), uint32(2))...)
	a, b := file(t, "first"), file(t, "second")
	if _, _, err := theirs.WriteMsgUnix(both, unix.UnixRights(int(a.Fd()), int(b.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	if first, second := <-got, <-got; first != "first" || second != "second" {
		t.Errorf("got %q, %q", first, second)
	}
	var vk VirtualKeyboard
	c.register(&vk, 1)
	vk.Keymap(1, a, 5) // sends at once
	oob := make([]byte, 64)
	n, oobn, _, _, err := theirs.ReadMsgUnix(make([]byte, 64), oob)
	if err != nil || n != 16 || oobn == 0 {
		t.Errorf("keymap request: %d bytes, %d of rights, %v", n, oobn, err)
	}
	r := reader{c: c}
	if err := r.takeRights(oob[:oobn]); err != nil || len(r.fds.files) != 1 {
		t.Errorf("rights: %v", err)
	}
	r.fds.closeAll()
}

func file(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Addresses follow libwayland's rules.
func TestAddress(t *testing.T) {
	for _, c := range []struct{ display, dir, want string }{
		{"wayland-1", "/run/user/1", "/run/user/1/wayland-1"}, {"/tmp/w", "", "/tmp/w"}, {"", "/run", ""}, {"wayland-0", "", ""},
	} {
		got, err := Address(c.display, c.dir)
		if got != c.want || (c.want == "") != errors.Is(err, ErrNoDisplay) {
			t.Errorf("Address(%q, %q) = %q, %v", c.display, c.dir, got, err)
		}
	}
}

// Dialling nothing is an error that says so.
func TestDialNothing(t *testing.T) {
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "wayland-0")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
