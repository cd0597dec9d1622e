package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
)

const (
	// pingEvery and pingTimeout find a compositor that is there but does not answer within the two seconds an operator may wait.
	pingEvery   = 400 * time.Millisecond
	pingTimeout = 1200 * time.Millisecond
	// maxFailures in a row of single pictures: an output that is being reconfigured fails a few; one that is gone fails for ever.
	maxFailures = 10
	// failurePause lets the outputs settle.
	failurePause = 50 * time.Millisecond
	// resizeWait is how long to wait for a picture of the new size before the asked-for size is reported.
	resizeWait = 500 * time.Millisecond
)

// wlrSource is one running capture of an output.
type wlrSource struct {
	desktop *wlrDesktop
	options wlrOptions
	log     *slog.Logger
	input   *wlrInput
	reason  string
	scale   float64 // asked for last; 0: none

	copier *wlrCopier // Run's
	fps    chan float64

	mu   sync.Mutex // guards size
	size capture.Size
	news chan struct{} // closed and replaced when size changes
}

func newWlrSource(ctx context.Context, d *wlrDesktop, o wlrOptions, log *slog.Logger) (*wlrSource, error) {
	s := &wlrSource{desktop: d, options: o, log: log, fps: make(chan float64, 1), news: make(chan struct{})}
	if err := s.resizeAtStart(ctx); err != nil {
		log.Warn("output keeps its size", "err", err)
	}
	c, err := openWlrCopier(ctx, d, o)
	if err != nil {
		return nil, err
	}
	s.copier, s.size = c, c.size
	s.input, err = newWlrInput(ctx, d, o.layout, o.fallback)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	s.reason = fmt.Sprintf("compositor offers zwlr_screencopy_manager_v1 version %d; output %s; %s", d.copier.Version(), d.output.Name(), s.copier.memoryReason)
	return s, nil
}

func (s *wlrSource) resizeAtStart(ctx context.Context) error {
	if s.options.size.Zero() || s.fixed() != nil {
		return nil
	}
	s.scale = s.options.scale
	return s.desktop.heads.resize(ctx, s.desktop.output.Name(), even(s.options.size), s.scale)
}

// fixed says why the output's size cannot be changed; nil when it can.
func (s *wlrSource) fixed() *pluginapi.UnavailableError {
	name := s.desktop.output.Name()
	switch {
	case s.desktop.heads == nil:
		return &pluginapi.UnavailableError{
			Reason: "the compositor does not offer zwlr_output_manager_v1", Remedy: "use a compositor based on wlroots 0.7 or newer",
		}
	case !resizable(name):
		return &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("output %s is a monitor, whose mode is its owner's", name), Remedy: "stream an output named HEADLESS-n",
		}
	}
	return nil
}

// Info implements capture.Source.
func (s *wlrSource) Info() capture.Info {
	size, _ := s.currentSize()
	return capture.Info{
		Reason: s.reason, Kind: pluginpb.SourceKind_SOURCE_FRAMES, Size: size,
		Input: s.input.works(), Fixed: s.fixed(),
	}
}

// Counters implements capture.Source.
func (s *wlrSource) Counters() capture.Counters { return s.copier.pool.Counters() }

// Run implements capture.Source.
func (s *wlrSource) Run(ctx context.Context, l *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error {
	g, ctx := errgroup.WithContext(ctx)
	encoders := capture.AcceptEncoders(ctx, l)
	g.Go(func() error { return s.ping(ctx) })
	g.Go(func() error {
		defer l.Close()
		return s.capture(ctx, encoders, emit)
	})
	err := g.Wait()
	<-encoders.Done()
	return err
}

// ping ends the capture when the compositor does not answer.
func (s *wlrSource) ping(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.pingOnce(ctx); err != nil {
			return err
		}
	}
}

func (s *wlrSource) pingOnce(ctx context.Context) error {
	pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := s.desktop.conn.Roundtrip(pingCtx)
	switch {
	case err == nil, ctx.Err() != nil:
		return nil
	case pingCtx.Err() != nil:
		err = errCompositorSilent
	}
	return explainWlr(err)
}

// capture is the loop that owns the copier.
func (s *wlrSource) capture(ctx context.Context, encoders *capture.Encoders, emit func(*pluginpb.CaptureEvent)) error {
	c, pool := s.copier, s.copier.pool
	pace := time.NewTimer(time.Hour)
	pace.Stop()
	defer pace.Stop()
	for {
		if wait := c.step(media.Now()); wait > 0 {
			pace.Reset(wait)
		}
		if err := s.desktop.conn.Flush(); err != nil {
			return explainWlr(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.desktop.conn.Done():
			return explainWlr(s.desktop.conn.Err())
		case <-encoders.Done():
			return encoders.Err()
		case sink := <-encoders.C:
			pool.Attach(sink)
			c.restart()
		case <-pool.Gone():
			pool.Detach()
			c.restart()
		case <-pool.Ready(): // step takes a buffer
		case fps := <-s.fps:
			c.pacer.SetFramerate(fps)
		case <-pace.C:
		case e := <-c.frame.events:
			if err := c.handle(e); err != nil {
				return explainWlr(err)
			}
			s.note(c.size, emit)
		}
	}
}

// note publishes a size that pictures really have.
func (s *wlrSource) note(size capture.Size, emit func(*pluginpb.CaptureEvent)) {
	s.mu.Lock()
	changed := size != s.size
	if changed {
		s.size = size
		close(s.news)
		s.news = make(chan struct{})
	}
	s.mu.Unlock()
	if changed {
		s.log.Info("output resized", "backend", "wlr-screencopy", "cause", size.String())
		emit(capture.Resized(size))
	}
}

func (s *wlrSource) currentSize() (size capture.Size, news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.news
}

// Inject implements capture.Source.
func (s *wlrSource) Inject(ctx context.Context, events []*pluginpb.InputEvent) (capture.Rejected, error) {
	rejected, err := s.input.inject(ctx, events)
	return rejected, explainWlr(err)
}

// Resize implements capture.Source. The size is rounded down to even numbers, which encoders need.
func (s *wlrSource) Resize(ctx context.Context, wish capture.Size, scale float64) (capture.Size, error) {
	wish = even(wish)
	now, news := s.currentSize()
	if wish == now && (scale == 0 || scale == s.scale) {
		return now, nil
	}
	if err := s.desktop.heads.resize(ctx, s.desktop.output.Name(), wish, scale); err != nil {
		return now, explainWlr(err)
	}
	s.scale = scale
	if wish == now {
		return now, nil
	}
	return s.settled(ctx, wish, news), nil
}

// settled waits a moment for pictures of the new size; without an encoder there are none and the wish stands.
func (s *wlrSource) settled(ctx context.Context, wish capture.Size, news <-chan struct{}) capture.Size {
	timeout := time.NewTimer(resizeWait)
	defer timeout.Stop()
	select {
	case <-news:
		now, _ := s.currentSize()
		return now
	case <-ctx.Done():
	case <-timeout.C:
	}
	return wish
}

func even(s capture.Size) capture.Size {
	return capture.Size{Width: s.Width &^ 1, Height: s.Height &^ 1}
}

// SetFramerate implements capture.Source.
func (s *wlrSource) SetFramerate(_ context.Context, fps float64) error {
	select {
	case <-s.fps:
	default: // no earlier wish is waiting
	}
	s.fps <- fps
	return nil
}

// Close implements capture.Source. Input devices go first, so that no key stays down in the compositor.
func (s *wlrSource) Close() error {
	return errors.Join(s.input.close(), s.copier.close(), s.desktop.close())
}
