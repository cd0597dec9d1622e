package main

import (
	"context"
	"errors"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// pipewireSource is a running capture whose frames flow from the compositor to the encoder through PipeWire. Mutter, the portal and
// KWin differ only in what they put into its fields.
type pipewireSource struct {
	// Set once.
	node    *capture.PipeWire
	watch   *portal.Watch
	input   *injector                                          // nil: none
	resize  func(context.Context, capture.Size, float64) error // nil: info says why it is fixed
	resized func(*dbus.Signal) (capture.Size, bool)            // reads a signal that may tell of a new size; nil: none
	close   func() error

	mu   sync.Mutex // guards info
	info capture.Info
}

// Info implements capture.Source.
func (s *pipewireSource) Info() capture.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.info
}

// Counters implements capture.Source: only the encoder sees the frames.
func (s *pipewireSource) Counters() capture.Counters { return capture.Counters{} }

// Run implements capture.Source.
func (s *pipewireSource) Run(ctx context.Context, l *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.watch.Wedged = func(reason, remedy string) { emit(capture.Fault(reason, remedy)) }
	s.watch.Other = func(signal *dbus.Signal) { s.noteSize(signal, emit) }
	watched := make(chan error, 1)
	go func() { // ends with ctx; awaited below
		watched <- s.watch.Run(ctx)
		cancel()
		_ = l.Close() // ends the serving
	}()
	served := s.node.Serve(ctx, l)
	cancel()
	if err := <-watched; err != nil {
		return err // what ended the session explains better than what the serving noticed
	}
	return served
}

func (s *pipewireSource) noteSize(signal *dbus.Signal, emit func(*pluginpb.CaptureEvent)) {
	if s.resized == nil {
		return
	}
	size, changed := s.resized(signal)
	if !changed || !s.setSize(size) {
		return
	}
	emit(capture.Resized(size))
}

// setSize reports whether the size is new.
func (s *pipewireSource) setSize(size capture.Size) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.info.Size != size
	s.info.Size = size
	return changed
}

// Inject implements capture.Source.
func (s *pipewireSource) Inject(ctx context.Context, events []*pluginpb.InputEvent) (capture.Rejected, error) {
	if s.input == nil {
		return capture.Rejected{Count: len(events), Reason: "this capture has no input"}, nil
	}
	return s.input.inject(ctx, events)
}

// Resize implements capture.Source.
func (s *pipewireSource) Resize(ctx context.Context, wish capture.Size, scale float64) (capture.Size, error) {
	if err := s.resize(ctx, wish, scale); err != nil {
		return s.Info().Size, err
	}
	return s.Info().Size, nil
}

// SetFramerate implements capture.Source: the compositor sends when there is damage, and the encoder limits the rate.
func (s *pipewireSource) SetFramerate(context.Context, float64) error { return nil }

// Close implements capture.Source. Keys that are still down would stay so for whoever comes next; a compositor that is gone holds
// none.
func (s *pipewireSource) Close() error {
	var err error
	if s.input != nil && !s.watch.Over() {
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
		defer cancel()
		err = errors.Join(s.input.releaseAll(), s.input.device.flush(ctx))
	}
	return errors.Join(err, s.close())
}

func unavailable(reason, remedy string) error {
	return &pluginapi.UnavailableError{Reason: reason, Remedy: remedy}
}

// asItem turns why a method does not work into a line of the probe's report.
func asItem(err error) *pluginpb.ProbeItem {
	var u *pluginapi.UnavailableError
	if errors.As(err, &u) {
		return capture.Unusable(u.Reason, u.Remedy)
	}
	return capture.Unusable(err.Error(), "see the reason; run wavry host doctor again when it is gone")
}
