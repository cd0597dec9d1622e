package main

import (
	"context"
	"errors"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// settleTime is how long after the keyboard appeared the first key is held back: programs learn of a seat's first keyboard by an event
// and must ask for it before they can hear it; a tool that types at once loses its first key (wtype to foot on sway 1.7).
const settleTime = 100 * time.Millisecond

// wlrInput plays input devices of the compositor. It is used by one goroutine at a time.
type wlrInput struct {
	conn     *wayland.Conn
	keyboard *wlrKeyboard // nil: not offered
	text     *wlrText     // nil without a keyboard
	pointer  *wlrPointer  // nil: not offered
	ready    media.Time   // when the first key may be sent
}

func newWlrInput(ctx context.Context, d *wlrDesktop, layout, fallback string) (*wlrInput, error) {
	in := &wlrInput{conn: d.conn}
	if d.pointers != nil {
		in.pointer = newWlrPointer(d)
	}
	if d.keyboards != nil && d.seat != nil {
		k, err := newWlrKeyboard(ctx, d, layout, fallback)
		if err != nil {
			return nil, err
		}
		in.keyboard, in.text = k, &wlrText{desktop: d}
	}
	in.ready = media.Now().Add(settleTime)
	return in, d.conn.Roundtrip(ctx)
}

// works reports whether there is anything to play.
func (in *wlrInput) works() bool { return in.keyboard != nil || in.pointer != nil }

func (in *wlrInput) inject(ctx context.Context, events []*pluginpb.InputEvent) (capture.Rejected, error) {
	var rejected capture.Rejected
	for _, e := range events {
		if e.GetKey() != nil || e.GetText() != nil {
			if err := in.settle(ctx); err != nil {
				return rejected, err
			}
		}
		if t := e.GetText(); t != nil && in.text != nil {
			if err := in.text.play(t.Text, wireTime(media.Now()), &rejected); err != nil {
				return rejected, err
			}
			continue
		}
		if why := in.play(e, wireTime(media.Now())); why != "" {
			rejected.Add(why)
		}
	}
	return rejected, in.conn.Flush()
}

// settle waits until the first key can be heard.
func (in *wlrInput) settle(ctx context.Context) error {
	wait := in.ready.Sub(media.Now())
	if wait <= 0 {
		return nil
	}
	if err := in.conn.Flush(); err != nil {
		return err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wireTime is Wayland's millisecond clock, which wraps.
func wireTime(t media.Time) uint32 { return uint32(int64(t) / int64(time.Millisecond)) }

const (
	noKeyboard = "compositor does not offer zwp_virtual_keyboard_manager_v1"
	noPointer  = "compositor does not offer zwlr_virtual_pointer_manager_v1"
)

// play sends one event; it returns why it could not, or "".
func (in *wlrInput) play(e *pluginpb.InputEvent, now uint32) (rejected string) {
	switch e := e.Event.(type) {
	case *pluginpb.InputEvent_Key:
		if in.keyboard == nil {
			return noKeyboard
		}
		return in.keyboard.key(e.Key.Code, e.Key.Down, now)
	case *pluginpb.InputEvent_Text:
		return noKeyboard
	case *pluginpb.InputEvent_Locks:
		if in.keyboard == nil {
			return noKeyboard
		}
		in.keyboard.lock(e.Locks)
		return ""
	case *pluginpb.InputEvent_ReleaseAll:
		in.releaseAll(now)
		return ""
	case nil:
		return "empty input event"
	}
	if in.pointer == nil {
		return noPointer
	}
	return in.pointer.play(e.Event, now)
}

func (in *wlrInput) releaseAll(now uint32) {
	if in.keyboard != nil {
		in.keyboard.releaseAll(now)
	}
	if in.pointer != nil {
		in.pointer.releaseAll(now)
	}
}

// close lets go of every key and button, and of the devices.
func (in *wlrInput) close() error {
	in.releaseAll(wireTime(media.Now()))
	if in.keyboard != nil {
		in.keyboard.device.Destroy()
		in.text.close()
	}
	if in.pointer != nil {
		in.pointer.device.Destroy()
	}
	if err := in.conn.Flush(); err != nil && !errors.Is(err, wayland.ErrCompositorGone) {
		return err
	}
	return nil
}
