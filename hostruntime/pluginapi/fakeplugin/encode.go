package fakeplugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// unitQueue of encoded units: when the host runtime is busy, frames are dropped before encoding instead.
const unitQueue = 4

// Encoder is the fake encoder plugin.
type Encoder struct {
	common
	source *framesource.Source
	done   chan struct{}
	wg     sync.WaitGroup
	units  chan *pluginpb.AccessUnit
	kick   chan struct{} // a keyframe was asked for
	failed chan error    // the source broke, once

	mu        sync.Mutex // guards the following
	started   bool
	stopped   bool
	keyframe  bool // wanted
	fps       float64
	keepalive float64
	sequence  uint64
	stream    stream
	last      *pluginpb.AccessUnit
	lastFrame media.Time
	lastUnit  media.Time
	in        uint64
	dropped   uint64
	hash      uint64
	black     bool
}

// NewEncoder does nothing yet.
func NewEncoder(b Behaviour) *Encoder {
	return &Encoder{common: common{b: b}, done: make(chan struct{}), units: make(chan *pluginpb.AccessUnit, unitQueue),
		kick: make(chan struct{}, 1), failed: make(chan error, 1), keyframe: true}
}

// Probe claims what it is.
func (e *Encoder) Probe(_ context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	item := &pluginpb.ProbeItem{Method: "fake", Usable: true, Reason: "emits a fixed stream", Frames: r.Frames, Distinct: r.Frames,
		LatencyP50Ms: 0.1, LatencyP95Ms: 0.2, Codecs: []string{"h264"}, Details: map[string]string{"fake": "1"}}
	if err := e.refuse(); err != nil {
		u := err.(*pluginapi.UnavailableError)
		item.Usable, item.Reason, item.Remedy, item.Frames, item.Distinct, item.Codecs = false, u.Reason, u.Remedy, 0, 0, nil
	}
	return probe(r, item), nil
}

// Start connects to the frame source.
func (e *Encoder) Start(ctx context.Context, r *pluginpb.StartEncodeRequest) (*pluginpb.EncodeStarted, error) {
	if err := e.refuse(); err != nil {
		return nil, err
	}
	if err := checkMethods(r.Methods); err != nil {
		return nil, err
	}
	if err := wait(ctx, e.b.StartDelay); err != nil {
		return nil, err
	}
	e.flood()
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.started:
		return nil, &pluginapi.UnavailableError{Reason: "encoder was started before", Remedy: "start one process per run"}
	case r.Codec != "h264":
		return nil, &pluginapi.UnavailableError{Reason: fmt.Sprintf("codec %q is not supported", r.Codec), Remedy: "ask for h264"}
	case r.Fps <= 0 || r.Fps > 1000:
		return nil, &pluginapi.UnavailableError{Reason: fmt.Sprintf("frame rate %g is outside 0..1000", r.Fps), Remedy: "ask for 1 to 120"}
	}
	source, err := framesource.Dial(ctx, r.SourcePath)
	if err != nil {
		return nil, &pluginapi.UnavailableError{Reason: err.Error(), Remedy: "start the capture plugin first"}
	}
	if source.Kind() != framesource.KindFrames {
		_ = source.Close()
		return nil, &pluginapi.UnavailableError{Reason: "the fake takes frames only, not PipeWire", Remedy: "use another encoder"}
	}
	e.started, e.source, e.fps, e.keepalive = true, source, r.Fps, r.KeepaliveFps
	e.wg.Go(e.read)
	e.wg.Go(e.repeat)
	return &pluginpb.EncodeStarted{Method: "fake", Reason: "the only method", Pipeline: "none"}, nil
}

// read takes frames until the source ends.
func (e *Encoder) read() {
	mapped := map[uint32]*mapping{}
	defer func() {
		for _, m := range mapped {
			m.close()
		}
	}()
	for {
		event, err := e.source.Next()
		if err != nil {
			e.ended(err)
			return
		}
		switch {
		case event.Added != nil:
			m, err := mapBuffer(*event.Added)
			if err != nil {
				e.ended(err)
				return
			}
			mapped[event.Added.ID] = m
		case event.Forgot != nil:
			mapped[*event.Forgot].close()
			delete(mapped, *event.Forgot)
		case event.Frame != nil:
			if !e.frame(mapped[event.Frame.Buffer], *event.Frame) {
				continue
			}
		}
	}
}

func (e *Encoder) ended(err error) {
	select {
	case <-e.done: // we closed it
		return
	default:
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = &pluginapi.UnavailableError{Reason: "the capture plugin is gone", Remedy: "start both again"}
	}
	e.failed <- err
	_ = e.source.Close()
}

// frame encodes one picture and gives its buffer back.
func (e *Encoder) frame(m *mapping, f framesource.Frame) bool {
	handoff := media.Now()
	if !e.common.frame() {
		return false
	}
	hash, black := look(m.mem, m.layout)
	if err := e.source.Release(f.Buffer); err != nil {
		fmt.Fprintln(os.Stderr, "fake: release:", err)
	}
	if err := waitDone(e.done, e.b.Slow); err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in++
	e.hash, e.black = hash|1, black
	if e.b.BlackOutput {
		e.black = true
	}
	if e.b.FrozenOutput {
		e.hash = 1
	}
	e.lastFrame = handoff
	e.emit(f.CaptureTime, handoff, m.layout.Width, m.layout.Height, f.Repeat)
	return true
}

// emit makes a unit; e.mu is held. A unit for which there is no room is a dropped frame, not a gap.
func (e *Encoder) emit(capture, handoff media.Time, width, height int, repeat bool) {
	if len(e.units) == cap(e.units) {
		e.dropped++
		return
	}
	if e.last == nil || e.last.Width != uint32(width) || e.last.Height != uint32(height) {
		e.keyframe = true
	}
	key := e.keyframe && !e.b.NeverKeyframe
	u := &pluginpb.AccessUnit{Sequence: e.sequence, Codec: uint32(media.CodecH264), Keyframe: key, Repeat: repeat,
		Width: uint32(width), Height: uint32(height), CaptureTime: int64(capture), HandoffTime: int64(handoff)}
	u.Data = e.stream.next(width, height, key, max(e.b.UnitBytes, keyBytes(e.b, key)))
	e.keyframe = e.keyframe && !key
	e.sequence++
	if e.b.Gap {
		e.sequence++
	}
	e.last, e.lastUnit = u, media.Now()
	u.EncodeTime = int64(e.lastUnit)
	e.units <- u
}

func keyBytes(b Behaviour, key bool) int {
	if !key {
		return 0
	}
	return b.KeyBytes
}

// repeat encodes the last picture again for keyframe requests and as keep-alive.
func (e *Encoder) repeat() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-e.done:
			return
		case <-e.kick:
		case <-tick.C:
		}
		e.mu.Lock()
		now := media.Now()
		idle := now.Sub(e.lastUnit).Seconds()
		due := e.keepalive > 0 && idle >= 1/e.keepalive || e.keyframe && idle >= 2/e.fps
		if e.last != nil && due && !e.stalled() && !e.b.NeverKeyframe {
			e.emit(media.Time(e.last.CaptureTime), now, int(e.last.Width), int(e.last.Height), true)
		}
		e.mu.Unlock()
	}
}

// Watch emits units and heartbeats.
func (e *Encoder) Watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		var event *pluginpb.EncodeEvent
		select {
		case <-ctx.Done():
			return nil
		case <-e.done:
			return nil
		case err := <-e.failed:
			return err
		case u := <-e.units:
			event = &pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Unit{Unit: u}}
		case <-tick.C:
			if err := e.call(ctx); err != nil {
				return err
			}
			if e.common.failed() {
				return errFault
			}
			if e.b.NoHeartbeat {
				continue
			}
			event = &pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Heartbeat{Heartbeat: e.heartbeat()}}
		}
		if err := emit(event); err != nil {
			return err
		}
	}
}

func (e *Encoder) heartbeat() *pluginpb.EncodeHeartbeat {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &pluginpb.EncodeHeartbeat{Time: int64(media.Now()), FramesIn: e.in, UnitsOut: e.sequence, Dropped: e.dropped,
		LastFrameTime: int64(e.lastFrame), Black: e.black, PictureHash: e.hash}
}

// SetBitrate has no effect on a fixed stream beyond its check.
func (e *Encoder) SetBitrate(ctx context.Context, bitsPerSecond uint32) error {
	if err := e.call(ctx); err != nil {
		return err
	}
	if bitsPerSecond == 0 {
		return &pluginapi.UnavailableError{Reason: "bitrate 0", Remedy: "ask for at least 100000"}
	}
	return nil
}

// SetFramerate changes the wait for a requested keyframe.
func (e *Encoder) SetFramerate(ctx context.Context, fps float64) error {
	if err := e.call(ctx); err != nil {
		return err
	}
	if fps <= 0 || fps > 1000 {
		return &pluginapi.UnavailableError{Reason: fmt.Sprintf("frame rate %g is outside 0..1000", fps), Remedy: "ask for 1 to 120"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fps = fps
	return nil
}

// RequestKeyframe makes the next unit a keyframe.
func (e *Encoder) RequestKeyframe(ctx context.Context) error {
	if err := e.call(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	e.keyframe = true
	e.mu.Unlock()
	select {
	case e.kick <- struct{}{}:
	default: // one is pending
	}
	return nil
}

// Stop is idempotent.
func (e *Encoder) Stop(ctx context.Context) error {
	if err := e.call(ctx); err != nil {
		return err
	}
	e.stopping()
	e.mu.Lock()
	first := e.started && !e.stopped
	e.stopped = true
	e.mu.Unlock()
	if first {
		close(e.done)
		_ = e.source.Close()
		e.wg.Wait()
	}
	return nil
}

type mapping struct {
	mem    []byte
	layout media.Layout
}

func mapBuffer(b framesource.Buffer) (*mapping, error) {
	defer b.File.Close() // the mapping keeps the memory
	if b.Memory != framesource.MemoryShared {
		return nil, &pluginapi.UnavailableError{Reason: "the fake maps shared memory only", Remedy: "use another encoder"}
	}
	mem, err := unix.Mmap(int(b.File.Fd()), 0, int(b.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map frame buffer: %w", err)
	}
	return &mapping{mem: mem, layout: b.Layout}, nil
}

func (m *mapping) close() { _ = unix.Munmap(m.mem) }

func waitDone(done <-chan struct{}, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-done:
		return net.ErrClosed
	}
}
