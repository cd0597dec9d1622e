package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// Config makes a Plugin.
type Config struct {
	// Methods lists what the plugin has, most preferred first for the session at hand. It is called once per Probe and Start.
	Methods func(context.Context) []Method
	// Logger gets one line per state change; nil discards.
	Logger *slog.Logger
}

// Plugin implements pluginapi.Capturer over a list of methods. It is one capture: after Stop it stays stopped.
type Plugin struct {
	methods func(context.Context) []Method
	log     *slog.Logger

	control sync.Mutex // serializes Start, Inject, Resize, SetFramerate and Stop

	mu      sync.Mutex // guards the following
	run     *run
	stopped bool
}

var _ pluginapi.Capturer = (*Plugin)(nil)

// run is one Source between Start and Stop.
type run struct {
	method string
	source Source
	events *eventQueue
	cancel context.CancelFunc
	done   chan struct{} // closed when Run returned
	err    error         // why; set before done is closed
}

// New returns a Plugin; it opens nothing.
func New(cfg Config) *Plugin {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Plugin{methods: cfg.Methods, log: log}
}

// Probe implements pluginapi.Capturer: one item per method, or only the one asked for.
func (p *Plugin) Probe(ctx context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	var wish []string
	if r.Method != "" {
		wish = []string{r.Method}
	}
	methods, err := inOrder(p.methods(ctx), wish)
	if err != nil {
		return nil, err
	}
	report := &pluginpb.ProbeReport{}
	for _, m := range methods {
		report.Items = append(report.Items, probe(ctx, m, int(r.Frames)))
	}
	return report, nil
}

func probe(ctx context.Context, m Method, frames int) *pluginpb.ProbeItem {
	limit := lookTimeout
	if frames > 0 {
		limit = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	item := m.Probe(ctx, frames)
	item.Method = m.Name()
	return item
}

// Start implements pluginapi.Capturer.
func (p *Plugin) Start(ctx context.Context, r *pluginpb.StartCaptureRequest) (*pluginpb.CaptureStarted, error) {
	p.control.Lock()
	defer p.control.Unlock()
	if err := p.mayStart(); err != nil {
		return nil, err
	}
	r = proto.CloneOf(r)
	if r.Fps == 0 {
		r.Fps = defaultFramerate
	}
	if err := checkFramerate(r.Fps); err != nil {
		return nil, err
	}
	methods, err := inOrder(p.methods(ctx), r.Methods)
	if err != nil {
		return nil, err
	}
	// First the socket: a wrong path is found before a portal asks anyone for permission.
	l, err := framesource.Listen(r.SourcePath)
	if err != nil {
		return nil, err
	}
	name, source, why, err := openFirst(ctx, methods, r)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.start(name, source, l)
	p.log.Info("capture started", "backend", name, "cause", why)
	return started(name, why, source.Info()), nil
}

func (p *Plugin) mayStart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil || p.stopped {
		return ErrStarted
	}
	return nil
}

func (p *Plugin) start(name string, source Source, l *framesource.Listener) {
	ctx, cancel := context.WithCancel(context.Background()) // the capture outlives the Start call
	r := &run{method: name, source: source, events: newEventQueue(), cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	p.run = r
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() { // ends with the Source's Run: on Stop or for good
		defer close(r.done)
		defer cancel()
		r.err = source.Run(ctx, l, r.events.put)
		if stop() {
			_ = l.Close()
		}
	}()
}

func started(name, why string, i Info) *pluginpb.CaptureStarted {
	if i.Fixed != nil {
		why += fmt.Sprintf("; the size stays %v: %s", i.Size, i.Fixed.Reason)
	}
	return &pluginpb.CaptureStarted{
		Method: name, Reason: why, Kind: i.Kind,
		Size:  i.Size.proto(),
		Input: i.Input, Resize: i.Fixed == nil, CursorMetadata: i.CursorMetadata,
	}
}

// Watch implements pluginapi.Capturer.
func (p *Plugin) Watch(ctx context.Context, emit func(*pluginpb.CaptureEvent) error) error {
	r, err := p.current()
	if err != nil {
		return err
	}
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		if err := emit(r.heartbeat()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.done:
			return r.flush(emit)
		case <-r.events.wake:
			if err := r.emitAll(emit); err != nil {
				return err
			}
		case <-tick.C:
		}
	}
}

func (r *run) heartbeat() *pluginpb.CaptureEvent {
	c := r.source.Counters()
	return &pluginpb.CaptureEvent{Time: int64(media.Now()), Event: &pluginpb.CaptureEvent_Heartbeat{
		Heartbeat: &pluginpb.CaptureHeartbeat{Frames: c.Frames, Dropped: c.Dropped, LastFrameTime: int64(c.LastFrame)},
	}}
}

func (r *run) emitAll(emit func(*pluginpb.CaptureEvent) error) error {
	for _, e := range r.events.takeAll() {
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// flush emits what is queued and returns why the run ended.
func (r *run) flush(emit func(*pluginpb.CaptureEvent) error) error {
	if err := r.emitAll(emit); err != nil {
		return err
	}
	if r.err != nil {
		return fmt.Errorf("capture by %s ended: %w", r.method, r.err)
	}
	return nil
}

// Inject implements pluginapi.Capturer.
func (p *Plugin) Inject(ctx context.Context, b *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	return control(p, func(s Source) (*pluginpb.Injected, error) {
		rejected, err := s.Inject(ctx, b.Events)
		if err != nil {
			return nil, err
		}
		return &pluginpb.Injected{
			Time: int64(media.Now()), Rejected: uint32(rejected.Count), Reason: rejected.Reason,
			Untyped: rejected.Untyped, UntypedReason: rejected.UntypedReason,
		}, nil
	})
}

// Resize implements pluginapi.Capturer.
func (p *Plugin) Resize(ctx context.Context, wish *pluginpb.Size) (*pluginpb.Size, error) {
	return control(p, func(s Source) (*pluginpb.Size, error) {
		size := SizeOf(wish)
		if err := size.check(); err != nil {
			return nil, err
		}
		if err := checkScale(wish.Scale); err != nil {
			return nil, err
		}
		if fixed := s.Info().Fixed; fixed != nil {
			return nil, fixed
		}
		now, err := s.Resize(ctx, size, wish.Scale)
		return now.proto(), err
	})
}

// SetFramerate implements pluginapi.Capturer.
func (p *Plugin) SetFramerate(ctx context.Context, fps float64) error {
	if err := checkFramerate(fps); err != nil {
		return err
	}
	_, err := control(p, func(s Source) (struct{}, error) { return struct{}{}, s.SetFramerate(ctx, fps) })
	return err
}

func checkFramerate(fps float64) error {
	if !(fps > 0 && fps <= maxFramerate) { // NaN is refused too
		return ErrNoFramerate
	}
	return nil
}

// control calls f on the running source, one call at a time.
func control[T any](p *Plugin, f func(Source) (T, error)) (T, error) {
	p.control.Lock()
	defer p.control.Unlock()
	var none T
	r, err := p.current()
	if err != nil {
		return none, err
	}
	select {
	case <-r.done:
		return none, r.ended()
	default:
	}
	return f(r.source)
}

func (r *run) ended() error {
	if r.err == nil {
		return ErrNotStarted
	}
	return fmt.Errorf("capture by %s ended: %w", r.method, r.err)
}

func (p *Plugin) current() (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return nil, ErrNotStarted
	}
	return p.run, nil
}

// Stop implements pluginapi.Capturer. It first ends Run, so that no picture is taken of a source being torn down, then closes.
func (p *Plugin) Stop(context.Context) error {
	p.control.Lock()
	defer p.control.Unlock()
	p.mu.Lock()
	r, again := p.run, p.stopped
	p.stopped = true
	p.mu.Unlock()
	if r == nil || again {
		return nil
	}
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(stopTimeout):
		p.log.Warn("capture did not stop in time; closing it", "backend", r.method)
	}
	p.log.Info("capture stopped", "backend", r.method)
	return r.source.Close()
}
