package wayland

import (
	"bytes"
	"errors"
	"math"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// idle is a connection whose goroutine does not run: its reader is driven by hand and its requests are looked at.
func idle(t testing.TB) (*Conn, *reader) {
	ours, _ := pair(t)
	c := newConn(ours)
	return c, &reader{c: c, buf: make([]byte, readBuffer)}
}

func (r *reader) feed(b []byte) error {
	r.n += copy(r.buf[r.n:], b)
	return r.dispatchAll()
}

// Requests have exactly the bytes of the wire format.
func TestRequestBytes(t *testing.T) {
	c, _ := idle(t)
	var shm Shm
	c.BindGlobal(Global{Name: 7, Interface: "wl_shm", Version: 9}, &shm)
	var p VirtualPointer
	c.register(&p, 2)
	p.Motion(5, -1.5, 1e12)
	p.Destroy()
	want := event(0, 0, uint32(7), "wl_shm", uint32(1), uint32(2)) // object 0: the registry was not made here
	want = append(want, event(3, 0, uint32(5), -384, math.MaxInt32)...)
	want = append(want, event(3, 8)...)
	if !bytes.Equal(c.out, want) {
		t.Errorf("requests\n%x, want\n%x", c.out, want)
	}
	if shm.Version() != 1 {
		t.Errorf("bound at version %d, which we do not know", shm.Version())
	}
}

// Arguments of every type arrive as they were sent, also when the event comes byte by byte.
func TestEventArguments(t *testing.T) {
	c, r := idle(t)
	var o Output
	var got []any
	o.On.Geometry = func(x, y, w, h, sub int32, make, model string, transform int32) {
		got = append(got, x, y, w, h, sub, make, model, transform)
	}
	c.register(&o, 4)
	for _, b := range event(o.ID(), 0, -1, 2, 3, 4, 5, "Acme", "", 6) {
		if err := r.feed([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	want := []any{int32(-1), int32(2), int32(3), int32(4), int32(5), "Acme", "", int32(6)}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("argument %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// An event that is cut inside its arguments, too long, unknown or for nobody ends the connection with a WireError.
func TestMalformedEvents(t *testing.T) {
	full := event(2, 0, -1, 2, 3, 4, 5, "Acme", "Model", 6)
	cases := map[string][]byte{
		"unknown event":     event(2, 77),
		"unknown object":    event(99, 0),
		"too long":          event(2, 0, -1, 2, 3, 4, 5, "Acme", "Model", 6, 7),
		"size below header": {2, 0, 0, 0, 0, 0, 4, 0},
		"odd size":          {2, 0, 0, 0, 0, 0, 10, 0, 0, 0},
		"string too long":   event(2, 4, uint32(math.MaxUint32)),
		"string without 0":  event(2, 4, []byte("abcd")),
	}
	for n := headerSize; n < len(full); n += 4 {
		cut := bytes.Clone(full[:n])
		order.PutUint32(cut[4:], uint32(n)<<16)
		cases["cut at "+string(rune('0'+n/4))] = cut
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			c, r := idle(t)
			var o Output
			c.register(&o, 4)
			var wire *WireError
			if err := r.feed(b); !errors.As(err, &wire) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Ids are reused only after the compositor confirmed their end; events in between are dropped together with their descriptors.
func TestObjectLife(t *testing.T) {
	c, r := idle(t)
	var k Keyboard
	seen := 0
	k.On.Keymap = func(_ uint32, f *os.File, _ uint32) { seen++; closeUnwanted(f) }
	c.register(&k, 8)
	id := k.ID()
	k.Release()
	late := devNull(t)
	r.fds.push(late)
	if err := r.feed(event(id, 0, uint32(1), uint32(2))); err != nil {
		t.Fatal(err)
	}
	if seen != 0 || len(r.fds.files) != 0 {
		t.Errorf("late event: seen %d, %d descriptors left", seen, len(r.fds.files))
	}
	if _, err := late.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("late descriptor is open: %v", err)
	}
	var next Output
	if c.register(&next, 4); next.ID() == id {
		t.Error("id reused before the compositor confirmed")
	}
	if err := r.feed(event(displayID, 1, id)); err != nil {
		t.Fatal(err)
	}
	var reuse Output
	if c.register(&reuse, 4); reuse.ID() != id {
		t.Errorf("id %d, want %d again", reuse.ID(), id)
	}
	if c.lookup(id) != Object(&reuse) {
		t.Error("lookup finds the wrong object")
	}
}

// A descriptor goes to its handler; without a handler it is closed; one that is missing is an error.
func TestEventDescriptors(t *testing.T) {
	c, r := idle(t)
	var k Keyboard
	c.register(&k, 8)
	keymap := event(k.ID(), 0, uint32(1), uint32(2))
	unwanted := devNull(t)
	r.fds.push(unwanted)
	if err := r.feed(keymap); err != nil {
		t.Fatal(err)
	}
	if _, err := unwanted.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("unwanted descriptor: %v", err)
	}
	var got *os.File
	k.On.Keymap = func(_ uint32, f *os.File, _ uint32) { got = f }
	wanted := devNull(t)
	r.fds.push(wanted)
	if err := r.feed(keymap); err != nil || got != wanted {
		t.Errorf("handler got %v, %v", got, err)
	}
	closeUnwanted(got)
	var wire *WireError
	if err := r.feed(keymap); !errors.As(err, &wire) {
		t.Errorf("missing descriptor: %v", err)
	}
}

// Objects that the compositor makes are entered, can be mentioned, and cannot take ids that are not its own.
func TestServerObjects(t *testing.T) {
	c, r := idle(t)
	var m OutputManager
	var name string
	var mode *OutputMode
	m.On.Head = func(h *OutputHead) {
		h.On.Name = func(s string) { name = s }
		h.On.CurrentMode = func(m *OutputMode) { mode = m }
	}
	c.register(&m, 2)
	const head, headMode = firstServerID, firstServerID + 1
	for _, e := range [][]byte{
		event(m.ID(), 0, uint32(head)), event(head, 0, "HEADLESS-1"), event(head, 3, uint32(headMode)), event(head, 5, uint32(headMode)),
		event(firstServerID+9, 0), // of an object that we let go
	} {
		if err := r.feed(e); err != nil {
			t.Fatal(err)
		}
	}
	if name != "HEADLESS-1" || mode == nil || mode.ID() != headMode {
		t.Errorf("name %q, mode %v", name, mode)
	}
	if err := r.feed(event(m.ID(), 0, uint32(5))); err == nil {
		t.Error("the compositor took one of our ids")
	}
}

// Fixed point numbers are rounded, cut at their ends, and never undefined.
func TestFixed(t *testing.T) {
	for v, want := range map[float64]int32{
		0: 0, 1: 256, -1.5: -384, 0.001: 0, 0.002: 1, math.Inf(1): math.MaxInt32, math.Inf(-1): math.MinInt32,
	} {
		if got := toFixed(v); got != want {
			t.Errorf("toFixed(%v) = %d, want %d", v, got, want)
		}
	}
	if toFixed(math.NaN()) != 0 {
		t.Error("NaN is not 0")
	}
}

// A request above the wire's limit ends the connection instead of confusing the compositor.
func TestRequestTooLong(t *testing.T) {
	c, _ := idle(t)
	var f FakeInput
	c.register(&f, 4)
	f.Authenticate(string(make([]byte, maxRequest-32)), "x")
	if err := c.Err(); err != nil {
		t.Errorf("below the limit: %v", err)
	}
	f.Authenticate(string(make([]byte, maxRequest)), "x")
	if err := c.Err(); !errors.Is(err, ErrTooLong) {
		t.Errorf("above the limit: %v", err)
	}
}

// A frame's requests and events allocate nothing.
func TestNoAllocations(t *testing.T) {
	c, r := idle(t)
	var m ScreencopyManager
	var f ScreencopyFrame
	var o Output
	var b Buffer
	ready := 0
	f.On.Ready = func(_, _, _ uint32) { ready++ }
	c.register(&m, 3)
	c.register(&o, 4)
	c.register(&b, 1)
	offer := make([]byte, 0, 256)
	n := testing.AllocsPerRun(100, func() {
		m.CaptureOutput(&f, 1, &o)
		f.CopyWithDamage(&b)
		offer = offer[:0]
		offer = append(append(append(append(offer, header8(f.ID(), 0, 24)...), make([]byte, 16)...), header8(f.ID(), 2, 20)...), make([]byte, 12)...)
		if err := r.feed(offer); err != nil {
			t.Error(err)
		}
		id := f.ID()
		f.Destroy()
		c.free(id)
		c.out = c.out[:0]
	})
	if n != 0 || ready == 0 {
		t.Errorf("%v allocations a frame, %d ready", n, ready)
	}
}

func header8(object uint32, opcode uint16, size int) []byte {
	var b [headerSize]byte
	order.PutUint32(b[:], object)
	order.PutUint32(b[4:], uint32(opcode)|uint32(size)<<16)
	return b[:]
}

// Whatever a compositor sends: no panic, no descriptor left open.
func FuzzEvents(f *testing.F) {
	f.Add(event(2, 0, uint32(1), uint32(2)), byte(1))
	f.Add(event(3, 0, uint32(firstServerID)), byte(0))
	f.Add(append(event(3, 0, uint32(firstServerID)), event(firstServerID, 0, "HEADLESS-1")...), byte(0))
	f.Add(event(4, 0, -1, 2, 3, 4, 5, "Acme", "Model", 6), byte(2))
	f.Add(event(displayID, 1, uint32(2)), byte(0))
	f.Add(event(displayID, 0, uint32(3), uint32(4), "no"), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, fds byte) {
		if len(b) > readBuffer {
			return
		}
		c, r := idle(t)
		c.register(&Keyboard{}, 8)
		c.register(&OutputManager{}, 2)
		c.register(&Output{}, 4)
		c.register(&LinuxDmabufFeedback{}, 4)
		var given []*os.File
		for range fds % 4 {
			given = append(given, devNull(t))
			r.fds.push(given[len(given)-1])
		}
		_ = r.feed(b)
		r.fds.closeAll()
		for i, f := range given {
			if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("descriptor %d is open", i)
			}
		}
	})
}

func devNull(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "null")
}

func BenchmarkFrame(b *testing.B) {
	c, r := idle(b)
	var m ScreencopyManager
	var f ScreencopyFrame
	var o Output
	var buf Buffer
	c.register(&m, 3)
	c.register(&o, 4)
	c.register(&buf, 1)
	b.ReportAllocs()
	events := make([]byte, 0, 64)
	for b.Loop() {
		m.CaptureOutput(&f, 1, &o)
		f.CopyWithDamage(&buf)
		events = append(append(events[:0], header8(f.ID(), 2, 20)...), make([]byte, 12)...)
		_ = r.feed(events)
		id := f.ID()
		f.Destroy()
		c.free(id)
		c.out = c.out[:0]
	}
}
