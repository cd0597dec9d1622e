package portal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// The portal's names.
const (
	Service       = "org.freedesktop.portal.Desktop"
	Path          = dbus.ObjectPath("/org/freedesktop/portal/desktop")
	ScreenCast    = "org.freedesktop.portal.ScreenCast"
	RemoteDesktop = "org.freedesktop.portal.RemoteDesktop"
	request       = "org.freedesktop.portal.Request"
	sessionIface  = "org.freedesktop.portal.Session"
)

// Portal makes requests of xdg-desktop-portal. It belongs to one goroutine and reads the bus's signals while a request is pending.
type Portal struct {
	bus    *Bus
	wait   time.Duration
	tokens int
}

// NewPortal uses bus; wait is how long a request may take before ErrDialog.
func NewPortal(bus *Bus, wait time.Duration) *Portal { return &Portal{bus: bus, wait: wait} }

// Version returns the version of one of the portal's interfaces; 0 when no backend offers it. Asking starts the portal.
func (p *Portal) Version(ctx context.Context, iface string) (uint32, error) {
	var version uint32
	err := p.bus.Property(ctx, Service, Path, iface, "version", &version)
	var refused dbus.Error
	switch {
	case errors.As(err, &refused) && refused.Name == "org.freedesktop.DBus.Error.ServiceUnknown":
		return 0, &pluginapi.UnavailableError{
			Reason: "xdg-desktop-portal is not installed",
			Remedy: "apt-get install xdg-desktop-portal and the backend of the desktop",
		}
	case Missing(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("ask the portal for %s: %w", iface, err)
	}
	return version, nil
}

// request calls a method and waits for the Response signal of its request object. options gets the handle token added; it is the
// last argument. Source: the documentation of org.freedesktop.portal.Request.
func (p *Portal) request(ctx context.Context, method string, options map[string]dbus.Variant, args ...any) (map[string]dbus.Variant, error) {
	p.tokens++
	token := fmt.Sprintf("wavry%d", p.tokens)
	sender := strings.ReplaceAll(strings.TrimPrefix(p.bus.Names()[0], ":"), ".", "_")
	path := dbus.ObjectPath(fmt.Sprintf("%s/request/%s/%s", Path, sender, token))
	if err := p.bus.Match(ctx, path, request, "Response"); err != nil {
		return nil, fmt.Errorf("watch the request: %w", err)
	}
	options["handle_token"] = dbus.MakeVariant(token)
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	var handle dbus.ObjectPath
	if err := p.bus.Object(Service, Path).CallWithContext(ctx, method, 0, append(args, options)...).Store(&handle); err != nil {
		return nil, p.explain(ctx, path, method, err)
	}
	signal, err := p.bus.Await(ctx, path, request+".Response")
	if err != nil {
		return nil, p.explain(ctx, path, method, err)
	}
	return readResponse(method, signal)
}

func (p *Portal) explain(ctx context.Context, path dbus.ObjectPath, method string, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.bus.CallBriefly(Service, path, request+".Close") // takes the dialog away
		return fmt.Errorf("%s: %w", short(method), ErrDialog)
	}
	return fmt.Errorf("%s: %w", short(method), err)
}

func readResponse(method string, signal *dbus.Signal) (map[string]dbus.Variant, error) {
	var code uint32
	var results map[string]dbus.Variant
	if err := dbus.Store(signal.Body, &code, &results); err != nil {
		return nil, fmt.Errorf("%s: read the response: %w", short(method), err)
	}
	if code != 0 {
		return nil, &RefusedError{Request: short(method), Code: code}
	}
	return results, nil
}

func short(method string) string { return strings.TrimPrefix(method, "org.freedesktop.portal.") }
