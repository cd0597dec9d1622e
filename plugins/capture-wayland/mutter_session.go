package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

const (
	screenCast     = "org.gnome.Mutter.ScreenCast"
	screenCastPath = "/org/gnome/Mutter/ScreenCast"
	remoteDesktop  = "org.gnome.Mutter.RemoteDesktop"
	remotePath     = "/org/gnome/Mutter/RemoteDesktop"
	displayConfig  = "org.gnome.Mutter.DisplayConfig"
	displayPath    = "/org/gnome/Mutter/DisplayConfig"
)

// The cursor is drawn into the picture: pipewiresrc drops the metadata in which it could come beside it (PipeWire 0.3.65 to 1.4).
const cursorEmbedded = uint32(1)

// mutterSession is a screen cast of one monitor, tied to a remote desktop session where there is one.
type mutterSession struct {
	bus     *portal.Bus
	monitor *monitor
	desktop dbus.ObjectPath // remote desktop session; empty: no input
	cast    dbus.ObjectPath // screen cast session
	stream  dbus.ObjectPath
	node    uint32
	remote  func() (*os.File, error)
	watch   *portal.Watch
	version uint32
	scale   atomic.Uint64   // float bits, of the session's own monitor, wished by the viewer; 0: none
	others  map[string]bool // connectors of the monitors beside the session's own; nil: it has none
}

// mutterVersion returns the version of the screen cast interface.
func mutterVersion(ctx context.Context, bus *portal.Bus) (version uint32, err error) {
	var signed int32
	err = bus.Property(ctx, screenCast, screenCastPath, screenCast, "Version", &signed)
	switch {
	case portal.Missing(err):
		return 0, unavailable("nobody offers org.gnome.Mutter.ScreenCast on the session bus",
			"run GNOME Shell (wavry desktop run gnome), or use another capture method")
	case err != nil:
		return 0, fmt.Errorf("ask for Mutter's version: %w", err)
	}
	return uint32(signed), nil
}

// openMutter starts casting the monitor with that connector name, or the primary one; with follow it may be a monitor of the session's own,
// whose size can be chosen. ctx bounds the opening.
func openMutter(ctx context.Context, env session, connector string, follow bool) (*mutterSession, error) {
	bus, err := portal.Connect(ctx, env.Bus)
	if err != nil {
		return nil, err
	}
	s := &mutterSession{bus: bus, remote: portal.PipeWireIn(env.RuntimeDir).Open}
	if err := s.open(ctx, env, connector, follow); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *mutterSession) open(ctx context.Context, env session, connector string, follow bool) (err error) {
	if s.version, err = mutterVersion(ctx, s.bus); err != nil {
		return err
	}
	all, err := readMonitors(ctx, s.bus)
	if err != nil {
		return err
	}
	if s.monitor, err = all.choose(connector); err != nil {
		return err
	}
	if follow && all.virtual() {
		s.others = all.connectors()
	}
	s.watch = &portal.Watch{Bus: s.bus, Peers: []portal.Peer{{Service: screenCast, Name: "gnome-shell"}}, PipeWire: portal.PipeWireIn(env.RuntimeDir)}
	if err := s.watch.Subscribe(ctx); err != nil {
		return err
	}
	if err := s.bus.Match(ctx, displayPath, displayConfig, "MonitorsChanged"); err != nil {
		return fmt.Errorf("watch monitors: %w", err)
	}
	if err := s.createSessions(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

func (s *mutterSession) createSessions(ctx context.Context) error {
	options := map[string]dbus.Variant{}
	err := s.call(ctx, remoteDesktop, remotePath, "CreateSession").Store(&s.desktop)
	switch {
	case portal.Missing(err): // a Mutter built without it still casts
	case err != nil:
		return fmt.Errorf("create a remote desktop session: %w", err)
	default:
		var id string
		if err := s.bus.Property(ctx, remoteDesktop, s.desktop, remoteDesktop+".Session", "SessionId", &id); err != nil {
			return fmt.Errorf("ask for the remote desktop session's id: %w", err)
		}
		options["remote-desktop-session-id"] = dbus.MakeVariant(id)
	}
	if err := s.call(ctx, screenCast, screenCastPath, "CreateSession", options).Store(&s.cast); err != nil {
		return fmt.Errorf("create a screen cast session: %w", err)
	}
	return s.watchSessions(ctx)
}

func (s *mutterSession) watchSessions(ctx context.Context) error {
	s.watch.Closed = map[dbus.ObjectPath]string{s.cast: screenCast + ".Session.Closed"}
	if err := s.bus.Match(ctx, s.cast, screenCast+".Session", "Closed"); err != nil {
		return fmt.Errorf("watch the screen cast session: %w", err)
	}
	if s.desktop == "" {
		return nil
	}
	s.watch.Closed[s.desktop] = remoteDesktop + ".Session.Closed"
	if err := s.bus.Match(ctx, s.desktop, remoteDesktop+".Session", "Closed"); err != nil {
		return fmt.Errorf("watch the remote desktop session: %w", err)
	}
	return nil
}

// start records the monitor, or one of the session's own, and waits for the PipeWire node.
func (s *mutterSession) start(ctx context.Context) error {
	options := map[string]dbus.Variant{"cursor-mode": dbus.MakeVariant(cursorEmbedded)}
	method, args := "Session.RecordMonitor", []any{s.monitor.connector, options}
	if s.follows() {
		method, args = "Session.RecordVirtual", []any{options}
	}
	if err := s.call(ctx, screenCast, s.cast, method, args...).Store(&s.stream); err != nil {
		return fmt.Errorf("record monitor %s: %w", s.monitor.connector, err)
	}
	if err := s.bus.Match(ctx, s.stream, screenCast+".Stream", "PipeWireStreamAdded"); err != nil {
		return fmt.Errorf("watch the stream: %w", err)
	}
	owner, path := screenCast, s.cast
	if s.desktop != "" { // a screen cast that belongs to a remote desktop session starts with it
		owner, path = remoteDesktop, s.desktop
	}
	if err := s.call(ctx, owner, path, "Session.Start").Err; err != nil {
		return fmt.Errorf("start the session: %w", err)
	}
	return s.awaitNode(ctx)
}

func (s *mutterSession) awaitNode(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	signal, err := s.bus.Await(ctx, s.stream, screenCast+".Stream.PipeWireStreamAdded")
	if err != nil {
		return unavailable(fmt.Sprintf("gnome-shell named no PipeWire node within %v", streamTimeout),
			"check that pipewire and wireplumber run in the desktop's session")
	}
	if err := dbus.Store(signal.Body, &s.node); err != nil {
		return fmt.Errorf("read PipeWireStreamAdded: %w", err)
	}
	return nil
}

// call calls a method of iface (a service of the same name) at path; the method may be one of a sub-interface ("Session.Start").
func (s *mutterSession) call(ctx context.Context, iface string, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	return s.bus.Object(iface, path).CallWithContext(ctx, iface+"."+method, 0, args...)
}

func (s *mutterSession) reason() string {
	input := "with input"
	if s.desktop == "" {
		input = "without input: org.gnome.Mutter.RemoteDesktop is missing"
	}
	what := "monitor " + s.monitor.connector
	if s.follows() {
		what = "a virtual monitor of the session's own"
	}
	return fmt.Sprintf("gnome-shell casts %s by org.gnome.Mutter.ScreenCast version %d, %s", what, s.version, input)
}

// sizeAfter looks again at the monitor when monitors changed.
func (s *mutterSession) sizeAfter(signal *dbus.Signal) (capture.Size, bool) {
	if signal.Name != displayConfig+".MonitorsChanged" {
		return capture.Size{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
	defer cancel()
	if s.follows() {
		return s.settle(ctx)
	}
	m, err := findMonitor(ctx, s.bus, s.monitor.connector)
	if err != nil {
		return capture.Size{}, false // the monitor is gone, and Closed follows
	}
	return m.size, true
}

// nudge moves the pointer to and fro by a pixel, which is the least that changes the picture; nil without input.
func (s *mutterSession) nudge() func() {
	if s.desktop == "" {
		return nil
	}
	step := 1.0
	d := &mutterDevice{session: s}
	return func() {
		_ = d.move(step, 0) // a session that is over shows as missing frames
		step = -step
	}
}

// close stops the session, so that gnome-shell's indicator goes, and the connection.
func (s *mutterSession) close() error {
	if s.follows() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
		defer cancel()
		s.leave(ctx)
	}
	if s.desktop != "" {
		s.bus.CallBriefly(remoteDesktop, s.desktop, remoteDesktop+".Session.Stop")
	} else if s.cast != "" {
		s.bus.CallBriefly(screenCast, s.cast, screenCast+".Session.Stop")
	}
	return s.bus.Close()
}
