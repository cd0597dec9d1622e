package main

import (
	"context"
	"errors"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// errNoDevice is what a pointerDevice returns for a kind of input that it lacks; the event is rejected with its text.
var errNoDevice = errors.New("the session offers no such input device")

// device delivers single input events to a compositor. Methods return when the compositor has been told.
type device interface {
	key(code uint32, down bool) error
	button(code uint32, down bool) error
	moveTo(x, y float64) error // 0..1 of the output
	move(dx, dy float64) error // pixels
	scroll(s *pluginpb.Scroll) error
	touch(id uint32, phase pluginpb.Touch_Phase, x, y float64) error
	// flush returns when everything before has been handed over.
	flush(ctx context.Context) error
}

// injector turns events into calls of a device and remembers what is held, so that ReleaseAll can let go. It belongs to one
// goroutine.
type injector struct {
	device  device
	keys    map[uint32]bool
	buttons map[uint32]bool
	touches map[uint32]bool
	locks   locks
	locked  media.Time // when a lock's key was pressed last
	layout  strokes
}

// lockSettles is how long after a lock's key was pressed the compositor may still say what was before.
const lockSettles = 500 * time.Millisecond

// lockReader is a device that knows the desktop's locks.
type lockReader interface {
	readLocks() (known, on uint32)
}

func newInjector(d device) *injector {
	return &injector{device: d, keys: map[uint32]bool{}, buttons: map[uint32]bool{}, touches: map[uint32]bool{}, locks: newLocks(), layout: usStrokes()}
}

// inject delivers events in order. A connection that fails ends it with an error; an event that cannot be delivered is rejected.
func (i *injector) inject(ctx context.Context, events []*pluginpb.InputEvent) (rejected capture.Rejected, err error) {
	for _, e := range events {
		if t := e.GetText(); t != nil {
			if err := i.text(t.Text, &rejected); errors.Is(err, errNoDevice) {
				rejected.Add(err.Error())
			} else if err != nil {
				return rejected, err
			}
			continue
		}
		switch err := i.one(e); {
		case errors.Is(err, errNoDevice):
			rejected.Add(err.Error())
		case err != nil:
			return rejected, err
		}
	}
	return rejected, i.device.flush(ctx)
}

func (i *injector) one(e *pluginpb.InputEvent) error {
	switch v := e.Event.(type) {
	case *pluginpb.InputEvent_Key:
		return i.press(i.keys, v.Key.Code, v.Key.Down, i.device.key)
	case *pluginpb.InputEvent_Button:
		return i.press(i.buttons, v.Button.Code, v.Button.Down, i.device.button)
	case *pluginpb.InputEvent_MotionAbsolute:
		return i.device.moveTo(unit(v.MotionAbsolute.X), unit(v.MotionAbsolute.Y))
	case *pluginpb.InputEvent_MotionRelative:
		return i.device.move(v.MotionRelative.Dx, v.MotionRelative.Dy)
	case *pluginpb.InputEvent_Scroll:
		return i.device.scroll(v.Scroll)
	case *pluginpb.InputEvent_Touch:
		return i.point(v.Touch)
	case *pluginpb.InputEvent_Locks:
		return i.lock(v.Locks)
	case *pluginpb.InputEvent_ReleaseAll:
		return i.releaseAll()
	}
	return errors.Join(errNoDevice, errors.New("the event has a kind that this plugin does not know"))
}

func (i *injector) press(held map[uint32]bool, code uint32, down bool, tell func(uint32, bool) error) error {
	if err := tell(code, down); err != nil {
		return err
	}
	if down {
		held[code] = true
	} else {
		delete(held, code)
	}
	return nil
}

// text types what the layout has.
func (i *injector) text(text string, rejected *capture.Rejected) error {
	for _, c := range lines.Replace(text) {
		s, ok := i.layout[c]
		if !ok {
			rejected.Untypable(c, "the desktop's keyboard layout has no key for it")
			continue
		}
		if err := s.play(i.device.key); err != nil {
			return err
		}
	}
	return nil
}

// lock presses the keys of locks that are not as wished.
func (i *injector) lock(wish *pluginpb.Locks) error {
	now := media.Now()
	if r, ok := i.device.(lockReader); ok && now.Sub(i.locked) > lockSettles {
		i.locks.learn(r.readLocks())
	}
	for _, key := range i.locks.wish(wish) {
		if err := (stroke{code: key}).play(i.device.key); err != nil {
			return err
		}
		i.locked = now
	}
	return nil
}

func (i *injector) point(t *pluginpb.Touch) error {
	if err := i.device.touch(t.Id, t.Phase, unit(t.X), unit(t.Y)); err != nil {
		return err
	}
	switch t.Phase {
	case pluginpb.Touch_DOWN:
		i.touches[t.Id] = true
	case pluginpb.Touch_UP, pluginpb.Touch_CANCEL:
		delete(i.touches, t.Id)
	}
	return nil
}

func (i *injector) releaseAll() error {
	var errs []error
	for code := range i.keys {
		errs = append(errs, i.press(i.keys, code, false, i.device.key))
	}
	for code := range i.buttons {
		errs = append(errs, i.press(i.buttons, code, false, i.device.button))
	}
	for id := range i.touches {
		errs = append(errs, i.point(&pluginpb.Touch{Id: id, Phase: pluginpb.Touch_UP}))
	}
	return errors.Join(errs...)
}

// unit keeps a coordinate on the output; a viewer may send what lies just outside while dragging. NaN becomes 0.
func unit(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, 1)
}
