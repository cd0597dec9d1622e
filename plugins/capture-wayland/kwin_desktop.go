package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// kwinFixed: KWin's virtual backend (5.27) gives an output the one mode that it was started with, and no protocol to add outputs; the modes of real
// monitors are their owner's.
var kwinFixed = &pluginapi.UnavailableError{
	Reason: "an output of KWin's virtual backend has one mode, and the modes of a monitor are its owner's",
	Remedy: "start KWin with the size (--width, --height; wavry desktop run kde -size)",
}

const kwinService = "org.kde.KWin"

// kwinDesktop is KWin as a Wayland client and bus neighbour sees it. Optional globals are nil.
type kwinDesktop struct {
	conn    *wayland.Conn
	bus     *portal.Bus
	outputs []*kwinOutput
	caster  *wayland.KdeScreencast
	fake    *wayland.FakeInput
	windows *kwinWindows
}

// kwinOutput is an output's place and size; KWin's fake input speaks in these coordinates.
type kwinOutput struct {
	wayland.Output

	mu    sync.Mutex // guards the following
	x, y  int
	mode  capture.Size // in device pixels
	scale int
	name  string
}

// rect is a rectangle of the compositor's space.
type rect struct{ X, Y, Width, Height int }

func (r rect) size() capture.Size { return capture.Size{Width: r.Width, Height: r.Height} }

// openKWin connects to KWin's Wayland socket and bus. Where KWin is not, the error says so.
func openKWin(ctx context.Context, s session) (*kwinDesktop, error) {
	bus, err := portal.Connect(ctx, s.Bus)
	if err != nil {
		return nil, err
	}
	d := &kwinDesktop{bus: bus}
	if err := d.open(ctx, s); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *kwinDesktop) open(ctx context.Context, s session) error {
	owned, err := d.bus.Owned(ctx, kwinService)
	if err != nil {
		return fmt.Errorf("look for KWin: %w", err)
	}
	if !owned {
		return unavailable("nobody owns org.kde.KWin on the session bus", "run Plasma or KWin (wavry desktop run kde), or use another capture method")
	}
	address, err := wayland.Address(s.Display, s.RuntimeDir)
	if err == nil {
		d.conn, err = wayland.Dial(ctx, address)
	}
	if err != nil {
		return unavailable(fmt.Sprintf("KWin's Wayland socket does not answer: %v", err), "set WAYLAND_DISPLAY and XDG_RUNTIME_DIR as in KWin's session")
	}
	d.caster = optional(d.conn, new(wayland.KdeScreencast), 1)
	d.fake = optional(d.conn, new(wayland.FakeInput), 4) // 4 has keyboard_key
	d.bindOutputs()
	d.windows = bindKWinWindows(d.conn)
	if err := d.conn.Roundtrip(ctx); err != nil {
		return fmt.Errorf("ask KWin for its outputs: %w", err)
	}
	if d.windows != nil { // their states come with a second round
		if err := d.conn.Roundtrip(ctx); err != nil {
			return fmt.Errorf("ask KWin for its windows: %w", err)
		}
	}
	return d.authenticate(ctx)
}

func (d *kwinDesktop) bindOutputs() {
	for _, g := range d.conn.Globals() {
		if g.Interface != "wl_output" {
			continue
		}
		o := &kwinOutput{scale: 1}
		o.listen()
		d.conn.BindGlobal(g, &o.Output)
		d.outputs = append(d.outputs, o)
	}
}

func (o *kwinOutput) listen() {
	const current = 1
	locked := func(f func()) { o.mu.Lock(); defer o.mu.Unlock(); f() }
	o.On.Geometry = func(x, y, _, _, _ int32, _, _ string, _ int32) { locked(func() { o.x, o.y = int(x), int(y) }) }
	o.On.Mode = func(flags uint32, w, h, _ int32) {
		if flags&current != 0 {
			locked(func() { o.mode = capture.Size{Width: int(w), Height: int(h)} })
		}
	}
	o.On.Scale = func(factor int32) { locked(func() { o.scale = max(int(factor), 1) }) }
	o.On.Name = func(name string) { locked(func() { o.name = name }) }
}

// place is where the output lies in the compositor's space.
func (o *kwinOutput) place() rect {
	o.mu.Lock()
	defer o.mu.Unlock()
	return rect{o.x, o.y, o.mode.Width / o.scale, o.mode.Height / o.scale}
}

func (o *kwinOutput) pixels() capture.Size {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mode
}

func (o *kwinOutput) Name() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}

// output returns the one of that name, or the first.
func (d *kwinDesktop) output(name string) (*kwinOutput, error) {
	if len(d.outputs) == 0 {
		return nil, unavailable("KWin has no output", "attach a display, or start KWin with --virtual --width W --height H")
	}
	for _, o := range d.outputs {
		if o.Name() == name {
			return o, nil
		}
	}
	return d.outputs[0], nil
}

// authenticate asks for the right to inject; KWin grants it to programs whose desktop file asks for it, or to all when started
// with KWIN_WAYLAND_NO_PERMISSION_CHECKS=1. It tells nobody of a refusal.
func (d *kwinDesktop) authenticate(ctx context.Context) error {
	if d.fake == nil {
		return nil
	}
	d.fake.Authenticate("Wavry Fleet", "remote desktop")
	if err := d.conn.Roundtrip(ctx); err != nil {
		return fmt.Errorf("authenticate with KWin: %w", err)
	}
	return nil
}

// watch is what a capture of KWin depends on.
func (d *kwinDesktop) watch(pipewire portal.PipeWire) *portal.Watch {
	return &portal.Watch{
		Bus: d.bus, Peers: []portal.Peer{{Service: kwinService, Name: "KWin"}}, PipeWire: pipewire,
		Gone: d.conn.Done(),
		GoneReason: func() error {
			return unavailable(fmt.Sprintf("KWin closed the connection: %v", d.conn.Err()), "it ended or crashed; the desktop must start it again")
		},
	}
}

// nudge moves the pointer to and fro by a pixel; nil without input.
func (d *kwinDesktop) nudge() func() {
	if d.fake == nil {
		return nil
	}
	step := 1.0
	return func() {
		d.fake.PointerMotion(step, 0)
		_ = d.conn.Flush() // a connection that is over shows as missing frames
		step = -step
	}
}

func (d *kwinDesktop) close() error {
	var err error
	if d.conn != nil {
		err = d.conn.Close()
	}
	return errors.Join(err, d.bus.Close())
}

// inputNote says in a report what is missing.
func (d *kwinDesktop) inputNote() string {
	if d.fake == nil {
		return "without input: KWin does not offer org_kde_kwin_fake_input version 4 to this program"
	}
	return "with input by org_kde_kwin_fake_input"
}
