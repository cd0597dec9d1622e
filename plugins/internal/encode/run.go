package encode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode/bitstream"
)

// settings are what a run was started with.
type settings struct {
	method    *Method
	codec     media.Codec
	bps       uint32
	fps       float64
	keepalive float64
	options   map[string]string
}

// run is one encoding run. Its loop owns everything below the channels; others send commands.
type run struct {
	log *slog.Logger
	in  intake

	pictures chan frame
	results  chan result
	commands chan func()
	out      chan *pluginpb.EncodeEvent // to Watch; unbuffered
	done     chan struct{}              // closed after the loop, when err is set
	err      error

	settings
	plan     planner
	encoder  *encoder
	waiting  frame
	last     frame
	flight   flight
	unit     *pluginpb.EncodeEvent // waits to be taken
	beat     *pluginpb.EncodeEvent // the same; a newer one replaces it
	beatAt   media.Time
	look     lookout
	stats    stats
	faults   faults
	params   []byte // parameter sets of the current pipeline
	noDMABuf bool   // importing DMA-BUF pictures failed
	needKey  bool   // whoever takes the units has no keyframe yet
	next     uint64 // sequence
}

// flight is the picture in the encoder.
type flight struct {
	active bool
	frame  frame
	pushed media.Time
	repeat bool
	key    bool // a keyframe was asked for
}

// stats are the counters of heartbeats.
type stats struct {
	in, out, dropped uint64
	lastFrame        media.Time
}

// faults count towards giving up.
type faults struct {
	pipelines int // failed in a row without a unit
	lost      int // pictures lost in a row
	keys      int // keyframe requests ignored in a row
}

func newRun(log *slog.Logger, in intake, s settings) *run {
	r := &run{
		log: log, in: in, settings: s,
		pictures: make(chan frame, pictureQueue),
		results:  make(chan result, unitQueue),
		commands: make(chan func(), commandQueue),
		out:      make(chan *pluginpb.EncodeEvent),
		done:     make(chan struct{}),
	}
	r.plan.pace.set(s.fps)
	if s.keepalive > 0 {
		r.plan.keepalive = time.Duration(float64(time.Second) / s.keepalive)
	}
	return r
}

// loop runs until ctx ends or the run fails; then nothing of it is left.
func (r *run) loop(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	intakeDone := make(chan error, 1)
	go func() { intakeDone <- r.in.run(ctx, func(f frame) bool { return r.deliver(ctx, f) }) }() // ends with ctx, awaited below
	err, intakeErr := r.work(ctx, intakeDone)
	// Pictures go back first, so that the capture plugin has its credit; then the source; then those who wait are told.
	cancel()
	r.drop()
	if !intakeErr {
		<-intakeDone
	}
	r.drain()
	r.err = err
	close(r.done)
}

// deliver is called by the intake.
func (r *run) deliver(ctx context.Context, f frame) bool {
	select {
	case r.pictures <- f:
		return true
	case <-ctx.Done():
		return false
	}
}

// work is the loop proper; intakeErr tells that the intake has ended.
func (r *run) work(ctx context.Context, intakeDone <-chan error) (err error, intakeErr bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake, err := r.step(media.Now())
		if err != nil {
			return err, false
		}
		timer.Reset(wake)
		out, event := r.offer()
		select {
		case f := <-r.pictures:
			r.arrived(f)
		case u := <-r.results:
			err = r.finished(u)
		case command := <-r.commands:
			command()
		case out <- event:
			r.taken(event)
		case <-timer.C:
		case err := <-intakeDone:
			return err, true
		case <-ctx.Done():
			return nil, false
		}
		if err != nil {
			return err, false
		}
	}
}

// step does what is due and returns how long nothing will be.
func (r *run) step(now media.Time) (time.Duration, error) {
	if now >= r.beatAt {
		r.beatAt = now.Add(heartbeatEvery)
		r.beat = r.heartbeat(now)
	}
	if err := r.checkFlight(now); err != nil {
		return 0, err
	}
	act, at := r.plan.next(now)
	for act != actNothing {
		if err := r.begin(act, now); err != nil {
			return 0, err
		}
		act, at = r.plan.next(now)
	}
	wake := min(at, r.beatAt)
	if r.flight.active {
		wake = min(wake, r.flight.pushed.Add(lostAfter))
	}
	return max(wake.Sub(now), 0), nil
}

// offer is the event that waits to be taken, units first; a nil channel when there is none or nobody watches.
func (r *run) offer() (chan<- *pluginpb.EncodeEvent, *pluginpb.EncodeEvent) {
	switch {
	case !r.plan.watched:
		return nil, nil
	case r.unit != nil:
		return r.out, r.unit
	case r.beat != nil:
		return r.out, r.beat
	}
	return nil, nil
}

func (r *run) taken(event *pluginpb.EncodeEvent) {
	if event == r.unit {
		r.unit = nil
		r.stats.out++
		r.plan.busy = r.flight.active
		return
	}
	r.beat = nil
}

// arrived makes f the waiting picture; what it supersedes goes back at once.
func (r *run) arrived(f frame) {
	r.stats.in++
	r.stats.lastFrame = f.capture
	if r.waiting.picture.Valid() {
		r.waiting.picture.Release()
		r.stats.dropped++
	}
	r.waiting, r.plan.waiting = f, true
	r.last.picture.Release()
	r.plan.last = false
}

// begin puts the waiting or the last picture into the encoder.
func (r *run) begin(act action, now media.Time) error {
	f, repeat := r.waiting, r.waiting.repeat
	if act == actRepeat {
		f, repeat = r.last, true
		f.handoff = now // it was here long before; the encode stage begins now
		r.last, r.plan.last = frame{}, false
	} else {
		r.waiting, r.plan.waiting = frame{}, false
	}
	r.flight = flight{frame: f, pushed: now, repeat: repeat, key: r.plan.key}
	if err := r.ready(f); err != nil {
		return r.pipelineFailed(err)
	}
	if err := r.encoder.push(&f.picture, now, r.flight.key); err != nil {
		return r.pipelineFailed(err)
	}
	r.flight.active = true
	r.plan.sent(now)
	return nil
}

// ready makes sure that the pipeline takes pictures like f, with a new one if need be.
func (r *run) ready(f frame) error {
	l := f.picture.Layout()
	dmabuf := f.picture.DMABuf() && !r.noDMABuf && r.method.dmabufCaps(r.codec, l) != ""
	if f.picture.DMABuf() && !dmabuf && l.Modifier != 0 {
		return unreadable(r.method.Name, l)
	}
	if r.encoder != nil && r.encoder.fits(l, dmabuf) {
		return nil
	}
	r.closeEncoder()
	in := Input{Codec: r.codec, Layout: l, DMABuf: dmabuf, FPS: r.fps, BitsPerSecond: r.bps, Options: r.options}
	e, err := startEncoder(r.method, in, r.results)
	if err != nil {
		return err
	}
	r.encoder = e
	r.log.Info("encoder pipeline built", "backend", r.method.Name, "pipeline", e.pipeline.String())
	return nil
}

// unreadable says why a tiled picture cannot be encoded.
func unreadable(method string, l media.Layout) error {
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("method %s cannot import a DMA-BUF of format %v with modifier %#x, and the CPU cannot read it", method, l.Format, l.Modifier),
		Remedy: "let the capture plugin hand over linear DMA-BUFs or shared memory, or use an encoder on the GPU that renders",
	}
}

func (r *run) closeEncoder() {
	if r.encoder == nil {
		return
	}
	r.encoder.close()
	r.encoder, r.params = nil, nil
}

// pipelineFailed either lets the picture wait for another pipeline or gives up.
func (r *run) pipelineFailed(err error) error {
	r.again()
	r.noDMABuf = r.noDMABuf || (r.encoder != nil && r.encoder.in.DMABuf) // the next one reads the memory with the CPU
	r.closeEncoder()
	r.plan.busy = r.unit != nil
	r.plan.key = true
	r.faults.pipelines++
	if r.faults.pipelines >= rebuildLimit {
		return fmt.Errorf("encode with %s: %w", r.method.Name, r.method.explain(r.codec, err))
	}
	r.log.Warn("encoder pipeline failed, building another", "backend", r.method.Name, "err", err)
	return nil
}

// again lets the picture in flight wait once more, unless a newer one does.
func (r *run) again() {
	f, repeat := r.flight.frame, r.flight.repeat
	r.flight = flight{}
	if !f.picture.Valid() {
		return
	}
	if r.plan.waiting {
		f.picture.Release()
		r.stats.dropped++
		return
	}
	f.repeat = repeat
	r.waiting, r.plan.waiting = f, true
}

// land takes the picture out of flight: it is kept as the last one if nothing newer waits and the source can spare it.
func (r *run) land() {
	f := r.flight.frame
	r.flight = flight{}
	if !f.picture.Valid() {
		return
	}
	if r.plan.waiting || !r.in.spare() {
		f.picture.Release()
		return
	}
	r.last, r.plan.last = f, true
}

// checkFlight notices pictures that the encoder swallowed.
func (r *run) checkFlight(now media.Time) error {
	if !r.flight.active || now.Sub(r.flight.pushed) < lostAfter {
		return nil
	}
	r.faults.lost++
	if r.faults.lost >= maxLost {
		return fmt.Errorf("%w: %d in a row, each for %v", ErrHung, r.faults.lost, lostAfter)
	}
	return r.pipelineFailed(ErrHung)
}

// finished takes what came out of a pipeline.
func (r *run) finished(res result) error {
	if res.from != r.encoder {
		return nil // of a pipeline that was closed meanwhile
	}
	if res.err != nil {
		return r.pipelineFailed(res.err)
	}
	r.faults.lost, r.faults.pipelines = 0, 0
	f := r.flight
	info := bitstream.Inspect(r.codec, res.unit.Data)
	r.answerKey(f, info)
	if info.Key {
		res.unit.Data = r.withParams(info, res.unit.Data)
	}
	r.deliverUnit(f, info, res)
	if !f.repeat && r.look.due(res.at) {
		r.look.see(&f.frame.picture, res.at)
	}
	r.land()
	r.plan.busy = r.unit != nil
	return nil
}

// answerKey notes whether a keyframe that was asked for came.
func (r *run) answerKey(f flight, info bitstream.Info) {
	switch {
	case info.Key:
		r.plan.key, r.faults.keys = false, 0
	case f.key:
		r.faults.keys++
		if r.faults.keys >= maxMissedKeys {
			r.log.Warn("encoder ignores requests for a keyframe, building another pipeline", "backend", r.method.Name)
			r.faults.keys = 0
			defer r.closeEncoder()
		}
	}
}

// withParams puts the parameter sets before a keyframe that lacks them, and makes them promise that nothing is reordered.
func (r *run) withParams(info bitstream.Info, data []byte) []byte {
	if r.codec == media.CodecH264 {
		data = bitstream.RestrictReorder(data)
	}
	if info.Params {
		r.params = bitstream.AppendParams(r.params[:0], r.codec, data)
		return data
	}
	return append(append(make([]byte, 0, len(r.params)+len(data)), r.params...), data...)
}

// deliverUnit makes the unit the one that waits to be taken.
func (r *run) deliverUnit(f flight, info bitstream.Info, res result) {
	if !info.Picture || (r.needKey && !info.Key) {
		r.stats.dropped++
		r.plan.key = r.plan.key || r.needKey
		return
	}
	r.needKey = false
	l := res.from.in.Layout
	box := &unitEvent{}
	box.unit = pluginpb.AccessUnit{
		Sequence: r.next, Codec: uint32(r.codec), Keyframe: info.Key, Repeat: f.repeat,
		Width: uint32(l.Width), Height: uint32(l.Height),
		CaptureTime: int64(f.frame.capture), HandoffTime: int64(f.frame.handoff), EncodeTime: int64(res.at),
		Data: res.unit.Data,
	}
	box.one.Unit = &box.unit
	box.event.Event = &box.one
	r.next++
	r.unit = &box.event
}

// unitEvent is an event with its unit in one allocation.
type unitEvent struct {
	event pluginpb.EncodeEvent
	one   pluginpb.EncodeEvent_Unit
	unit  pluginpb.AccessUnit
}

func (r *run) heartbeat(now media.Time) *pluginpb.EncodeEvent {
	return &pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Heartbeat{Heartbeat: &pluginpb.EncodeHeartbeat{
		Time: int64(now), FramesIn: r.stats.in, UnitsOut: r.stats.out, Dropped: r.stats.dropped,
		LastFrameTime: int64(r.stats.lastFrame), Black: r.look.last.black, PictureHash: r.look.last.hash,
	}}}
}

// attach starts giving units to a watcher: the first will be a keyframe.
func (r *run) attach() error {
	if r.plan.watched {
		return ErrWatched
	}
	if r.unit != nil { // made for the watcher before, who never took it
		r.unit = nil
		r.next--
		r.plan.busy = r.flight.active
	}
	r.plan.watched, r.plan.key, r.needKey = true, true, true
	return nil
}

func (r *run) detach() { r.plan.watched = false }

// setBitrate takes bits per second at the current rate limit.
func (r *run) setBitrate(bps uint32) error {
	r.bps = bps
	return r.applyRate()
}

// setFramerate changes the limit. An encoder counts bits per picture at its nominal rate, so at a lower limit it is told more;
// only a rate above the nominal one needs a new pipeline, and so a keyframe.
func (r *run) setFramerate(fps float64) error {
	r.fps = fps
	r.plan.pace.set(fps)
	if r.encoder != nil && fps > r.encoder.in.FPS {
		r.plan.key = true
		r.again()
		r.plan.busy = r.unit != nil
		r.closeEncoder()
		return nil
	}
	return r.applyRate()
}

func (r *run) applyRate() error {
	if r.encoder == nil {
		return nil
	}
	return r.encoder.setRate(scaledRate(r.bps, r.encoder.in.FPS, r.fps))
}

// scaledRate is the rate to tell an encoder that assumes nominal pictures per second when fps come.
func scaledRate(bps uint32, nominal, fps float64) uint32 {
	scaled := float64(bps) * nominal / fps
	return uint32(min(max(scaled, MinBitrate), MaxBitrate))
}

// drop gives every picture back and ends the pipeline.
func (r *run) drop() {
	r.closeEncoder()
	r.land()
	r.last.picture.Release()
	r.waiting.picture.Release()
}

// drain gives back pictures that the intake delivered last.
func (r *run) drain() {
	for {
		select {
		case f := <-r.pictures:
			f.picture.Release()
		default:
			return
		}
	}
}

// do runs f in the loop and returns its error.
func (r *run) do(ctx context.Context, f func() error) error {
	answer := make(chan error, 1)
	select {
	case r.commands <- func() { answer <- f() }:
	case <-r.done:
		return r.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-r.done:
		return r.ended()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is why the run is over.
func (r *run) ended() error {
	if r.err != nil {
		return r.err
	}
	return ErrStopped
}

// watch gives events to emit until ctx or the run ends.
func (r *run) watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error {
	if err := r.do(ctx, r.attach); err != nil {
		if errors.Is(err, ErrStopped) || ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer r.leave()
	for {
		select {
		case event := <-r.out:
			if err := emit(event); err != nil {
				return err
			}
		case <-r.done:
			return r.err
		case <-ctx.Done():
			return nil
		}
	}
}

// leave tells the loop that nobody takes units any more; it must reach it whatever became of the watcher's context.
func (r *run) leave() {
	select {
	case r.commands <- r.detach:
	case <-r.done:
	}
}
