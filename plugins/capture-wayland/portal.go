package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// portalMethod captures through xdg-desktop-portal: the way that works on every desktop and asks its user. Once allowed, a restore
// token kept in the state directory makes the next start silent; on a desktop of our own the answer is put into the permission
// store beforehand.
type portalMethod struct {
	session session
	log     *slog.Logger
}

// portalFixed: ScreenCast and RemoteDesktop know no such request.
var portalFixed = &pluginapi.UnavailableError{
	Reason: "the portal has no request for another size", Remedy: "let the compositor be captured by its own method, or start it with the size",
}

// Name implements capture.Method.
func (m *portalMethod) Name() string { return "portal" }

// Probe implements capture.Method. Without frames it raises no dialog.
func (m *portalMethod) Probe(ctx context.Context, frames int) *pluginpb.ProbeItem {
	bus, err := portal.Connect(ctx, m.session.Bus)
	if err != nil {
		return asItem(err)
	}
	defer bus.Close()
	v, err := m.versions(ctx, bus)
	if err != nil {
		return asItem(err)
	}
	if frames == 0 {
		return &pluginpb.ProbeItem{
			Usable: true, Reason: fmt.Sprintf("the portal offers ScreenCast version %d; whether it asks a human shows only in a trial", v.cast),
			Details: v.details(),
		}
	}
	c, err := m.cast(ctx, bus, v, &pluginpb.StartCaptureRequest{Options: map[string]string{"portal_input": "no"}})
	if err != nil {
		return asItem(err)
	}
	defer c.Close()
	nudge, done := m.nudge(ctx)
	defer done()
	t, err := tryNode(ctx, c.OpenRemote, c.Node, capture.Size{}, frames, nudge)
	if err != nil {
		return asItem(m.explainTrial(err))
	}
	item := t.item()
	if item.Usable {
		item.Reason = m.reason(v, c.Cast)
	}
	for k, s := range v.details() {
		item.Details[k] = s
	}
	return item
}

// nudge changes the picture by the compositor's own ways, for the portal's input would need a dialog; nil where there is none.
func (m *portalMethod) nudge(ctx context.Context) (nudge func(), done func()) {
	if m.session.isKDE() {
		if d, err := openKWin(ctx, m.session); err == nil {
			return d.nudge(), func() { _ = d.close() } // it was only there to move the pointer
		}
	}
	if m.session.isGNOME() {
		if s, err := openMutter(ctx, m.session, "", false); err == nil {
			return s.nudge(), func() { _ = s.close() }
		}
	}
	return nil, func() {}
}

func (m *portalMethod) explainTrial(err error) error {
	if errors.Is(err, errNoFrames) {
		return unavailable("the portal's stream delivered no frame within "+firstFrame.String(),
			"check that the output shows something that changes; on KDE without a GPU use kwin-window")
	}
	return fmt.Errorf("capture through the portal: %w", err)
}

// Open implements capture.Method.
func (m *portalMethod) Open(ctx context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	bus, err := portal.Connect(ctx, m.session.Bus)
	if err != nil {
		return nil, err
	}
	s, err := m.openSource(ctx, bus, r)
	if err != nil {
		_ = bus.Close() // a second close of a connection that openSource closed says so
		return nil, err
	}
	return s, nil
}

func (m *portalMethod) openSource(ctx context.Context, bus *portal.Bus, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	v, err := m.versions(ctx, bus)
	if err != nil {
		return nil, err
	}
	watch := &portal.Watch{Bus: bus, Peers: m.peers(), PipeWire: portal.PipeWireIn(m.session.RuntimeDir)}
	if err := watch.Subscribe(ctx); err != nil {
		return nil, err
	}
	c, err := m.cast(ctx, bus, v, r)
	if err != nil {
		return nil, err
	}
	watch.Closed = map[dbusPath]string{c.Session: portal.Closed}
	source := &pipewireSource{node: &capture.PipeWire{Node: c.Node, Open: c.OpenRemote}, watch: watch, close: func() error { c.Close(); return bus.Close() }}
	source.info = capture.Info{Reason: m.reason(v, c.Cast), Kind: pluginpb.SourceKind_SOURCE_PIPEWIRE, Fixed: portalFixed}
	err = m.learnSize(ctx, source, c.Cast)
	if err == nil {
		err = m.addInput(ctx, source, c.Cast, r)
	}
	if err != nil {
		return nil, errors.Join(err, source.close())
	}
	return source, nil
}

// peers are who must stay: the portal first, for the sessions are its own, then the compositor behind it, of whose death the portal
// does not always tell.
func (m *portalMethod) peers() []portal.Peer {
	peers := []portal.Peer{{Service: portal.Service, Name: "xdg-desktop-portal"}}
	switch {
	case m.session.isGNOME():
		peers = append(peers, portal.Peer{Service: "org.gnome.Shell", Name: "gnome-shell"})
	case m.session.isKDE():
		peers = append(peers, portal.Peer{Service: kwinService, Name: "KWin"})
	}
	return peers
}

// learnSize takes one frame: it proves the stream and knows the size in pixels, which the portal does not always tell.
func (m *portalMethod) learnSize(ctx context.Context, s *pipewireSource, c *portal.Cast) error {
	nudge, done := m.nudge(ctx)
	defer done()
	t, err := tryNode(ctx, c.OpenRemote, c.Node, capture.Size{}, 1, nudge)
	if err != nil {
		return m.explainTrial(err)
	}
	s.info.Size = t.size
	return nil
}

// addInput uses what the portal granted, else the compositor's own way, where the session may be entered unasked.
func (m *portalMethod) addInput(ctx context.Context, s *pipewireSource, c *portal.Cast, r *pluginpb.StartCaptureRequest) error {
	switch {
	case c.Devices != 0:
		if c.Width == 0 { // not every backend tells; without scaling it is the picture's
			c.Width, c.Height = int32(s.info.Size.Width), int32(s.info.Size.Height)
		}
		s.input, s.info.Input = newInjector(&portalDevice{cast: c}), true
		s.info.Reason += ", with input by RemoteDesktop"
		return nil
	case m.session.isKDE() && m.preauthorize(r):
		return m.addKWinInput(ctx, s, r.Display)
	case m.session.isGNOME() && m.preauthorize(r):
		return m.addMutterInput(ctx, s, r.Display)
	}
	s.info.Reason += ", without input, for which this portal would ask a human each time (option portal_input=ask)"
	return nil
}

func (m *portalMethod) addKWinInput(ctx context.Context, s *pipewireSource, display string) error {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return err
	}
	o, err := d.output(display)
	if err != nil {
		return errors.Join(err, d.close())
	}
	s.input, s.info.Input = newKWinInjector(d, o.place), d.fake != nil
	s.info.Reason += ", " + d.inputNote()
	s.watch.Gone, s.watch.GoneReason = d.conn.Done(), d.watch(portal.PipeWire{}).GoneReason
	s.alsoClose(d.close)
	return nil
}

// addMutterInput opens a cast of Mutter's own, of which only the input is used: without a reader it makes no frames.
func (m *portalMethod) addMutterInput(ctx context.Context, s *pipewireSource, display string) error {
	own, err := openMutter(ctx, m.session, display, false)
	if err != nil {
		return err
	}
	if own.desktop == "" {
		s.info.Reason += ", without input: org.gnome.Mutter.RemoteDesktop is missing"
		return own.close()
	}
	d := &mutterDevice{session: own, size: func() capture.Size { return own.monitor.size }}
	s.input, s.info.Input = newInjector(d), true
	s.info.Reason += ", with input by org.gnome.Mutter.RemoteDesktop"
	s.alsoClose(own.close)
	return d.wake()
}

// alsoClose adds to what Close does, before the rest.
func (s *pipewireSource) alsoClose(f func() error) {
	rest := s.close
	s.close = func() error { return errors.Join(f(), rest()) }
}

func (m *portalMethod) reason(v portalVersions, c *portal.Cast) string {
	how := "asked for permission"
	if c.Restored {
		how = "restored a permission"
	}
	return fmt.Sprintf("the portal casts by ScreenCast version %d, %s", v.cast, how)
}

// portalVersions are the interfaces' versions; 0: not offered.
type portalVersions struct{ cast, remote uint32 }

func (v portalVersions) details() map[string]string {
	return map[string]string{"ScreenCast": fmt.Sprint(v.cast), "RemoteDesktop": fmt.Sprint(v.remote)}
}

func (m *portalMethod) versions(ctx context.Context, bus *portal.Bus) (v portalVersions, err error) {
	p := portal.NewPortal(bus, portal.DialogTimeout)
	if v.cast, err = p.Version(ctx, portal.ScreenCast); err != nil {
		return v, err
	}
	if v.cast == 0 {
		return v, unavailable("org.freedesktop.portal.ScreenCast has no backend", m.backendRemedy())
	}
	v.remote, err = p.Version(ctx, portal.RemoteDesktop)
	return v, err
}

// backendRemedy names the package for this desktop.
func (m *portalMethod) backendRemedy() string {
	backend := "xdg-desktop-portal-gnome, -kde or -wlr"
	switch {
	case m.session.isGNOME():
		backend = "xdg-desktop-portal-gnome"
	case m.session.isKDE():
		backend = "xdg-desktop-portal-kde"
	case slices.Contains(m.session.Desktop, "sway"):
		backend = "xdg-desktop-portal-wlr"
	}
	return "install " + backend + ", see that XDG_CURRENT_DESKTOP names the desktop, and restart xdg-desktop-portal, which looks only when it starts"
}

func (s session) isGNOME() bool { return slices.Contains(s.Desktop, "gnome") }
func (s session) isKDE() bool   { return slices.Contains(s.Desktop, "kde") }

// ours says that the desktop was started by wavry desktop run: nobody sits before it.
func (s session) ours() bool { return os.Getenv("WAVRY_DESKTOP_KIND") != "" }

// preauthorize says whether to answer the dialog ourselves: on a desktop of ours, or where the operator said so.
func (m *portalMethod) preauthorize(r *pluginpb.StartCaptureRequest) bool {
	if v, ok := r.Options["portal_preauthorize"]; ok {
		return strings.EqualFold(v, "yes") || strings.EqualFold(v, "true")
	}
	return m.session.ours()
}
