package main

import (
	"context"
	"fmt"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// kwinDevice injects by org_kde_kwin_fake_input.
type kwinDevice struct {
	fake  *wayland.FakeInput
	conn  *wayland.Conn
	place func() rect // where the picture lies in the compositor's space
}

// newKWinInjector returns nil without fake input.
func newKWinInjector(d *kwinDesktop, place func() rect) *injector {
	if d.fake == nil {
		return nil
	}
	return newInjector(&kwinDevice{fake: d.fake, conn: d.conn, place: place})
}

func pressed(down bool) uint32 {
	if down {
		return 1
	}
	return 0
}

func (d *kwinDevice) key(code uint32, down bool) error {
	d.fake.KeyboardKey(code, pressed(down))
	return nil
}

func (d *kwinDevice) button(code uint32, down bool) error {
	d.fake.Button(code, pressed(down))
	return nil
}

func (d *kwinDevice) point(x, y float64) (float64, float64) {
	r := d.place()
	px, py := scaled(x, y, r.size())
	return float64(r.X) + px, float64(r.Y) + py
}

func (d *kwinDevice) moveTo(x, y float64) error {
	d.fake.PointerMotionAbsolute(d.point(x, y))
	return nil
}

func (d *kwinDevice) move(dx, dy float64) error {
	d.fake.PointerMotion(dx, dy)
	return nil
}

// scroll sends pixels, of which one notch is 15 for KWin: fake input knows no notches, and KWin counts them from the pixels.
func (d *kwinDevice) scroll(s *pluginpb.Scroll) error {
	const vertical, horizontal, perUnit = 0, 1, 15.0 / notchUnits
	if s.Y != 0 {
		d.fake.Axis(vertical, float64(s.Y)*perUnit)
	}
	if s.X != 0 {
		d.fake.Axis(horizontal, float64(s.X)*perUnit)
	}
	return nil
}

func (d *kwinDevice) touch(id uint32, phase pluginpb.Touch_Phase, x, y float64) error {
	px, py := d.point(x, y)
	switch phase {
	case pluginpb.Touch_DOWN:
		d.fake.TouchDown(id, px, py)
	case pluginpb.Touch_MOVE:
		d.fake.TouchMotion(id, px, py)
	case pluginpb.Touch_UP:
		d.fake.TouchUp(id)
	case pluginpb.Touch_CANCEL:
		d.fake.TouchCancel()
		return nil
	}
	d.fake.TouchFrame()
	return nil
}

func (d *kwinDevice) flush(context.Context) error {
	if err := d.conn.Flush(); err != nil {
		return fmt.Errorf("tell KWin of input: %w", err)
	}
	return nil
}
