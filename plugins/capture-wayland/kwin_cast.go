package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
	"github.com/wavry/fleet/plugins/internal/wayland"
)

// kwinCast captures through zkde_screencast and injects through org_kde_kwin_fake_input, KWin's own protocols, which ask nobody:
// either the whole output or the window that fills it.
type kwinCast struct {
	session session
	log     *slog.Logger
	window  bool
}

// kwinTarget is what a kwinCast streams.
type kwinTarget struct {
	desktop *kwinDesktop
	stream  *kwinStream
	remote  portal.PipeWire
	what    string
	size    capture.Size
	place   func() rect
}

// Name implements capture.Method.
func (m *kwinCast) Name() string {
	if m.window {
		return "kwin-window"
	}
	return "kwin-screencast"
}

// Probe implements capture.Method.
func (m *kwinCast) Probe(ctx context.Context, frames int) *pluginpb.ProbeItem {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return asItem(err)
	}
	defer d.close()
	if err := d.needCaster(); err != nil {
		return asItem(err)
	}
	if frames == 0 {
		return m.look(ctx, d)
	}
	t, err := m.open(ctx, d, "")
	if err != nil {
		return asItem(err)
	}
	defer t.stream.object.Close()
	got, err := t.try(ctx, frames)
	if err != nil {
		return asItem(err)
	}
	item := got.item()
	if item.Usable {
		item.Reason = t.reason()
	}
	return item
}

func (m *kwinCast) look(ctx context.Context, d *kwinDesktop) *pluginpb.ProbeItem {
	item := &pluginpb.ProbeItem{Usable: true, Details: map[string]string{
		"zkde_screencast_unstable_v1": fmt.Sprint(d.conn.Offers("zkde_screencast_unstable_v1")),
		"org_kde_kwin_fake_input":     fmt.Sprint(d.conn.Offers("org_kde_kwin_fake_input")),
	}}
	o, err := d.output("")
	if err == nil && m.window {
		_, err = m.find(d, o)
	}
	if err != nil {
		return asItem(err)
	}
	about, err := askKWin(ctx, d.bus)
	if err == nil && !m.window {
		err = about.castsMonitors()
	}
	if err != nil {
		return asItem(err)
	}
	item.Details["kwin"], item.Details["backend"] = about.Version, about.Backend
	item.Details["output"], item.Details["size"] = o.Name(), o.pixels().String()
	item.Reason = "KWin offers zkde_screencast_unstable_v1; whether frames come shows only in a trial"
	return item
}

// Open implements capture.Method.
func (m *kwinCast) Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return nil, err
	}
	s, err := m.openSource(ctx, d, r.Display)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return s, nil
}

func (m *kwinCast) openSource(ctx context.Context, d *kwinDesktop, display string) (capture.Source, error) {
	if err := d.needCaster(); err != nil {
		return nil, err
	}
	t, err := m.open(ctx, d, display)
	if err != nil {
		return nil, err
	}
	// KWin's virtual backend makes a node that never delivers, so one frame is wanted before this counts as a capture.
	if _, err := t.try(ctx, 1); err != nil {
		return nil, err
	}
	watch := d.watch(t.remote)
	watch.Gone, watch.GoneReason = t.over(watch.Gone), t.overReason(watch.GoneReason)
	if err := watch.Subscribe(ctx); err != nil {
		return nil, err
	}
	source := &pipewireSource{
		node: &capture.PipeWire{Node: t.stream.node, Open: t.remote.Open}, watch: watch, input: newKWinInjector(d, t.place),
		info: capture.Info{Reason: t.reason(), Kind: pluginpb.SourceKind_SOURCE_PIPEWIRE, Size: t.size, Input: d.fake != nil, Fixed: kwinFixed},
		close: func() error {
			t.stream.object.Close()
			_ = d.conn.Flush() // when the connection is over, so is the stream
			return d.close()
		},
	}
	return source, nil
}

// open asks for the stream.
func (m *kwinCast) open(ctx context.Context, d *kwinDesktop, display string) (*kwinTarget, error) {
	o, err := d.output(display)
	if err != nil {
		return nil, err
	}
	t := &kwinTarget{desktop: d, remote: portal.PipeWireIn(m.session.RuntimeDir)}
	if m.window {
		return t, m.openWindow(ctx, t, o)
	}
	about, err := askKWin(ctx, d.bus)
	if err != nil {
		return nil, err
	}
	if err := about.castsMonitors(); err != nil {
		return nil, err
	}
	t.what, t.size, t.place = "output "+o.Name(), o.pixels(), o.place
	t.stream, err = d.openStream(ctx, func(s *wayland.KdeScreencastStream) {
		d.caster.StreamOutput(s, &o.Output, kwinCursorEmbedded)
	})
	return t, err
}

func (m *kwinCast) openWindow(ctx context.Context, t *kwinTarget, o *kwinOutput) error {
	w, err := m.find(t.desktop, o)
	if err != nil {
		return err
	}
	t.what, t.size = fmt.Sprintf("window %q", w.title), w.place.size()
	t.place = func() rect {
		if now, ok := t.desktop.windows.place(w.uuid); ok {
			return now
		}
		return w.place
	}
	t.stream, err = t.desktop.openStream(ctx, func(s *wayland.KdeScreencastStream) {
		t.desktop.caster.StreamWindow(s, w.uuid, kwinCursorEmbedded)
	})
	return err
}

func (m *kwinCast) find(d *kwinDesktop, o *kwinOutput) (seen, error) {
	if d.windows == nil {
		return seen{}, unavailable("KWin does not offer org_kde_plasma_window_management version 13 to this program",
			"start KWin with KWIN_WAYLAND_NO_PERMISSION_CHECKS=1 (wavry desktop run kde does)")
	}
	w, ok := chooseWindow(d.windows.list(), o.place())
	if !ok {
		return seen{}, unavailable("no window fills the output", "maximise a window, or use kwin-screenshot")
	}
	return w, nil
}

// try takes frames while the pointer moves.
func (t *kwinTarget) try(ctx context.Context, frames int) (*trial, error) {
	got, err := tryNode(ctx, t.remote.Open, t.stream.node, capture.Size{}, frames, t.desktop.nudge())
	if errors.Is(err, errNoFrames) {
		return nil, unavailable(fmt.Sprintf("KWin's stream of %s delivered no frame within %v although the pointer moved", t.what, firstFrame),
			"KWin's virtual backend (5.27) never signals changes of an output; run KWin on a GPU, or use kwin-window or kwin-screenshot")
	}
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", t.what, err)
	}
	return got, nil
}

func (t *kwinTarget) reason() string {
	return fmt.Sprintf("KWin streams %s by zkde_screencast_unstable_v1 version %d, %s", t.what, t.desktop.caster.Version(), t.desktop.inputNote())
}

// over is closed when the stream or KWin is.
func (t *kwinTarget) over(kwin <-chan struct{}) <-chan struct{} {
	over := make(chan struct{})
	go func() { // ends with the connection at the latest, which Close closes
		defer close(over)
		select {
		case <-t.stream.closed:
		case <-kwin:
		}
	}()
	return over
}

func (t *kwinTarget) overReason(kwin func() error) func() error {
	return func() error {
		select {
		case <-t.stream.closed:
			return unavailable("KWin closed the stream of "+t.what, "the window or output is gone; start the capture again")
		default:
			return kwin()
		}
	}
}
