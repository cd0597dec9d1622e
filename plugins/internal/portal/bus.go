// Package portal talks to the services of a desktop session: its D-Bus, xdg-desktop-portal's ScreenCast and RemoteDesktop, the
// permission store and the PipeWire socket. It knows how to ask and how to notice that nobody answers; what to capture and how to
// inject is the caller's.
package portal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// Bus is a connection of our own to a session bus. Close it.
type Bus struct {
	*dbus.Conn
	signals chan *dbus.Signal
}

// Connect connects to the session bus at address (DBUS_SESSION_BUS_ADDRESS). ctx bounds the connecting only.
func Connect(ctx context.Context, address string) (*Bus, error) {
	if address == "" {
		return nil, &pluginapi.UnavailableError{
			Reason: "DBUS_SESSION_BUS_ADDRESS is not set",
			Remedy: "start the host runtime inside the desktop's session, or with its environment (wavry desktop run -env-file)",
		}
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("the session bus at %s does not answer: %v", address, err),
			Remedy: "check that the desktop runs, as the same user",
		}
	}
	b := &Bus{Conn: conn, signals: make(chan *dbus.Signal, maxSignals)}
	conn.Signal(b.signals)
	return b, nil
}

// dial gives up with ctx, while the connection lives on after it: godbus ties a connection to its context.
func dial(ctx context.Context, address string) (*dbus.Conn, error) {
	life, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	conn, err := dbus.Connect(address, dbus.WithContext(life))
	if !stop() && err == nil {
		_ = conn.Close()
		return nil, ctx.Err()
	}
	if err != nil {
		cancel()
	}
	return conn, err
}

// Owned reports whether somebody owns a name; a service that could be activated does not count.
func (b *Bus) Owned(ctx context.Context, name string) (bool, error) {
	var owned bool
	err := b.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned)
	return owned, err
}

// Property reads a property of an object into value.
func (b *Bus) Property(ctx context.Context, service string, path dbus.ObjectPath, iface, name string, value any) error {
	var v dbus.Variant
	err := b.Object(service, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(value)
}

// Ping asks a service whether it still answers.
func (b *Bus) Ping(ctx context.Context, service string) error {
	return b.Object(service, "/").CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0).Err
}

// Match subscribes to a signal of an interface at a path.
func (b *Bus) Match(ctx context.Context, path dbus.ObjectPath, iface, member string) error {
	return b.AddMatchSignalContext(ctx, dbus.WithMatchObjectPath(path), dbus.WithMatchInterface(iface), dbus.WithMatchMember(member))
}

// MatchOwner subscribes to changes of a name's owner.
func (b *Bus) MatchOwner(ctx context.Context, name string) error {
	return b.AddMatchSignalContext(ctx, dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name))
}

// Signals yields every signal subscribed to. It has one reader at a time.
func (b *Bus) Signals() <-chan *dbus.Signal { return b.signals }

// Await reads signals until one at path with this full name ("interface.Member") comes; others are dropped.
func (b *Bus) Await(ctx context.Context, path dbus.ObjectPath, name string) (*dbus.Signal, error) {
	for {
		select {
		case s := <-b.signals:
			if s != nil && s.Path == path && s.Name == name {
				return s, nil
			}
		case <-b.Context().Done():
			return nil, ErrBusGone
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", name, ctx.Err())
		}
	}
}

// Missing reports that an error of a call says that the interface, method, object or service is not there.
func Missing(err error) bool {
	var d dbus.Error
	if !errors.As(err, &d) {
		return false
	}
	switch d.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.UnknownInterface",
		"org.freedesktop.DBus.Error.UnknownMethod", "org.freedesktop.DBus.Error.UnknownObject",
		"org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.InvalidArgs",
		"org.freedesktop.DBus.Properties.Error.InterfaceNotFound":
		return true
	}
	return false
}

// closeTimeout bounds polite goodbyes, made when the other side may be dead.
const closeTimeout = 500 * time.Millisecond

// CallBriefly makes a call whose failure does not matter, such as closing a session that the service drops with our connection.
func (b *Bus) CallBriefly(service string, path dbus.ObjectPath, method string) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = b.Object(service, path).CallWithContext(ctx, method, 0).Err
}
