package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// minScreencopy has copy_with_damage.
const minScreencopy = 2

// wlrDesktop is a connection to a wlroots compositor with what we use of it. Optional globals are nil.
type wlrDesktop struct {
	conn    *wayland.Conn
	copier  wayland.ScreencopyManager
	shm     wayland.Shm
	outputs []*wlrOutput
	output  *wlrOutput // the captured one

	seat      *wayland.Seat
	seatCaps  atomic.Uint32
	keyboards *wayland.VirtualKeyboardManager
	pointers  *wayland.VirtualPointerManager
	dmabuf    *wayland.LinuxDmabuf
	gpu       gpu
	heads     *wlrHeads
}

// wlrOutput is an output of the compositor.
type wlrOutput struct {
	wayland.Output
	mu   sync.Mutex // guards name
	name string
}

func (o *wlrOutput) Name() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}

func newWlrDesktop(ctx context.Context, conn *wayland.Conn, output string) (*wlrDesktop, error) {
	d := &wlrDesktop{conn: conn}
	if err := conn.Bind(&d.copier, minScreencopy); err != nil {
		return nil, err
	}
	if err := conn.Bind(&d.shm, 1); err != nil {
		return nil, err
	}
	d.bindOptional()
	d.bindOutputs()
	if err := conn.Roundtrip(ctx); err != nil {
		return nil, err
	}
	return d, d.choose(output)
}

func (d *wlrDesktop) bindOptional() {
	seat := &wayland.Seat{}
	seat.On.Capabilities = d.seatCaps.Store
	d.seat = optional(d.conn, seat, 1)
	d.keyboards = optional(d.conn, new(wayland.VirtualKeyboardManager), 1)
	d.pointers = optional(d.conn, new(wayland.VirtualPointerManager), 1)
	d.dmabuf = optional(d.conn, new(wayland.LinuxDmabuf), 2) // 2 has create_immed
	d.gpu.ask(d.dmabuf)
	d.heads = bindHeads(d.conn)
}

// optional binds o, or returns nil when the compositor does not offer it.
func optional[T any, P interface {
	*T
	wayland.Object
}](c *wayland.Conn, o P, atLeast uint32) P {
	if c.Bind(o, atLeast) != nil {
		return nil
	}
	return o
}

func (d *wlrDesktop) bindOutputs() {
	for _, g := range d.conn.Globals() {
		if g.Interface != "wl_output" {
			continue
		}
		o := &wlrOutput{}
		o.On.Name = func(name string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.name = name
		}
		d.conn.BindGlobal(g, &o.Output)
		d.outputs = append(d.outputs, o)
	}
}

func (d *wlrDesktop) choose(name string) error {
	var names []string
	for _, o := range d.outputs {
		if name == "" || o.Name() == name {
			d.output = o
			return nil
		}
		names = append(names, o.Name())
	}
	if name == "" {
		return &pluginapi.UnavailableError{
			Reason: "compositor has no output", Remedy: "connect a display, or give it a headless output (WLR_HEADLESS_OUTPUTS=1, or swaymsg create_output)",
		}
	}
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("compositor has no output %q", name), Remedy: "set the option output to one of " + strings.Join(names, ", "),
	}
}

func (d *wlrDesktop) seatHasKeyboard() bool {
	return d.seat != nil && d.seatCaps.Load()&seatHasKeyboard != 0
}

func (d *wlrDesktop) close() error { return d.conn.Close() }
