package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// source draws pictures at a steady rate while an encoder is connected.
type source struct {
	pool     *capture.Pool      // Run's
	canvases map[uint32]*canvas // by buffer id; Run's
	fps      chan float64       // newest wish
	sizes    chan capture.Size  // newest wish

	mu    sync.Mutex // guards the following
	input *inputState
	size  capture.Size
}

func newSource(size capture.Size, fps float64) (*source, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	s := &source{
		pool: &capture.Pool{}, canvases: map[uint32]*canvas{},
		fps: make(chan float64, 1), sizes: make(chan capture.Size, 1),
		input: newInputState(), size: size,
	}
	s.fps <- fps
	if err := s.allocate(size); err != nil {
		return nil, errors.Join(err, s.pool.Close())
	}
	return s, nil
}

// allocate replaces the buffers by new ones of size.
func (s *source) allocate(size capture.Size) error {
	layout := layoutOf(size)
	var buffers []*capture.Buffer
	for range capture.Buffers {
		b, err := capture.NewSharedBuffer(layout)
		if err != nil {
			return errors.Join(err, s.pool.Replace(buffers))
		}
		buffers = append(buffers, b)
	}
	err := s.pool.Replace(buffers)
	clear(s.canvases)
	scene := newScene(layout)
	for _, b := range buffers {
		s.canvases[b.ID] = newCanvas(scene, b.Data)
	}
	return err
}

// Info implements capture.Source.
func (s *source) Info() capture.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return capture.Info{
		Reason: "the test pattern works everywhere", Kind: pluginpb.SourceKind_SOURCE_FRAMES, Size: s.size, Input: true,
	}
}

// Counters implements capture.Source.
func (s *source) Counters() capture.Counters { return s.pool.Counters() }

// Run implements capture.Source.
func (s *source) Run(ctx context.Context, l *framesource.Listener, emit func(*pluginpb.CaptureEvent)) error {
	encoders := capture.AcceptEncoders(ctx, l)
	defer func() { <-encoders.Done() }() // the Plugin closes l when ctx ends
	tick := time.NewTicker(period(<-s.fps))
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
			tick.Reset(period(fps))
		case size := <-s.sizes:
			if err := s.allocate(size); err != nil {
				return err
			}
			emit(capture.Resized(size))
		case <-tick.C:
			s.picture()
		}
	}
}

// picture draws and sends the next picture, or drops it when the encoder has no credit.
func (s *source) picture() {
	if !s.pool.Attached() {
		return
	}
	b := s.pool.Take()
	if b == nil {
		s.pool.Drop()
		return
	}
	s.mu.Lock()
	stamp := s.input.stamp()
	s.mu.Unlock()
	now := media.Now()
	stamp.Time, stamp.Sequence = int64(now)/1000, uint32(s.pool.Sequence())
	s.canvases[b.ID].draw(stamp)
	s.pool.Send(b, now, false)
}

// Inject implements capture.Source: the next picture shows it.
func (s *source) Inject(_ context.Context, events []*pluginpb.InputEvent) (capture.Rejected, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rejected capture.Rejected
	for _, e := range events {
		if !s.input.apply(e, s.size) {
			rejected.Add("unknown kind of input event")
		}
	}
	return rejected, nil
}

// Resize implements capture.Source. The new size holds from the next picture on.
func (s *source) Resize(_ context.Context, wish capture.Size, _ float64) (capture.Size, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := checkSize(wish); err != nil {
		return s.size, err
	}
	if wish != s.size {
		s.size = wish
		newest(s.sizes, wish)
	}
	return wish, nil
}

// SetFramerate implements capture.Source.
func (s *source) SetFramerate(_ context.Context, fps float64) error {
	newest(s.fps, fps)
	return nil
}

// newest puts v into c, which holds one, in place of what is there. There is one sender at a time.
func newest[T any](c chan T, v T) {
	select {
	case <-c:
	default: // taken already
	}
	c <- v
}

// Close implements capture.Source.
func (s *source) Close() error { return s.pool.Close() }
