package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// Probe implements capture.Method. Pictures are asked for without damage, so that an idle desktop delivers them too; the latency is
// that from the compositor's stamp to the picture being here.
func (m wlrMethod) Probe(ctx context.Context, frames int) *pluginpb.ProbeItem {
	d, err := m.connect(ctx, "")
	if err != nil {
		return unusable(err)
	}
	item := m.look(d)
	if frames > 0 {
		err = m.try(ctx, d, frames, item)
	}
	if err = errors.Join(err, d.close()); err != nil {
		return unusable(explainWlr(err))
	}
	return item
}

func unusable(err error) *pluginpb.ProbeItem {
	var u *pluginapi.UnavailableError
	if errors.As(err, &u) {
		return capture.Unusable(u.Reason, u.Remedy)
	}
	return capture.Unusable(err.Error(), "")
}

// look says what the compositor offers.
func (m wlrMethod) look(d *wlrDesktop) *pluginpb.ProbeItem {
	offers := func(name string) string { return fmt.Sprint(d.conn.Offers(name)) }
	gpu, noGPU := newDMABufMemory(d)
	details := map[string]string{
		"zwlr_screencopy_manager_v1":      offers("zwlr_screencopy_manager_v1"),
		"zwlr_virtual_pointer_manager_v1": offers("zwlr_virtual_pointer_manager_v1"),
		"zwp_virtual_keyboard_manager_v1": offers("zwp_virtual_keyboard_manager_v1"),
		"zwlr_output_manager_v1":          offers("zwlr_output_manager_v1"),
		"output":                          d.output.Name(),
		"dmabuf":                          "yes",
	}
	if noGPU != nil {
		details["dmabuf"] = "no: " + noGPU.Error()
	} else {
		_ = gpu.close() // it was only looked at
	}
	return &pluginpb.ProbeItem{
		Usable: true, Reason: "compositor offers zwlr_screencopy_manager_v1 version " + offers("zwlr_screencopy_manager_v1"), Details: details,
	}
}

// try takes pictures while the pointer moves a little and back, so that a working capture has something new to show.
func (m wlrMethod) try(ctx context.Context, d *wlrDesktop, frames int, item *pluginpb.ProbeItem) error {
	c := newWlrCopier(d, wlrOptions{embedCursor: true}, shmMemory{d})
	trial := capture.NewTrial()
	err := shootAll(ctx, c, newNudger(d), trial, frames)
	trial.Fill(item)
	item.Details["size"] = c.size.String()
	return errors.Join(err, c.close())
}

func shootAll(ctx context.Context, c *wlrCopier, n *nudger, trial *capture.Trial, frames int) error {
	defer n.end(c.desktop.conn)
	for range frames {
		n.nudge()
		b, stamp, err := c.shoot(ctx)
		if err != nil {
			return err
		}
		trial.Add(b.Data, b.Layout, media.Now().Sub(stamp))
	}
	return nil
}

// nudgePixels is far enough to be seen and near enough to disturb nobody.
const nudgePixels = 4

// nudger moves the pointer to and fro.
type nudger struct {
	pointer *wlrPointer // nil: not offered, nothing moves
	away    bool
}

func newNudger(d *wlrDesktop) *nudger {
	if d.pointers == nil {
		return &nudger{}
	}
	return &nudger{pointer: newWlrPointer(d)}
}

func (n *nudger) nudge() {
	if n.pointer == nil {
		return
	}
	way := float64(nudgePixels)
	if n.away {
		way = -way
	}
	n.away = !n.away
	n.pointer.device.Motion(wireTime(media.Now()), way, 0)
	n.pointer.device.Frame()
}

// end puts the pointer back and takes the device away. A connection that ended has done so already.
func (n *nudger) end(c *wayland.Conn) {
	if n.away {
		n.nudge()
	}
	if n.pointer != nil {
		n.pointer.device.Destroy()
	}
	_ = c.Flush()
}
