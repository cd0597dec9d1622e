package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

var _ session.Source = (*Pipeline)(nil)

// Pipeline is a session.Source. Create it with New, run it once with Run; the other methods may be called from any goroutine.
type Pipeline struct {
	// Set once.
	cfg      Config
	log      *slog.Logger
	out      outlet
	wishes   *wishes
	messages chan func() []action // to the owner, Run's goroutine
	done     chan struct{}

	mu      sync.Mutex  // guards the following
	capture *captureRun // that runs; nil: none

	// Owned by Run's goroutine.
	sup    *supervisor
	stops  map[uint64]context.CancelFunc // by run
	source *source                       // of the newest capture run
	brief  session.Started
	runs   sync.WaitGroup
	end    error
	over   bool
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Pipeline, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pipeline{
		cfg: cfg, log: cfg.Logger,
		wishes:   newWishes(settings{bitrate: cfg.Bitrate, fps: cfg.FPS, area: session.Area{Width: cfg.Width, Height: cfg.Height}}),
		messages: make(chan func() []action, messageQueue), done: make(chan struct{}),
		sup: newSupervisor(names(cfg.Captures), names(cfg.Encoders)), stops: map[uint64]context.CancelFunc{},
	}
	p.out.metrics = cfg.Metrics
	return p, nil
}

// Run delivers to sink, one call at a time, until ctx ends (nil) or no candidate works (*ExhaustedError). When it returns, all
// processes, goroutines and files are gone.
func (p *Pipeline) Run(ctx context.Context, sink session.Sink) error {
	p.out.sink = sink
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // what processes still say goes nowhere
		p.out.use(0)
		cancel()
		close(p.done)
		p.runs.Wait()
	}()
	p.out.event(session.Event{State: &streamwire.StateChange{State: streamwire.StateStarting, Text: "Starting the desktop"}})
	p.perform(ctx, p.sup.begin(media.Now()))
	p.loop(ctx)
	return p.end
}

// loop owns the supervisor.
func (p *Pipeline) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !p.over {
		select {
		case <-ctx.Done():
			return
		case message := <-p.messages:
			p.perform(ctx, message())
		case <-timer.C:
		}
		now := media.Now()
		p.perform(ctx, p.sup.tick(now))
		timer.Reset(p.sup.wake(now).Sub(now))
	}
}

// decide runs f on the owner's goroutine and carries out what it returns; it is lost when the pipeline is over.
func (p *Pipeline) decide(f func() []action) {
	select {
	case p.messages <- f:
	case <-p.done:
	}
}

// tell is decide for what leads to nothing at once.
func (p *Pipeline) tell(f func()) {
	p.decide(func() []action { f(); return nil })
}

// perform carries out what the supervisor decided.
func (p *Pipeline) perform(ctx context.Context, actions []action) {
	for _, a := range actions {
		switch a.kind {
		case actStart:
			p.start(ctx, a)
		case actStop:
			p.stop(a)
		case actRecover:
			p.recovering(a)
		case actLive:
			p.live()
		case actGiveUp:
			p.log.Error("pipeline gives up", "err", a.err)
			p.end, p.over = a.err, true
		}
	}
}

func (p *Pipeline) start(ctx context.Context, a action) {
	ctx, cancel := context.WithCancel(ctx)
	p.stops[a.run] = cancel
	if a.role == roleCapture {
		p.source = &source{ready: make(chan struct{})}
		r := &captureRun{p: p, run: a.run, candidate: p.cfg.Captures[a.candidate], source: p.source}
		p.runs.Go(func() { r.main(ctx, a.delay) })
		return
	}
	p.out.use(a.run)
	r := &encoderRun{p: p, run: a.run, candidate: p.cfg.Encoders[a.candidate], source: p.source}
	p.runs.Go(func() { r.main(ctx, a.delay) })
}

// stop ends a run in the background: its replacement does not wait for a process that hangs.
func (p *Pipeline) stop(a action) {
	if a.role == roleEncoder {
		p.out.use(0)
	}
	if cancel := p.stops[a.run]; cancel != nil {
		cancel()
		delete(p.stops, a.run)
	}
}

func (p *Pipeline) recovering(a action) {
	p.cfg.Metrics.restarts.WithLabelValues(a.role.String(), string(a.cause)).Inc()
	p.log.Warn("plugin is replaced", "role", a.role.String(), "cause", string(a.cause), "err", a.err)
	p.out.lost(media.Now())
	text := map[role]string{roleCapture: "Restarting the screen capture", roleEncoder: "Restarting the video encoder"}[a.role]
	p.out.event(session.Event{State: &streamwire.StateChange{State: streamwire.StateRecovering, Text: text}})
}

func (p *Pipeline) live() {
	p.log.Info("pipeline state", "to", "live", "capture", p.brief.Capture, "encoder", p.brief.Encoder)
	brief := p.brief
	p.out.event(session.Event{Started: &brief})
	p.out.event(session.Event{State: &streamwire.StateChange{State: streamwire.StateLive}})
}

// Inject delivers input and returns when the compositor was told, and what it could not do. ErrRecovering while no capture runs.
func (p *Pipeline) Inject(ctx context.Context, batch *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	r, err := p.running()
	if err != nil {
		return nil, err
	}
	var done *pluginpb.Injected
	err = p.onCapture(ctx, r, func(ctx context.Context) (err error) {
		done, err = r.client.Inject(ctx, batch)
		return err
	})
	if err != nil {
		return nil, err
	}
	if n := actions(batch); n > 0 {
		p.tell(func() { p.sup.input(n) })
	}
	if done.Rejected > 0 {
		p.log.Debug("input rejected", "events", done.Rejected, "cause", done.Reason)
	}
	return done, nil
}

// actions counts the events that should change the picture.
func actions(batch *pluginpb.InputBatch) int {
	n := 0
	for _, e := range batch.Events {
		if e.GetKey().GetDown() || e.GetButton().GetDown() || e.GetScroll() != nil || e.GetTouch() != nil || e.GetText() != nil {
			n++
		}
	}
	return n
}

// Resize asks the desktop for another area; later runs ask for it too, and while none runs that is all there is to do. The size that
// holds comes with the pictures.
func (p *Pipeline) Resize(ctx context.Context, a session.Area) error {
	p.wishes.update(func(s *settings) { s.area = a })
	r, err := p.running()
	if err != nil {
		return nil
	}
	return p.onCapture(ctx, r, func(ctx context.Context) error {
		_, err := r.client.Resize(ctx, settings{area: a}.size())
		return err
	})
}

// Adjust sets the encoder's target; it returns at once.
func (p *Pipeline) Adjust(bitrate int, fps float64) {
	p.wishes.update(func(s *settings) { s.bitrate, s.fps = bitrate, fps })
}

// RequestKeyframe returns at once; while nothing runs it is not needed, since runs begin with a keyframe.
func (p *Pipeline) RequestKeyframe() { p.wishes.askKeyframe() }

func (p *Pipeline) running() (*captureRun, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.capture == nil {
		return nil, ErrRecovering
	}
	return p.capture, nil
}

// onCapture bounds a call; a capture that does not answer hangs.
func (p *Pipeline) onCapture(ctx context.Context, r *captureRun, f func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := f(bounded)
	if err == nil {
		return nil
	}
	p.cfg.Metrics.callFails.WithLabelValues("capture").Inc()
	if bounded.Err() != nil && ctx.Err() == nil {
		p.fail(roleCapture, r.run, causeHang, err)
	}
	return err
}

// fail tells the owner that a run is over, or must be.
func (p *Pipeline) fail(r role, run uint64, why cause, err error) {
	p.decide(func() []action { return p.sup.failed(r, run, media.Now(), why, err) })
}
