package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/portal"
)

// shotSource polls screenshots into the frame socket while an encoder is connected.
type shotSource struct {
	desktop *kwinDesktop
	shooter *shooter
	pool    *capture.Pool // Run's
	input   *injector
	info    capture.Info
	fps     chan float64 // newest wish
}

func newShotSource(ctx context.Context, d *kwinDesktop, r *pluginpb.StartCaptureRequest) (*shotSource, error) {
	version, err := screenshotVersion(ctx, d.bus)
	if err != nil {
		return nil, err
	}
	o, err := d.output(r.Display)
	if err != nil {
		return nil, err
	}
	shooter, err := newShooter(ctx, d.bus)
	if err != nil {
		return nil, err
	}
	s := &shotSource{desktop: d, shooter: shooter, pool: &capture.Pool{}, input: newKWinInjector(d, o.place), fps: make(chan float64, 1)}
	s.fps <- r.Fps
	s.info = capture.Info{
		Reason: shotReason(version, d), Kind: pluginpb.SourceKind_SOURCE_FRAMES, Input: d.fake != nil, Fixed: kwinFixed,
		Size: capture.Size{Width: shooter.layout.Width, Height: shooter.layout.Height},
	}
	if err := s.allocate(); err != nil {
		return nil, errors.Join(err, s.pool.Close())
	}
	return s, nil
}

func (s *shotSource) allocate() error {
	var buffers []*capture.Buffer
	for range capture.Buffers {
		b, err := capture.NewSharedBuffer(s.shooter.layout)
		if err != nil {
			return errors.Join(err, s.pool.Replace(buffers))
		}
		buffers = append(buffers, b)
	}
	return s.pool.Replace(buffers)
}

// Info implements capture.Source.
func (s *shotSource) Info() capture.Info { return s.info }

// Counters implements capture.Source.
func (s *shotSource) Counters() capture.Counters { return s.pool.Counters() }

// Run implements capture.Source.
func (s *shotSource) Run(ctx context.Context, l *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error {
	watch := s.desktop.watch(portal.PipeWire{})
	watch.Wedged = func(reason, remedy string) { emit(capture.Fault(reason, remedy)) }
	if err := watch.Subscribe(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	encoders := capture.AcceptEncoders(ctx, l)
	g.Go(func() error { return watch.Run(ctx) })
	g.Go(func() error { return s.poll(ctx, encoders) })
	context.AfterFunc(ctx, func() { _ = l.Close() }) // ends the accepting
	err := g.Wait()
	<-encoders.Done()
	return err
}

func (s *shotSource) poll(ctx context.Context, encoders *capture.Encoders) error {
	tick := time.NewTicker(shotPeriod(<-s.fps))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-encoders.Done():
			return encoders.Err()
		case sink := <-encoders.C:
			s.pool.Attach(sink)
		case <-s.pool.Gone():
			s.pool.Detach()
		case fps := <-s.fps:
			tick.Reset(shotPeriod(fps))
		case <-tick.C:
			if err := s.picture(ctx); err != nil {
				return err
			}
		}
	}
}

// shotPeriod keeps what is left of KWin's time for the desktop itself.
func shotPeriod(fps float64) time.Duration {
	if !(fps > 0) || fps > maxShotRate {
		fps = maxShotRate
	}
	return time.Duration(float64(time.Second) / fps)
}

// picture takes and sends the next picture, or drops it when the encoder has no credit.
func (s *shotSource) picture(ctx context.Context) error {
	if !s.pool.Attached() {
		return nil
	}
	b := s.pool.Take()
	if b == nil {
		s.pool.Drop()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, shotTimeout)
	defer cancel()
	at := media.Now()
	err := s.shooter.shoot(ctx, b)
	switch {
	case err == nil:
		s.pool.Send(b, at, false)
		return nil
	case errors.Is(err, errShotSize):
		return unavailable("the workspace changed its size", "start the capture again")
	case errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, context.DeadlineExceeded): // the watch tells of a KWin that hangs; a late write may still go into b
		s.pool.Drop()
		return s.allocate()
	}
	return fmt.Errorf("take a screenshot: %w", err)
}

// Inject implements capture.Source.
func (s *shotSource) Inject(ctx context.Context, events []*pluginpb.InputEvent) (capture.Rejected, error) {
	if s.input == nil {
		return capture.Rejected{Count: len(events), Reason: "this capture has no input"}, nil
	}
	return s.input.inject(ctx, events)
}

// Resize implements capture.Source; Info says that it does not work.
func (s *shotSource) Resize(context.Context, capture.Size, float64) (capture.Size, error) {
	return s.info.Size, nil
}

// SetFramerate implements capture.Source.
func (s *shotSource) SetFramerate(_ context.Context, fps float64) error {
	select {
	case <-s.fps:
	default: // taken already
	}
	s.fps <- fps
	return nil
}

// Close implements capture.Source.
func (s *shotSource) Close() error {
	if s.input != nil && s.desktop.conn.Err() == nil {
		if err := s.input.releaseAll(); err == nil {
			_ = s.desktop.conn.Flush() // when the connection is over nothing is held
		}
	}
	return errors.Join(s.pool.Close(), s.desktop.close())
}
