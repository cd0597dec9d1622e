package portal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// The kinds of source and device, and the ways of the cursor, as the portal numbers them.
const (
	SourceMonitor  = uint32(1)
	SourceWindow   = uint32(2)
	DeviceKeyboard = uint32(1)
	DevicePointer  = uint32(2)
	DeviceTouch    = uint32(4)
	CursorHidden   = uint32(1)
	CursorEmbedded = uint32(2)
	CursorMetadata = uint32(4)
)

const (
	persistUntilRevoked = uint32(2)
	// castPersistSince and RemotePersistSince are the interface versions from which a session can be restored without asking again.
	castPersistSince   = uint32(4)
	RemotePersistSince = uint32(2)
)

// CastOptions say what to ask for.
type CastOptions struct {
	Sources uint32
	Cursor  uint32 // 0: the portal's default
	// Devices to inject with; 0 asks for the picture only.
	Devices uint32
	// Token of an earlier cast that was allowed; empty: none.
	Token string
	// Versions of ScreenCast and RemoteDesktop.
	CastVersion, RemoteVersion uint32
}

// persists says whether such a session can be restored.
func (o CastOptions) persists() bool {
	if o.Devices != 0 {
		return o.RemoteVersion >= RemotePersistSince
	}
	return o.CastVersion >= castPersistSince
}

// Cast is one running screen cast. It ends with Close, with the bus, or by the user's hand (the Session's Closed signal).
type Cast struct {
	bus     *Bus
	Session dbus.ObjectPath
	Node    uint32
	// Width and Height are the compositor's (logical) idea of the size; 0 when it has none.
	Width, Height int32
	Devices       uint32 // granted
	// Restored says that a token was presented and good.
	Restored bool
	// Token restores this cast without asking; each is good once. Empty when the portal gave none.
	Token string

	notified *dbus.Call // the last input event; nil: none yet
}

// Cast asks for a screen cast and starts it. Everything that needs a dialog waits at most the Portal's patience.
func (p *Portal) Cast(ctx context.Context, o CastOptions) (*Cast, error) {
	c := &Cast{bus: p.bus}
	owner := ScreenCast
	if o.Devices != 0 {
		owner = RemoteDesktop
	}
	if err := p.create(ctx, owner, c); err != nil {
		return nil, err
	}
	if err := p.selectAndStart(ctx, owner, c, o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (p *Portal) create(ctx context.Context, owner string, c *Cast) error {
	p.tokens++
	options := map[string]dbus.Variant{"session_handle_token": dbus.MakeVariant(fmt.Sprintf("wavry%d", p.tokens))}
	results, err := p.request(ctx, owner+".CreateSession", options)
	if err != nil {
		return err
	}
	// The handle is documented as an object path and sent as a string.
	switch handle := results["session_handle"].Value().(type) {
	case string:
		c.Session = dbus.ObjectPath(handle)
	case dbus.ObjectPath:
		c.Session = handle
	default:
		return fmt.Errorf("create session: the portal named no session")
	}
	return p.bus.Match(ctx, c.Session, sessionIface, "Closed")
}

// Closed is the signal by which a Cast's session ends.
const Closed = sessionIface + ".Closed"

func (p *Portal) selectAndStart(ctx context.Context, owner string, c *Cast, o CastOptions) error {
	if o.Devices != 0 {
		options := map[string]dbus.Variant{"types": dbus.MakeVariant(o.Devices)}
		addToken(options, o.Token, o.persists())
		if _, err := p.request(ctx, RemoteDesktop+".SelectDevices", options, c.Session); err != nil {
			return err
		}
	}
	options := map[string]dbus.Variant{"types": dbus.MakeVariant(o.Sources), "multiple": dbus.MakeVariant(false)}
	if o.Cursor != 0 {
		options["cursor_mode"] = dbus.MakeVariant(o.Cursor)
	}
	// In a remote desktop session the devices carry the token.
	addToken(options, o.Token, o.Devices == 0 && o.persists())
	if _, err := p.request(ctx, ScreenCast+".SelectSources", options, c.Session); err != nil {
		return err
	}
	results, err := p.request(ctx, owner+".Start", map[string]dbus.Variant{}, c.Session, "")
	if err != nil {
		return err
	}
	c.Restored = o.Token != "" && o.persists()
	return c.read(results)
}

func addToken(options map[string]dbus.Variant, token string, persists bool) {
	if !persists {
		return
	}
	options["persist_mode"] = dbus.MakeVariant(persistUntilRevoked)
	if token != "" {
		options["restore_token"] = dbus.MakeVariant(token)
	}
}

func (c *Cast) read(results map[string]dbus.Variant) error {
	var streams []struct {
		Node       uint32
		Properties map[string]dbus.Variant
	}
	if v, ok := results["streams"]; !ok || v.Store(&streams) != nil || len(streams) == 0 {
		return fmt.Errorf("ScreenCast.Start: the portal named no stream")
	}
	c.Node = streams[0].Node
	var size struct{ Width, Height int32 }
	if v, ok := streams[0].Properties["size"]; ok && v.Store(&size) == nil {
		c.Width, c.Height = size.Width, size.Height
	}
	c.Token, _ = results["restore_token"].Value().(string)
	c.Devices, _ = results["devices"].Value().(uint32)
	return nil
}

// OpenRemote returns a descriptor of a PipeWire connection that sees this cast's node. It is the caller's.
func (c *Cast) OpenRemote() (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	var fd dbus.UnixFD
	err := c.bus.Object(Service, Path).CallWithContext(ctx, ScreenCast+".OpenPipeWireRemote", 0, c.Session, map[string]dbus.Variant{}).Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("open the portal's PipeWire remote: %w", err)
	}
	return os.NewFile(uintptr(fd), "pipewire"), nil
}

// Notify sends an input event; method is one of RemoteDesktop's Notify*. One goroutine at a time calls it.
//
// The portal takes every call on a thread of its own, so what is sent at once may overtake: an "a" went before the release of Shift.
// An event therefore waits for the answer to the one before.
func (c *Cast) Notify(method string, args ...any) error {
	if err := c.awaitNotified(); err != nil {
		return err
	}
	all := append([]any{c.Session, map[string]dbus.Variant{}}, args...)
	c.notified = c.bus.Object(Service, Path).Go(RemoteDesktop+"."+method, 0, make(chan *dbus.Call, 1), all...)
	return nil
}

// awaitNotified returns an error when the bus is gone. What the portal refuses, or never answers, is the watch's matter.
func (c *Cast) awaitNotified() error {
	if c.notified == nil {
		return nil
	}
	select {
	case call := <-c.notified.Done:
		var refused dbus.Error
		if call.Err != nil && !errors.As(call.Err, &refused) {
			return call.Err
		}
	case <-time.After(notifyTimeout):
	}
	return nil
}

// Close ends the session.
func (c *Cast) Close() { c.bus.CallBriefly(Service, c.Session, sessionIface+".Close") }
