package main

import (
	"context"
	"fmt"
	"math"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// monitor is one of Mutter's monitors, as org.gnome.Mutter.DisplayConfig.GetCurrentState tells of it.
type monitor struct {
	connector             string
	vendor, product, name string
	size                  capture.Size // of its current mode
	modes                 []monitorMode
	serial                uint32 // of the state it was read from
	logical               logicalMonitor
	alone                 bool // there is no other monitor, so the layout needs no care
}

// The shapes of GetCurrentState: (u a((ssss)a(siiddada{sv})a{sv}) a(iiduba(ssss)a{sv}) a{sv}).
type (
	monitorSpec struct{ Connector, Vendor, Product, Serial string }
	monitorMode struct {
		ID            string
		Width, Height int32
		Refresh       float64
		Scale         float64
		Scales        []float64
		Properties    map[string]dbus.Variant
	}
	monitorState struct {
		Spec       monitorSpec
		Modes      []monitorMode
		Properties map[string]dbus.Variant
	}
	logicalMonitor struct {
		X, Y       int32
		Scale      float64
		Transform  uint32
		Primary    bool
		Monitors   []monitorSpec
		Properties map[string]dbus.Variant
	}
)

// monitors are all that Mutter has.
type monitors struct {
	serial  uint32
	states  []monitorState
	logical []logicalMonitor
}

func readMonitors(ctx context.Context, bus *portal.Bus) (m monitors, err error) {
	var properties map[string]dbus.Variant
	err = bus.Object(displayConfig, displayPath).CallWithContext(ctx, displayConfig+".GetCurrentState", 0).
		Store(&m.serial, &m.states, &m.logical, &properties)
	if err != nil {
		return m, fmt.Errorf("ask Mutter for its monitors: %w", err)
	}
	return m, nil
}

// findMonitor returns the monitor with that connector, or the primary one when there is none of that name.
func findMonitor(ctx context.Context, bus *portal.Bus, connector string) (*monitor, error) {
	all, err := readMonitors(ctx, bus)
	if err != nil {
		return nil, err
	}
	return all.choose(connector)
}

func (all monitors) choose(connector string) (*monitor, error) {
	state, at := chooseMonitor(all.states, all.logical, connector)
	if state == nil {
		return nil, unavailable("gnome-shell has no monitor", "start it with --virtual-monitor WIDTHxHEIGHT, or attach a display")
	}
	m := &monitor{connector: state.Spec.Connector, vendor: state.Spec.Vendor, product: state.Spec.Product, name: state.Spec.Serial,
		modes: state.Modes, serial: all.serial, logical: at, alone: len(all.states) == 1}
	for _, mode := range state.Modes {
		if current, _ := mode.Properties["is-current"].Value().(bool); current {
			m.size = capture.Size{Width: int(mode.Width), Height: int(mode.Height)}
		}
	}
	return m, nil
}

// chooseMonitor prefers the connector asked for, then the primary monitor, then any that shows something.
func chooseMonitor(states []monitorState, logical []logicalMonitor, connector string) (*monitorState, logicalMonitor) {
	wishes := []func(logicalMonitor, monitorSpec) bool{
		func(_ logicalMonitor, s monitorSpec) bool { return s.Connector == connector },
		func(l logicalMonitor, _ monitorSpec) bool { return l.Primary },
		func(logicalMonitor, monitorSpec) bool { return true },
	}
	for _, wished := range wishes {
		for _, l := range logical {
			for _, spec := range l.Monitors {
				if state := stateOf(states, spec.Connector); state != nil && wished(l, spec) {
					return state, l
				}
			}
		}
	}
	return nil, logicalMonitor{}
}

func stateOf(states []monitorState, connector string) *monitorState {
	for i := range states {
		if states[i].Spec.Connector == connector {
			return &states[i]
		}
	}
	return nil
}

// fixed says why the size cannot follow the viewer; nil when there is a choice of modes.
func (m *monitor) fixed() *pluginapi.UnavailableError {
	switch {
	case !m.alone:
		return &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("monitor %s is one of several, whose layout is their owner's", m.connector), Remedy: "stream a desktop with one monitor",
		}
	case len(m.modes) < 2: // as a virtual monitor of GNOME 43 has, the one it was started with
		return &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("monitor %s has one mode", m.connector), Remedy: "start gnome-shell with the size (--virtual-monitor, wavry desktop run gnome -size)",
		}
	}
	return nil
}

// resize sets the mode that comes nearest to wish without being configured for longer than this session, and returns its size.
func (m *monitor) resize(ctx context.Context, bus *portal.Bus, wish capture.Size, scale float64) (capture.Size, error) {
	now, err := findMonitor(ctx, bus, m.connector) // for the serial, which changes with every change
	if err != nil {
		return capture.Size{}, err
	}
	mode := nearestMode(now.modes, wish)
	size := capture.Size{Width: int(mode.Width), Height: int(mode.Height)}
	if size == now.size && mode.scale(scale) == now.logical.Scale {
		return size, nil
	}
	if err := now.apply(ctx, bus, mode, scale); err != nil {
		return now.size, err
	}
	return size, nil
}

// apply sets a mode of the monitor, which becomes the only one and must just have been read, until this session of Mutter ends.
func (m *monitor) apply(ctx context.Context, bus *portal.Bus, mode monitorMode, scale float64) error {
	return applyLayout(ctx, bus, m.serial, []placed{{m.connector, mode, m.logical.Transform, mode.scale(scale)}})
}

// placed is a monitor of a layout.
type placed struct {
	connector string
	mode      monitorMode
	transform uint32
	scale     float64 // one of the mode's; 0: 1
}

// applyLayout sets monitors side by side, the first of which is the primary one, and switches all others off. serial is of the state that
// they were read from.
func applyLayout(ctx context.Context, bus *portal.Bus, serial uint32, side []placed) error {
	type monitorConfig struct {
		Connector, Mode string
		Properties      map[string]dbus.Variant
	}
	type logicalConfig struct {
		X, Y      int32
		Scale     float64
		Transform uint32
		Primary   bool
		Monitors  []monitorConfig
	}
	var layout []logicalConfig
	x := int32(0)
	for i, p := range side {
		layout = append(layout, logicalConfig{X: x, Scale: max(p.scale, 1), Transform: p.transform, Primary: i == 0,
			Monitors: []monitorConfig{{p.connector, p.mode.ID, map[string]dbus.Variant{}}}})
		x += int32(float64(p.mode.Width) / max(p.scale, 1))
	}
	const temporary = uint32(1)
	err := bus.Object(displayConfig, displayPath).CallWithContext(ctx, displayConfig+".ApplyMonitorsConfig", 0,
		serial, temporary, layout, map[string]dbus.Variant{}).Err
	if err != nil {
		return fmt.Errorf("set mode %s of monitor %s: %w", side[0].mode.ID, side[0].connector, err)
	}
	return nil
}

// scale is the mode's scale that comes nearest to wish; 1 without a wish.
func (m monitorMode) scale(wish float64) float64 {
	best := 1.0
	for _, s := range m.Scales {
		if wish > 0 && math.Abs(s-wish) < math.Abs(best-wish) {
			best = s
		}
	}
	return best
}

// nearestMode differs least from wish in width and height; of equals it has the highest refresh rate.
func nearestMode(modes []monitorMode, wish capture.Size) monitorMode {
	distance := func(m monitorMode) int {
		return abs(int(m.Width)-wish.Width) + abs(int(m.Height)-wish.Height)
	}
	best := modes[0]
	for _, m := range modes[1:] {
		if d, b := distance(m), distance(best); d < b || (d == b && m.Refresh > best.Refresh) {
			best = m
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }
