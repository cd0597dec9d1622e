package pipeline

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// source is one capture run, which serves frames. The fields after ready are set before it is closed.
type source struct {
	ready   chan struct{}
	proc    Process
	started *pluginpb.CaptureStarted
	name    string
}

// captureRun is one capture process from launch to kill.
type captureRun struct {
	p         *Pipeline
	run       uint64
	candidate Candidate
	source    *source
	client    pluginapi.Capturer
}

func (r *captureRun) main(ctx context.Context, delay time.Duration) {
	if !pause(ctx, delay) {
		return
	}
	begin := time.Now()
	proc, err := r.p.cfg.Launch(ctx, r.candidate)
	if err != nil {
		r.fail(ctx, nil, err, true)
		return
	}
	r.client = proc.Capture()
	defer shutDown(ctx, proc, r.client.Stop)
	settings := r.p.wishes.get()
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	started, err := r.client.Start(startCtx, r.request(settings))
	cancel()
	if err != nil {
		r.fail(ctx, proc, err, true)
		return
	}
	r.p.log.Info("capture runs", "backend", r.candidate.Name, "method", started.Method, "cause", started.Reason, "took", time.Since(begin))
	r.announce(proc, started)
	defer r.withdraw()
	r.serve(ctx, proc, settings)
}

func (r *captureRun) request(s settings) *pluginpb.StartCaptureRequest {
	c := r.p.cfg
	return &pluginpb.StartCaptureRequest{
		SourcePath: inbox.Handed, Methods: r.candidate.Methods, Fps: s.fps, Size: s.size(),
		EmbedCursor: c.EmbedCursor, KeepaliveFps: c.KeepaliveFPS, Display: c.Display, StateDir: c.StateDir, Options: r.candidate.Options,
	}
}

// announce opens the way for the encoder and for input.
func (r *captureRun) announce(proc Process, started *pluginpb.CaptureStarted) {
	s := r.source
	s.proc, s.started, s.name = proc, started, r.candidate.Name
	r.p.mu.Lock()
	r.p.capture = r
	r.p.mu.Unlock()
	r.p.tell(func() { r.p.sup.started(roleCapture, r.run, media.Now()) })
	close(s.ready)
}

func (r *captureRun) withdraw() {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.p.capture == r {
		r.p.capture = nil
	}
}

// serve listens and controls until the run is over.
func (r *captureRun) serve(ctx context.Context, proc Process, applied settings) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return over(gctx, r.client.Watch(gctx, r.event)) })
	g.Go(func() error { return controlCapture(gctx, r.p.wishes, r.client, applied) })
	g.Go(func() error { return exit(gctx, proc) })
	r.fail(ctx, proc, g.Wait(), false)
}

func (r *captureRun) event(e *pluginpb.CaptureEvent) error {
	switch {
	case e.GetHeartbeat() != nil:
		r.p.tell(func() { r.p.sup.beat(roleCapture, r.run, media.Now()) })
	case e.GetCursor() != nil:
		r.p.out.event(session.Event{Cursor: cursor(e.GetCursor())})
	case e.GetFault() != nil:
		f := e.GetFault()
		r.p.log.Warn("capture reports", "backend", r.candidate.Name, "cause", f.Reason, "remedy", f.Remedy)
	}
	return nil // a new size shows in the units, in order with them
}

func (r *captureRun) fail(ctx context.Context, proc Process, err error, starting bool) {
	if ctx.Err() != nil || err == nil {
		return // we ended it
	}
	r.p.fail(roleCapture, r.run, classify(proc, err, starting), err)
}

// encoderRun is one encoder process from launch to kill.
type encoderRun struct {
	p         *Pipeline
	run       uint64
	candidate Candidate
	source    *source
	client    pluginapi.Encoder

	// Owned by Watch's goroutine.
	told  media.Time // when the owner was last told of a unit
	fresh bool       // a new picture came since
	asked media.Time // when a keyframe was asked for
}

// main launches at once and starts when the capture is ready.
func (r *encoderRun) main(ctx context.Context, delay time.Duration) {
	if !pause(ctx, delay) {
		return
	}
	proc, err := r.p.cfg.Launch(ctx, r.candidate)
	if err != nil {
		r.fail(ctx, nil, err, true)
		return
	}
	r.client = proc.Encoder()
	defer shutDown(ctx, proc, r.client.Stop)
	select {
	case <-r.source.ready:
	case <-proc.Exited():
		r.fail(ctx, proc, proc.Err(), true)
		return
	case <-ctx.Done():
		return
	}
	if err := pluginhost.Connect(r.source.proc, proc); err != nil {
		if !r.sourceLost(ctx, err) {
			r.fail(ctx, proc, err, true)
		}
		return
	}
	settings := r.p.wishes.get()
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	started, err := r.client.Start(startCtx, r.request(settings))
	cancel()
	if err != nil {
		r.fail(ctx, proc, err, true)
		return
	}
	r.p.log.Info("encoder runs", "backend", r.candidate.Name, "method", started.Method, "cause", started.Reason, "pipeline", started.Pipeline)
	r.p.tell(func() { r.started(started) })
	r.serve(ctx, proc, settings)
}

func (r *encoderRun) request(s settings) *pluginpb.StartEncodeRequest {
	c := r.p.cfg
	return &pluginpb.StartEncodeRequest{
		SourcePath: inbox.Handed, Codec: c.Codec.String(), Methods: r.candidate.Methods, BitsPerSecond: uint32(s.bitrate),
		Fps: s.fps, KeepaliveFps: c.KeepaliveFPS, Options: r.candidate.Options,
	}
}

// started runs on the owner's goroutine.
func (r *encoderRun) started(e *pluginpb.EncodeStarted) {
	if !r.p.sup.current(roleEncoder, r.run) {
		return
	}
	c := r.source.started
	r.p.brief = session.Started{
		Capture: backend(r.source.name, c.Method), Encoder: backend(r.candidate.Name, e.Method), Input: c.Input, Resize: c.Resize,
		Width: int(c.GetSize().GetWidth()), Height: int(c.GetSize().GetHeight()),
	}
	r.p.sup.started(roleEncoder, r.run, media.Now())
}

// backend names what runs, for people; a candidate's name may have its wished method already.
func backend(name, method string) string {
	plugin, _, _ := strings.Cut(name, "/")
	return plugin + "/" + method
}

func (r *encoderRun) serve(ctx context.Context, proc Process, applied settings) {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return over(gctx, r.client.Watch(gctx, r.event)) })
	g.Go(func() error { return controlEncoder(gctx, r.p.wishes, r.client, applied) })
	g.Go(func() error { return exit(gctx, proc) })
	err := g.Wait()
	if r.sourceLost(ctx, err) {
		return // the capture's own end is on its way
	}
	r.fail(ctx, proc, err, false)
}

// sourceLost tells an encoder that failed because its capture died from one that failed by itself.
func (r *encoderRun) sourceLost(ctx context.Context, err error) bool {
	if exited := (*pluginhost.PluginExitedError)(nil); ctx.Err() != nil || errors.As(err, &exited) {
		return false
	}
	select {
	case <-r.source.proc.Exited():
		return true
	case <-time.After(blameGrace):
		return false
	}
}

func (r *encoderRun) event(e *pluginpb.EncodeEvent) error {
	switch {
	case e.GetUnit() != nil:
		r.unit(e.GetUnit())
	case e.GetHeartbeat() != nil:
		r.beat(e.GetHeartbeat())
	case e.GetFault() != nil:
		f := e.GetFault()
		r.p.log.Warn("encoder reports", "backend", r.candidate.Name, "cause", f.Reason, "remedy", f.Remedy)
	}
	return nil
}

// unit passes u on from this goroutine: going through the owner would cost a wake-up per picture.
func (r *encoderRun) unit(u *pluginpb.AccessUnit) {
	switch r.p.out.unit(r.run, u) {
	case passed:
		r.alive(!u.Repeat)
	case needKey:
		if now := media.Now(); now.Sub(r.asked) >= askEvery {
			r.asked = now
			r.p.wishes.askKeyframe()
		}
	}
}

// alive tells the owner of units now and then: it needs to know that they come, not each of them.
func (r *encoderRun) alive(fresh bool) {
	r.fresh = r.fresh || fresh
	now := media.Now()
	if now.Sub(r.told) < tellEvery {
		return
	}
	repeat := !r.fresh
	r.told, r.fresh = now, false
	r.p.decide(func() []action { return r.p.sup.unit(r.run, now, repeat) })
}

func (r *encoderRun) beat(h *pluginpb.EncodeHeartbeat) {
	r.p.tell(func() {
		now := media.Now()
		r.p.sup.beat(roleEncoder, r.run, now)
		r.p.sup.look(r.run, now, h.PictureHash, h.Black, h.FramesIn, h.UnitsOut)
	})
}

func (r *encoderRun) fail(ctx context.Context, proc Process, err error, starting bool) {
	if ctx.Err() != nil || err == nil {
		return // we ended it
	}
	r.p.fail(roleEncoder, r.run, classify(proc, err, starting), err)
}

// classify says what an error of a run means. proc is nil when none was launched.
func classify(proc Process, err error, starting bool) cause {
	var exited *pluginhost.PluginExitedError
	var unavailable *pluginapi.UnavailableError
	switch {
	case errors.As(err, &exited):
		return causeCrash
	case errors.Is(err, context.DeadlineExceeded):
		return causeHang
	case proc == nil, starting && errors.As(err, &unavailable):
		return causeRefused
	}
	return causeFault
}

// over is how Watch ended: nil only when we ended it.
func over(ctx context.Context, err error) error {
	if err == nil && ctx.Err() == nil {
		return errWatchEnded
	}
	return err
}

// exit fails when the process ends by itself.
func exit(ctx context.Context, proc Process) error {
	select {
	case <-proc.Exited():
		return proc.Err()
	case <-ctx.Done():
		return nil
	}
}

// shutDown ends a process; one that we no longer want, and that may be well, is asked to stop first.
func shutDown(ctx context.Context, proc Process, stop func(context.Context) error) {
	if ctx.Err() != nil && proc.Err() == nil {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		_ = stop(bounded) // killed in any case
		cancel()
	}
	proc.Kill()
}

// pause reports whether d passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func cursor(c *pluginpb.Cursor) *streamwire.Cursor {
	clamp := func(v int32) uint16 { return uint16(max(0, min(v, 65535))) }
	out := &streamwire.Cursor{Visible: c.Visible, X: clamp(c.X), Y: clamp(c.Y), HotspotX: clamp(c.HotspotX), HotspotY: clamp(c.HotspotY)}
	if fits := c.Width <= streamwire.MaxCursor && c.Height <= streamwire.MaxCursor; fits && len(c.Rgba) > 0 && len(c.Rgba) == int(c.Width)*int(c.Height)*4 {
		out.Width, out.Height, out.RGBA = uint16(c.Width), uint16(c.Height), c.Rgba
	}
	return out
}
