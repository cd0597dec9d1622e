package main

import (
	"context"
	"math"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// The virtual monitor that a headless gnome-shell is started with has one size. The monitor of a virtual stream (RecordVirtual) is as
// large as its reader wants it, and keeps its windows when another reader wants another size (mutter 43, ensure_virtual_monitor). So
// where all monitors are virtual a session brings a monitor of its own and switches the others off. It ends with the stream; the others are
// switched on before, or by Mutter, which moves the windows there.

// The products by which Mutter calls virtual monitors: of its command line, and of virtual streams.
const (
	headlessProduct = "MetaVirtualMonitor"
	streamProduct   = "Virtual remote monitor"
)

// virtual reports whether nobody sits before any of the monitors.
func (all monitors) virtual() bool {
	for _, s := range all.states {
		if p := s.Spec.Product; p != headlessProduct && p != streamProduct {
			return false
		}
	}
	return len(all.states) > 0
}

func (all monitors) connectors() map[string]bool {
	set := map[string]bool{}
	for _, s := range all.states {
		set[s.Spec.Connector] = true
	}
	return set
}

// newcomer is the monitor of a virtual stream that was not among the others; empty: not there yet.
func (all monitors) newcomer(others map[string]bool) string {
	for _, s := range all.states {
		if s.Spec.Product == streamProduct && !others[s.Spec.Connector] {
			return s.Spec.Connector
		}
	}
	return ""
}

// follows reports whether the session has a monitor of its own.
func (s *mutterSession) follows() bool { return s.others != nil }

// fixed says why the size cannot follow the viewer; nil when it can.
func (s *mutterSession) fixed() *pluginapi.UnavailableError {
	if s.follows() {
		return nil
	}
	return s.monitor.fixed()
}

// resize makes the picture as large as wish, or nearly so, and returns its size.
func (s *mutterSession) resize(ctx context.Context, node *capture.PipeWire, wish capture.Size, scale float64) (capture.Size, error) {
	if !s.follows() {
		return s.monitor.resize(ctx, s.bus, wish, scale)
	}
	s.scale.Store(math.Float64bits(scale))
	if err := node.Ask(even(wish)); err != nil {
		return capture.Size{}, err
	}
	s.settle(ctx) // the size may be the same; if not, the change of monitors settles it again
	return even(wish), nil
}

// settle makes the session's own monitor the only one and gives it the wished scale, which every change of monitors undoes, and returns its size.
func (s *mutterSession) settle(ctx context.Context) (capture.Size, bool) {
	all, err := readMonitors(ctx, s.bus)
	if err != nil {
		return capture.Size{}, false // gnome-shell is gone or hangs, which the watch notices
	}
	connector := all.newcomer(s.others)
	m, err := all.choose(connector)
	if err != nil || m.connector != connector {
		return capture.Size{}, false // no encoder has asked for it yet
	}
	scale := math.Float64frombits(s.scale.Load())
	mode := nearestMode(m.modes, m.size)
	if len(all.logical) > 1 || (scale > 0 && m.logical.Scale != mode.scale(scale)) {
		// A failure is of a state that has changed again, and that comes with a signal of its own.
		_ = m.apply(ctx, s.bus, mode, scale)
	}
	return m.size, true
}

// leave switches the others on before the session's own monitor goes: programs are not used to a desktop that is without a monitor for a
// moment. foot 1.13 crashed once in a test that killed one session after the other.
func (s *mutterSession) leave(ctx context.Context) {
	all, err := readMonitors(ctx, s.bus)
	if err != nil || len(all.states) < 2 {
		return // gnome-shell is gone, or the own monitor was never there
	}
	own := all.newcomer(s.others)
	var side []placed
	for _, state := range all.states {
		p := placed{connector: state.Spec.Connector, mode: state.Modes[0]}
		if p.connector == own {
			side = append([]placed{p}, side...)
		} else if s.others[p.connector] {
			side = append(side, p)
		}
	}
	if own != "" {
		_ = applyLayout(ctx, s.bus, all.serial, side) // what Mutter refuses it does by itself in a moment
	}
}
