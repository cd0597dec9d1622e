package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

const (
	keymapXKB        = 1       // wl_keyboard.keymap_format.xkb_v1
	seatHasKeyboard  = 2       // wl_seat.capability.keyboard
	maxKeymap        = 4 << 20 // a full keymap has 60 kB; four layouts with variants stay below 1 MB
	keymapMemoryName = "wavry-keymap"
)

// wlrKeyboard is a virtual keyboard with evdev codes.
type wlrKeyboard struct {
	device    *wayland.VirtualKeyboard
	down      map[uint32]bool
	modifiers *modifiers
}

// newWlrKeyboard gives the seat a keyboard. Its keymap is the wished layout, else the one the seat has, else fallback, else us.
func newWlrKeyboard(ctx context.Context, d *wlrDesktop, layout, fallback string) (*wlrKeyboard, error) {
	watch, err := watchKeymap(ctx, d)
	if err != nil {
		return nil, err
	}
	text := watch.current()
	if layout != "" || text == "" {
		layout = cmp.Or(layout, fallback, defaultLayout)
		text = keymapText(layout)
	}
	k := &wlrKeyboard{device: &wayland.VirtualKeyboard{}, down: map[uint32]bool{}}
	d.keyboards.CreateVirtualKeyboard(d.seat, k.device)
	if err := sendKeymap(k.device, text); err != nil {
		return nil, err
	}
	k.modifiers = newModifiers(hasAltGr(text))
	k.sendModifiers()
	if err := d.conn.Roundtrip(ctx); err != nil {
		return nil, explainKeymap(err, layout)
	}
	return k, k.learn(ctx, d, watch)
}

// explainKeymap: compositors answer a keymap that does not compile by ending the connection.
func explainKeymap(err error, layout string) error {
	var refused *wayland.ProtocolError
	if !errors.As(err, &refused) || layout == "" {
		return fmt.Errorf("give the compositor a keymap: %w", err)
	}
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("compositor refuses the keyboard layout %q: %v", layout, err),
		Remedy: "use a layout of the node's xkb-data package, for example us or de(nodeadkeys)",
	}
}

func sendKeymap(device *wayland.VirtualKeyboard, text string) error {
	m, err := capture.NewMemory(keymapMemoryName, len(text)+1) // with the NUL that libxkbcommon expects
	if err != nil {
		return err
	}
	copy(m.Data, text)
	device.Keymap(keymapXKB, m.File, uint32(len(m.Data)))
	return m.Close()
}

// learn reads back the compiled keymap, now that the seat surely has one, to know what the right Alt key is.
func (k *wlrKeyboard) learn(ctx context.Context, d *wlrDesktop, watch *keymapWatch) error {
	if watch.current() != "" {
		k.modifiers.altGr = hasAltGr(watch.current())
		return nil
	}
	watch, err := watchKeymap(ctx, d)
	if err == nil {
		k.modifiers.altGr = hasAltGr(watch.current())
	}
	return err
}

// key sends a change; it returns why it cannot, or "".
func (k *wlrKeyboard) key(code uint32, down bool, now uint32) (rejected string) {
	if code == 0 || code > maxEvdev {
		return "key code outside evdev's"
	}
	if k.down[code] == down {
		return "" // a repeated state is no change; repeating held keys is the programs' own business
	}
	state := uint32(wlReleased)
	if down {
		k.down[code] = true
		state = wlPressed
	} else {
		delete(k.down, code)
	}
	k.device.Key(now, code, state)
	if k.modifiers.key(code, down) {
		k.sendModifiers()
	}
	return ""
}

// lock makes the locks of l hold. Scroll Lock is no modifier, and the compositor has no other place for it.
func (k *wlrKeyboard) lock(l *pluginpb.Locks) {
	if k.modifiers.lock(l.Known, l.On) {
		k.sendModifiers()
	}
}

func (k *wlrKeyboard) sendModifiers() {
	k.device.Modifiers(k.modifiers.depressed(), 0, k.modifiers.locked, 0)
}

func (k *wlrKeyboard) releaseAll(now uint32) {
	for code := range k.down {
		k.device.Key(now, code, wlReleased)
	}
	clear(k.down)
	clear(k.modifiers.held)
	k.sendModifiers()
}

// keymapWatch holds the newest keymap of the seat.
type keymapWatch struct {
	keyboard wayland.Keyboard

	mu   sync.Mutex // guards the following
	text string
	err  error
}

// watchKeymap reads the seat's keymap; it stays empty while the seat has no keyboard.
func watchKeymap(ctx context.Context, d *wlrDesktop) (*keymapWatch, error) {
	w := &keymapWatch{}
	w.keyboard.On.Keymap = w.keymap
	if !d.seatHasKeyboard() {
		return w, nil
	}
	d.seat.GetKeyboard(&w.keyboard)
	if err := d.conn.Roundtrip(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, w.err
}

func (w *keymapWatch) keymap(format uint32, file *os.File, size uint32) {
	defer file.Close()
	if format != keymapXKB {
		return
	}
	text, err := readKeymap(file, size)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.err = text, err
}

func readKeymap(file *os.File, size uint32) (string, error) {
	if size > maxKeymap {
		return "", fmt.Errorf("seat's keymap has %d bytes", size)
	}
	text := make([]byte, size)
	// The descriptor's offset is shared with the compositor: read at a place, not on.
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, int64(size)), text); err != nil {
		return "", fmt.Errorf("read the seat's keymap: %w", err)
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	return string(text), nil
}

func (w *keymapWatch) current() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}
