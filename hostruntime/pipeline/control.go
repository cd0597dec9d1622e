package pipeline

import (
	"context"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
)

// settings are what the session wishes; the newest counts.
type settings struct {
	bitrate int
	fps     float64
	area    session.Area
}

func (s settings) size() *pluginpb.Size {
	return &pluginpb.Size{Width: uint32(s.area.Width), Height: uint32(s.area.Height), Scale: s.area.Scale}
}

// wishes are set from any goroutine and carried out by the runs.
type wishes struct {
	mu       sync.Mutex // guards the following
	settings settings
	keyframe bool
	changed  chan struct{} // closed and replaced at every change
}

func newWishes(s settings) *wishes { return &wishes{settings: s, changed: make(chan struct{})} }

func (w *wishes) update(change func(*settings)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.settings
	change(&w.settings)
	if w.settings != before {
		w.wakeLocked()
	}
}

func (w *wishes) askKeyframe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keyframe = true
	w.wakeLocked()
}

func (w *wishes) wakeLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *wishes) get() settings {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settings
}

// take returns the wishes, forgets the keyframe, and says where the next change shows.
func (w *wishes) take() (settings, bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	keyframe := w.keyframe
	w.keyframe = false
	return w.settings, keyframe, w.changed
}

// controlEncoder carries out wishes until ctx ends or a call fails. applied is what Start was given.
func controlEncoder(ctx context.Context, w *wishes, e pluginapi.Encoder, applied settings) error {
	for {
		want, keyframe, changed := w.take()
		if keyframe {
			if err := call(ctx, e.RequestKeyframe); err != nil {
				return err
			}
		}
		if want.bitrate != applied.bitrate {
			if err := call(ctx, func(ctx context.Context) error { return e.SetBitrate(ctx, uint32(want.bitrate)) }); err != nil {
				return err
			}
		}
		if want.fps != applied.fps {
			if err := call(ctx, func(ctx context.Context) error { return e.SetFramerate(ctx, want.fps) }); err != nil {
				return err
			}
		}
		applied = want
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// controlCapture is the same for the capture's frame rate.
func controlCapture(ctx context.Context, w *wishes, c pluginapi.Capturer, applied settings) error {
	for {
		w.mu.Lock()
		want, changed := w.settings, w.changed
		w.mu.Unlock()
		if want.fps != applied.fps {
			if err := call(ctx, func(ctx context.Context) error { return c.SetFramerate(ctx, want.fps) }); err != nil {
				return err
			}
		}
		applied = want
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// call bounds one control call. Cancelled by us is no failure.
func call(ctx context.Context, f func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := f(bounded); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
