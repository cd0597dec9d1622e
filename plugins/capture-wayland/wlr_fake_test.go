package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/plugins/internal/wayland/waylandtest"
)

// fakeWlr is a wlroots compositor that behaves as a test says. A copy is done at once, a copy with damage with the next commit.
type fakeWlr struct {
	server *waylandtest.Server

	// Set before the start.
	yInvert   bool
	shmFormat uint32
	badKeymap bool     // the compositor refuses every keymap
	without   []string // interfaces that are not offered
	outputs   []string

	mu            sync.Mutex // guards the following
	width, height uint32
	failures      int // copies still to fail
	pending       []func()
	memories      map[uint32][]byte
	input         []string // what virtual devices did
	keymap        string
}

func startFake(t *testing.T, f *fakeWlr) *fakeWlr {
	t.Helper()
	f.width, f.height, f.memories = 320, 200, map[uint32][]byte{}
	if f.outputs == nil {
		f.outputs = []string{"HEADLESS-1"}
	}
	globals := []waylandtest.Global{
		{Interface: "wl_shm", Version: 1, Bound: func(*waylandtest.Client, uint32) waylandtest.Handler { return f.shm }},
		{Interface: "zwlr_screencopy_manager_v1", Version: 3, Bound: func(*waylandtest.Client, uint32) waylandtest.Handler { return f.copier }},
		{Interface: "wl_seat", Version: 7, Bound: func(c *waylandtest.Client, id uint32) waylandtest.Handler {
			c.Event(id, 0, uint32(0))
			return func(*waylandtest.Client, uint16, *waylandtest.Args) {}
		}},
		{Interface: "zwp_virtual_keyboard_manager_v1", Version: 1, Bound: func(*waylandtest.Client, uint32) waylandtest.Handler { return f.keyboards }},
		{Interface: "zwlr_virtual_pointer_manager_v1", Version: 2, Bound: func(*waylandtest.Client, uint32) waylandtest.Handler { return f.pointers }},
		{Interface: "zwlr_output_manager_v1", Version: 2, Bound: f.manager},
	}
	for _, name := range f.outputs {
		globals = append(globals, waylandtest.Global{Interface: "wl_output", Version: 4, Bound: func(c *waylandtest.Client, id uint32) waylandtest.Handler {
			c.Event(id, 4, name)
			return func(*waylandtest.Client, uint16, *waylandtest.Args) {}
		}})
	}
	globals = slices.DeleteFunc(globals, func(g waylandtest.Global) bool { return slices.Contains(f.without, g.Interface) })
	f.server = waylandtest.Start(t, globals...)
	return f
}

func (f *fakeWlr) session() session { return session{Display: f.server.Address} }

// commit is a refresh of the output with damage.
func (f *fakeWlr) commit() {
	f.mu.Lock()
	pending := f.pending
	f.pending = nil
	f.mu.Unlock()
	for _, p := range pending {
		p()
	}
}

// waiting is the number of copies that wait for damage.
func (f *fakeWlr) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending)
}

func (f *fakeWlr) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.input)
}

func (f *fakeWlr) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.input = append(f.input, fmt.Sprintf(format, args...))
}

func (f *fakeWlr) shm(c *waylandtest.Client, _ uint16, a *waylandtest.Args) {
	id, file, size := a.Uint(), a.File(), a.Int()
	defer file.Close()
	data, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err) // the descriptor is the plugin's own memfd
	}
	c.Handle(id, func(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
		if opcode != 0 {
			c.Delete(id)
			return
		}
		buffer := a.Uint()
		f.mu.Lock()
		f.memories[buffer] = data
		f.mu.Unlock()
		c.Handle(buffer, func(c *waylandtest.Client, _ uint16, _ *waylandtest.Args) { c.Delete(buffer) })
	})
}

func (f *fakeWlr) copier(c *waylandtest.Client, _ uint16, a *waylandtest.Args) {
	frame := a.Uint()
	f.mu.Lock()
	w, h := f.width, f.height
	f.mu.Unlock()
	format := f.shmFormat
	if format == 0 {
		format = shmXRGB8888
	}
	c.Handle(frame, func(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) { f.frame(c, frame, opcode, a, w, h) })
	c.Event(frame, 0, format, w, h, 4*w)
	c.Event(frame, 6)
}

func (f *fakeWlr) frame(c *waylandtest.Client, id uint32, opcode uint16, a *waylandtest.Args, w, h uint32) {
	if opcode == 1 {
		c.Delete(id)
		return
	}
	buffer := a.Uint()
	finish := func() { f.finish(c, id, buffer, w, h) }
	if opcode == 0 {
		finish()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, finish)
}

// finish fills each row with its number and reports the frame ready.
func (f *fakeWlr) finish(c *waylandtest.Client, id, buffer, w, h uint32) {
	f.mu.Lock()
	data, fail := f.memories[buffer], f.failures > 0
	f.failures = max(f.failures-1, 0)
	f.mu.Unlock()
	if fail {
		c.Event(id, 3)
		return
	}
	for i := range data[:4*w*h] {
		data[i] = byte(uint32(i) / (4 * w))
	}
	flags := uint32(0)
	if f.yInvert {
		flags = flagYInvert
	}
	now := media.Now()
	c.Event(id, 1, flags)
	c.Event(id, 2, uint32(0), uint32(now/1e9), uint32(now%1e9))
}

func (f *fakeWlr) keyboards(c *waylandtest.Client, _ uint16, a *waylandtest.Args) {
	_, id := a.Uint(), a.Uint()
	c.Handle(id, func(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
		switch opcode {
		case 0:
			file := a.File()
			text, err := readKeymap(file, func() uint32 { a.Uint(); return a.Uint() }())
			_ = file.Close()
			if err != nil || f.badKeymap {
				c.Event(1, 0, id, uint32(2), "no memory")
				return
			}
			f.mu.Lock()
			f.keymap = text
			f.mu.Unlock()
		case 1:
			a.Uint()
			f.note("key %d %d", a.Uint(), a.Uint())
		case 2:
			f.note("modifiers %#x %#x %#x", a.Uint(), a.Uint(), a.Uint())
		case 3:
			f.note("keyboard gone")
			c.Delete(id)
		}
	})
}

func (f *fakeWlr) pointers(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
	a.Uint()
	if opcode == 2 {
		a.Uint()
	}
	id := a.Uint()
	c.Handle(id, func(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
		if opcode == 8 {
			f.note("pointer gone")
			c.Delete(id)
			return
		}
		f.note("%s", pointerRequest(opcode, a))
	})
}

func pointerRequest(opcode uint16, a *waylandtest.Args) string {
	switch opcode {
	case 4:
		return "frame"
	case 5:
		return fmt.Sprintf("source %d", a.Uint())
	}
	a.Uint() // time
	switch opcode {
	case 0:
		return fmt.Sprintf("motion %v %v", a.Fixed(), a.Fixed())
	case 1:
		return fmt.Sprintf("to %d %d of %d %d", a.Uint(), a.Uint(), a.Uint(), a.Uint())
	case 2:
		return fmt.Sprintf("button %#x %d", a.Uint(), a.Uint())
	case 3:
		return fmt.Sprintf("axis %d %v", a.Uint(), a.Fixed())
	case 7:
		return fmt.Sprintf("wheel %d %v %d", a.Uint(), a.Fixed(), a.Int())
	}
	return fmt.Sprintf("request %d", opcode)
}

// manager has one head per output and takes any custom mode between 100 and 4000 pixels.
func (f *fakeWlr) manager(c *waylandtest.Client, id uint32) waylandtest.Handler {
	const firstHead = 0xFF000000
	for i, name := range f.outputs {
		head := firstHead + uint32(i)
		c.Event(id, 0, head)
		c.Event(head, 0, name)
		c.Event(head, 4, uint32(1))
	}
	serial := uint32(1)
	c.Event(id, 1, serial)
	return func(c *waylandtest.Client, _ uint16, a *waylandtest.Args) {
		config, with := a.Uint(), a.Uint()
		var width, height uint32
		c.Handle(config, func(c *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
			switch opcode {
			case 0: // enable_head
				c.Handle(a.Uint(), func(_ *waylandtest.Client, opcode uint16, a *waylandtest.Args) {
					if opcode == 1 {
						width, height = a.Uint(), a.Uint()
					}
				})
			case 2: // apply
				if with != serial {
					c.Event(config, 2)
					return
				}
				if width < 100 || width > 4000 {
					c.Event(config, 1)
					return
				}
				f.mu.Lock()
				f.width, f.height = width, height
				f.mu.Unlock()
				c.Event(config, 0)
				serial++
				c.Event(id, 1, serial)
			case 4:
				c.Delete(config)
			}
		})
	}
}
