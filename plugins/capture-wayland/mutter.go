package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// mutter captures GNOME through Mutter's own D-Bus interfaces, the ones gnome-remote-desktop uses. They ask nobody for permission:
// whoever is on the session bus may. Source: data/dbus-interfaces/org.gnome.Mutter.{ScreenCast,RemoteDesktop,DisplayConfig}.xml of
// mutter 43.
type mutter struct {
	session session
	log     *slog.Logger
}

// optionMonitor is "keep" for a capture of the monitors as they are; else it may bring a monitor of its own.
const optionMonitor = "mutter_monitor"

// Name implements capture.Method.
func (m *mutter) Name() string { return "mutter" }

// Probe implements capture.Method.
func (m *mutter) Probe(ctx context.Context, frames int) *pluginpb.ProbeItem {
	if frames == 0 {
		return m.look(ctx)
	}
	s, err := openMutter(ctx, m.session, "", false)
	if err != nil {
		return asItem(err)
	}
	defer s.close()
	t, err := tryNode(ctx, s.remote, s.node, capture.Size{}, frames, s.nudge())
	if err != nil {
		return asItem(fmt.Errorf("capture monitor %s: %w", s.monitor.connector, err))
	}
	item := t.item()
	if item.Usable {
		item.Reason = s.reason()
	}
	return item
}

// look asks whether Mutter is there, without a session.
func (m *mutter) look(ctx context.Context) *pluginpb.ProbeItem {
	bus, err := portal.Connect(ctx, m.session.Bus)
	if err != nil {
		return asItem(err)
	}
	defer bus.Close()
	version, err := mutterVersion(ctx, bus)
	if err != nil {
		return asItem(err)
	}
	monitor, err := findMonitor(ctx, bus, "")
	if err != nil {
		return asItem(err)
	}
	return &pluginpb.ProbeItem{
		Usable: true, Reason: fmt.Sprintf("gnome-shell offers org.gnome.Mutter.ScreenCast version %d", version),
		Details: map[string]string{"screencast": fmt.Sprint(version), "monitor": monitor.connector, "size": monitor.size.String()},
	}
}

// Open implements capture.Method.
func (m *mutter) Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	s, err := openMutter(ctx, m.session, r.Display, r.Options[optionMonitor] != "keep")
	if err != nil {
		return nil, err
	}
	source := &pipewireSource{
		node: &capture.PipeWire{Node: s.node, Open: s.remote}, watch: s.watch, close: s.close,
		info: capture.Info{Reason: s.reason(), Kind: pluginpb.SourceKind_SOURCE_PIPEWIRE, Size: s.monitor.size, Fixed: s.fixed()},
	}
	if s.desktop != "" {
		d := &mutterDevice{session: s, size: func() capture.Size { return source.Info().Size }}
		if err := d.wake(); err != nil {
			return nil, errors.Join(fmt.Errorf("wake input devices: %w", err), s.close())
		}
		source.info.Input = true
		source.input = newInjector(d)
	}
	source.resized = s.sizeAfter
	source.resize = func(ctx context.Context, wish capture.Size, scale float64) error {
		size, err := s.resize(ctx, source.node, wish, scale)
		if err == nil {
			source.setSize(size)
		}
		return err
	}
	if wish := capture.SizeOf(r.Size); s.follows() && !wish.Zero() {
		source.info.Size = even(wish)
		s.scale.Store(math.Float64bits(r.Size.GetScale()))
	}
	if s.follows() {
		return source, source.node.Ask(source.info.Size)
	}
	return source, nil
}
