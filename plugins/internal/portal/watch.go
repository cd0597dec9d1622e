package portal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// Watch says what a running capture depends on and how to notice that it is gone.
type Watch struct {
	Bus *Bus
	// Peers must stay on the bus and answer.
	Peers []Peer
	// Closed maps session objects of the first peer to the signal by which they end.
	Closed map[dbus.ObjectPath]string
	// PipeWire must stay and answer; the zero value is not watched.
	PipeWire PipeWire
	// Gone is closed when something else that the capture needs is over; GoneReason says what. May be nil.
	Gone       <-chan struct{}
	GoneReason func() error
	// Wedged is told when something stops answering, once per incident; may be nil.
	Wedged func(reason, remedy string)
	// Other gets every other signal; may be nil.
	Other func(*dbus.Signal)
}

// Peer is somebody on the bus.
type Peer struct {
	Service string // bus name
	Name    string // for people: "gnome-shell"
}

// Subscribe must be called before what is watched starts, so that no end is missed.
func (w *Watch) Subscribe(ctx context.Context) error {
	for _, p := range w.Peers {
		if err := w.Bus.MatchOwner(ctx, p.Service); err != nil {
			return fmt.Errorf("watch the owner of %s: %w", p.Service, err)
		}
	}
	return nil
}

// Run blocks until ctx ends (nil) or the capture is over: an *pluginapi.UnavailableError that says what went away.
func (w *Watch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watchers := []func(context.Context) error{w.signals}
	for _, p := range w.Peers {
		ping := func(ctx context.Context) error { return w.Bus.Ping(ctx, p.Service) }
		watchers = append(watchers, func(ctx context.Context) error { return w.answers(ctx, p.Name, ping) })
	}
	if w.PipeWire.Socket != "" {
		watchers = append(watchers, w.pipewireStays,
			func(ctx context.Context) error { return w.answers(ctx, "PipeWire", w.PipeWire.Ping) })
	}
	ends := make(chan error, len(watchers))
	for _, f := range watchers {
		go func() { ends <- f(ctx) }() // ends with ctx, awaited below
	}
	err := <-ends
	cancel()
	for range len(watchers) - 1 {
		<-ends
	}
	return err
}

// Over reports whether the bus connection, or what Gone stands for, is over.
func (w *Watch) Over() bool {
	select {
	case <-w.Bus.Context().Done():
		return true
	case <-w.Gone:
		return true
	default:
		return false
	}
}

func (w *Watch) signals(ctx context.Context) error {
	for {
		select {
		case s := <-w.Bus.Signals():
			if err := w.signal(s); err != nil {
				return err
			}
		case <-w.Bus.Context().Done():
			return gone("the session bus closed the connection", "the desktop ended; start it again")
		case <-w.Gone:
			return w.GoneReason()
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *Watch) signal(s *dbus.Signal) error {
	switch {
	case s == nil: // the connection is closing; its context says so
		return nil
	case s.Name == "org.freedesktop.DBus.NameOwnerChanged":
		return w.ownerChanged(s)
	case w.Closed[s.Path] != "" && w.Closed[s.Path] == s.Name:
		return gone(w.Peers[0].Name+" closed the capture session", "the user or the compositor stopped sharing; start the capture again")
	}
	if w.Other != nil {
		w.Other(s)
	}
	return nil
}

func (w *Watch) ownerChanged(s *dbus.Signal) error {
	for _, p := range w.Peers {
		if len(s.Body) == 3 && s.Body[0] == p.Service {
			return gone(p.Name+" left the session bus", "it ended or crashed; the desktop must start it again")
		}
	}
	return nil
}

func (w *Watch) pipewireStays(ctx context.Context) error {
	if err := w.PipeWire.Gone(ctx); ctx.Err() == nil {
		return gone(err.Error(), "PipeWire ended or crashed; start it again, and the capture with it")
	}
	return nil
}

// answers asks again and again. A service that does not answer in time is reported at once and given up after wedgedFor.
func (w *Watch) answers(ctx context.Context, name string, ping func(context.Context) error) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var since time.Time // of the first unanswered question; zero when all is well
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		asked := time.Now()
		if answered(ctx, ping) {
			since = time.Time{}
			continue
		}
		if since.IsZero() {
			since = asked
			w.wedged(name)
		}
		if time.Since(since) > wedgedFor && ctx.Err() == nil {
			return gone(fmt.Sprintf("%s has not answered for %v", name, wedgedFor), "it hangs; the desktop must be started again")
		}
	}
}

// answered counts any answer, an error too: only silence is a wedge, and the rest has a better messenger.
func answered(ctx context.Context, ping func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	err := ping(ctx)
	var timeout interface{ Timeout() bool }
	return err == nil || (!errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &timeout) && timeout.Timeout()))
}

func (w *Watch) wedged(name string) {
	if w.Wedged != nil {
		w.Wedged(name+" does not answer", "it is stopped, overloaded or hangs; the picture stands still until it answers or is restarted")
	}
}

func gone(reason, remedy string) error {
	return &pluginapi.UnavailableError{Reason: reason, Remedy: remedy}
}
