package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/portal"
)

type dbusPath = dbus.ObjectPath

// retryAfter a first failure that no human caused: right after its start the portal can fail once.
const retryAfter = 300 * time.Millisecond

// portalCast is a running cast and whether it needed no question.
type portalCast struct{ *portal.Cast }

// cast starts a screen cast with what is stored or granted beforehand, and keeps the token for the next time.
func (m *portalMethod) cast(ctx context.Context, bus *portal.Bus, v portalVersions, r *pluginpb.StartCaptureRequest) (*portalCast, error) {
	tokens := portal.Tokens{Dir: r.StateDir}
	token, err := m.token(ctx, bus, tokens, r)
	if err != nil {
		return nil, err
	}
	o := portal.CastOptions{
		Sources: portal.SourceMonitor, Cursor: portal.CursorEmbedded, Token: token,
		Devices: m.devices(v, r), CastVersion: v.cast, RemoteVersion: v.remote,
	}
	c, err := m.castTwice(ctx, bus, o)
	if err != nil {
		return nil, m.explainCast(err)
	}
	if err := tokens.Save(r.Display, c.Token); err != nil {
		c.Close()
		return nil, err
	}
	return &portalCast{c}, nil
}

// castTwice tries again once after a failure that was nobody's decision.
func (m *portalMethod) castTwice(ctx context.Context, bus *portal.Bus, o portal.CastOptions) (*portal.Cast, error) {
	p := portal.NewPortal(bus, portal.DialogTimeout)
	c, err := p.Cast(ctx, o)
	var refused *portal.RefusedError
	if err == nil || errors.Is(err, portal.ErrDialog) || (errors.As(err, &refused) && refused.Code == 1) || ctx.Err() != nil {
		return c, err
	}
	m.log.Info("portal failed, trying once more", "backend", "portal", "err", err)
	select {
	case <-time.After(retryAfter):
	case <-ctx.Done():
		return nil, err
	}
	return p.Cast(ctx, o)
}

func (m *portalMethod) explainCast(err error) error {
	var refused *portal.RefusedError
	switch {
	case errors.Is(err, portal.ErrDialog):
		return unavailable(fmt.Sprintf("the portal shows a dialog and nobody answered within %v", portal.DialogTimeout),
			"answer it once on the desktop's own screen (the answer is remembered), set the option portal_preauthorize=yes on an unattended node, or use the compositor's own method")
	case errors.As(err, &refused) && refused.Code == 1:
		return unavailable(err.Error(), "allow it in the dialog, or use the compositor's own method")
	}
	return fmt.Errorf("capture through the portal: %w", err)
}

// token is the kept one, or one that we grant ourselves.
func (m *portalMethod) token(ctx context.Context, bus *portal.Bus, tokens portal.Tokens, r *pluginpb.StartCaptureRequest) (string, error) {
	token, err := tokens.Load(r.Display)
	if err != nil || !m.preauthorize(r) {
		return token, err
	}
	// A kept token may be of a desktop that was started anew since, with an empty permission store; a new grant never is.
	switch {
	case m.session.isGNOME():
		monitor, err := findMonitor(ctx, bus, r.Display)
		if err != nil {
			return "", err
		}
		return portal.GrantGNOME(ctx, bus, monitor.vendor, monitor.product, monitor.name)
	case m.session.isKDE():
		return m.grantKDE(ctx, bus, r.Display)
	}
	return token, nil
}

// grantKDE grants a monitor, if KWin can cast one at all.
func (m *portalMethod) grantKDE(ctx context.Context, bus *portal.Bus, display string) (string, error) {
	d, err := openKWin(ctx, m.session)
	if err != nil {
		return "", err
	}
	defer d.close()
	about, err := askKWin(ctx, d.bus)
	if err == nil {
		err = about.castsMonitors()
	}
	if err != nil {
		return "", err
	}
	o, err := d.output(display)
	if err != nil {
		return "", err
	}
	place := o.place()
	return portal.GrantKDE(ctx, bus, place.X, place.Y)
}

// devices asks for input where the permission for it can be restored, or where the operator wants the dialog.
func (m *portalMethod) devices(v portalVersions, r *pluginpb.StartCaptureRequest) uint32 {
	const all = portal.DeviceKeyboard | portal.DevicePointer | portal.DeviceTouch
	switch want := r.Options["portal_input"]; {
	case want == "no" || v.remote == 0:
		return 0
	case want == "ask", v.remote >= portal.RemotePersistSince && !m.preauthorize(r):
		return all
	}
	return 0
}
