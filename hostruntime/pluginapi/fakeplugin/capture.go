package fakeplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

const heartbeatInterval = 200 * time.Millisecond

// errFault is how Watch ends under fail_after.
var errFault = &pluginapi.UnavailableError{Reason: "the fake was told to fail", Remedy: "remove fail_after from " + EnvName}

// Capturer is the fake capture plugin.
type Capturer struct {
	common
	listener *framesource.Listener
	done     chan struct{}
	wg       sync.WaitGroup

	mu            sync.Mutex // guards the following
	started       bool
	stopped       bool
	width, height int
	fps           float64
	keepalive     float64
	step          uint64 // changes whenever the picture does
	lastFrame     media.Time
	dropped       uint64
	events        chan *pluginpb.CaptureEvent
}

// NewCapturer does nothing yet.
func NewCapturer(b Behaviour) *Capturer {
	c := &Capturer{common: common{b: b}, done: make(chan struct{}), events: make(chan *pluginpb.CaptureEvent, 16)}
	c.width, c.height = 320, 240
	if b.Width > 0 {
		c.width = b.Width
	}
	if b.Height > 0 {
		c.height = b.Height
	}
	return c
}

// Probe claims what it is.
func (c *Capturer) Probe(_ context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	item := &pluginpb.ProbeItem{Method: "fake", Usable: true, Reason: "draws a moving bar", Frames: r.Frames, Distinct: r.Frames,
		LatencyP50Ms: 0.1, LatencyP95Ms: 0.2, Details: map[string]string{"fake": "1"}}
	if err := c.refuse(); err != nil {
		u := err.(*pluginapi.UnavailableError)
		item.Usable, item.Reason, item.Remedy, item.Frames, item.Distinct = false, u.Reason, u.Remedy, 0, 0
	}
	if c.b.Frozen || c.b.Black {
		item.Usable, item.Distinct = false, 1
		item.Reason, item.Remedy = "every frame is the same", "remove frozen and black from "+EnvName
	}
	return probe(r, item), nil
}

// Start serves the frame source.
func (c *Capturer) Start(ctx context.Context, r *pluginpb.StartCaptureRequest) (*pluginpb.CaptureStarted, error) {
	if err := c.refuse(); err != nil {
		return nil, err
	}
	if err := checkMethods(r.Methods); err != nil {
		return nil, err
	}
	if err := wait(ctx, c.b.StartDelay); err != nil {
		return nil, err
	}
	c.flood()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started {
		return nil, &pluginapi.UnavailableError{Reason: "capture was started before", Remedy: "start one process per capture"}
	}
	if r.Fps <= 0 || r.Fps > 1000 {
		return nil, &pluginapi.UnavailableError{Reason: fmt.Sprintf("frame rate %g is outside 0..1000", r.Fps), Remedy: "ask for 1 to 120"}
	}
	l, err := framesource.Listen(r.SourcePath)
	if err != nil {
		return nil, &pluginapi.UnavailableError{Reason: err.Error(), Remedy: "give a source_path in a writable directory"}
	}
	c.started, c.listener, c.fps, c.keepalive = true, l, r.Fps, r.KeepaliveFps
	if s := r.Size; s.GetWidth() > 0 && s.GetHeight() > 0 {
		c.width, c.height = int(s.Width), int(s.Height)
	}
	c.wg.Go(c.accept)
	return &pluginpb.CaptureStarted{Method: "fake", Reason: "the only method", Kind: pluginpb.SourceKind_SOURCE_FRAMES,
		Size: &pluginpb.Size{Width: uint32(c.width), Height: uint32(c.height)}, Input: true, Resize: true}, nil
}

// accept serves encoders one after the other.
func (c *Capturer) accept() {
	for {
		sink, err := c.listener.AcceptFrames()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				fmt.Fprintln(os.Stderr, "fake:", err)
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if err := c.feed(sink); err != nil {
			fmt.Fprintln(os.Stderr, "fake: feed encoder:", err)
		}
		_ = sink.Close()
	}
}

// Watch emits heartbeats and changes.
func (c *Capturer) Watch(ctx context.Context, emit func(*pluginpb.CaptureEvent) error) error {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.done:
			return nil
		case e := <-c.events:
			if err := emit(e); err != nil {
				return err
			}
		case <-tick.C:
			if err := c.beat(ctx, emit); err != nil {
				return err
			}
		}
	}
}

func (c *Capturer) beat(ctx context.Context, emit func(*pluginpb.CaptureEvent) error) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	if c.failed() {
		return errFault
	}
	if c.b.NoHeartbeat {
		return nil
	}
	c.mu.Lock()
	hb := &pluginpb.CaptureHeartbeat{Frames: uint64(c.frames.get()), Dropped: c.dropped, LastFrameTime: int64(c.lastFrame)}
	c.mu.Unlock()
	return emit(&pluginpb.CaptureEvent{Time: int64(media.Now()), Event: &pluginpb.CaptureEvent_Heartbeat{Heartbeat: hb}})
}

// Inject changes the picture, as a desktop would.
func (c *Capturer) Inject(ctx context.Context, batch *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	if err := c.call(ctx); err != nil {
		return nil, err
	}
	if !c.running() {
		return nil, notRunning()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rejected := uint32(0)
	for _, e := range batch.Events {
		if e.Event == nil {
			rejected++
			continue
		}
		c.step++
	}
	return &pluginpb.Injected{Time: int64(media.Now()), Rejected: rejected}, nil
}

// Resize changes the size from the next frame on.
func (c *Capturer) Resize(ctx context.Context, s *pluginpb.Size) (*pluginpb.Size, error) {
	if err := c.call(ctx); err != nil {
		return nil, err
	}
	if !c.running() {
		return nil, notRunning()
	}
	if s.Width < 16 || s.Height < 16 || s.Width > framesource.MaxDimension || s.Height > framesource.MaxDimension {
		return nil, &pluginapi.UnavailableError{Reason: fmt.Sprintf("size %dx%d is outside 16..%d", s.Width, s.Height, framesource.MaxDimension),
			Remedy: "ask for a size a display can have"}
	}
	c.mu.Lock()
	c.width, c.height = int(s.Width), int(s.Height)
	c.step++
	c.mu.Unlock()
	c.events <- &pluginpb.CaptureEvent{Time: int64(media.Now()), Event: &pluginpb.CaptureEvent_Resized{Resized: proto.Clone(s).(*pluginpb.Size)}}
	return s, nil
}

// SetFramerate holds from the next frame on.
func (c *Capturer) SetFramerate(ctx context.Context, fps float64) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	if fps <= 0 || fps > 1000 {
		return &pluginapi.UnavailableError{Reason: fmt.Sprintf("frame rate %g is outside 0..1000", fps), Remedy: "ask for 1 to 120"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fps = fps
	return nil
}

// Stop is idempotent.
func (c *Capturer) Stop(ctx context.Context) error {
	if err := c.call(ctx); err != nil {
		return err
	}
	c.stopping()
	c.mu.Lock()
	first := c.started && !c.stopped
	c.stopped = true
	c.mu.Unlock()
	if first {
		close(c.done)
		_ = c.listener.Close()
		c.wg.Wait()
	}
	return nil
}

func (c *Capturer) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started && !c.stopped
}

func notRunning() error {
	return &pluginapi.UnavailableError{Reason: "nothing was started", Remedy: "call Start first"}
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
