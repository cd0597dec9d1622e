package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

var (
	_ pluginapi.Capturer = (*captureClient)(nil)
	_ pluginapi.Encoder  = (*encodeClient)(nil)
)

type captureClient struct {
	p *Process
	c pluginpb.CaptureClient
}

func (c *captureClient) Probe(ctx context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	m, err := c.c.Probe(ctx, r)
	return m, c.p.callError(ctx, "probe", err)
}

func (c *captureClient) Start(ctx context.Context, r *pluginpb.StartCaptureRequest) (*pluginpb.CaptureStarted, error) {
	m, err := c.c.Start(ctx, r)
	return m, c.p.callError(ctx, "start", err)
}

func (c *captureClient) Watch(ctx context.Context, emit func(*pluginpb.CaptureEvent) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when emit fails
	stream, err := c.c.Watch(ctx, &pluginpb.WatchRequest{})
	if err != nil {
		return c.p.callError(ctx, "watch", err)
	}
	return watch(ctx, c.p, stream, emit)
}

func (c *captureClient) Inject(ctx context.Context, r *pluginpb.InputBatch) (*pluginpb.Injected, error) {
	m, err := c.c.Inject(ctx, r)
	return m, c.p.callError(ctx, "inject", err)
}

func (c *captureClient) Resize(ctx context.Context, r *pluginpb.Size) (*pluginpb.Size, error) {
	m, err := c.c.Resize(ctx, r)
	return m, c.p.callError(ctx, "resize", err)
}

func (c *captureClient) SetFramerate(ctx context.Context, fps float64) error {
	_, err := c.c.SetFramerate(ctx, &pluginpb.Framerate{Fps: fps})
	return c.p.callError(ctx, "set frame rate", err)
}

func (c *captureClient) Stop(ctx context.Context) error {
	_, err := c.c.Stop(ctx, &pluginpb.Empty{})
	return c.p.callError(ctx, "stop", err)
}

type encodeClient struct {
	p *Process
	c pluginpb.EncoderClient
}

func (c *encodeClient) Probe(ctx context.Context, r *pluginpb.ProbeRequest) (*pluginpb.ProbeReport, error) {
	m, err := c.c.Probe(ctx, r)
	return m, c.p.callError(ctx, "probe", err)
}

func (c *encodeClient) Start(ctx context.Context, r *pluginpb.StartEncodeRequest) (*pluginpb.EncodeStarted, error) {
	m, err := c.c.Start(ctx, r)
	return m, c.p.callError(ctx, "start", err)
}

// Watch takes access units from a socket of their own. emit is called by one goroutine at a time.
func (c *encodeClient) Watch(ctx context.Context, emit func(*pluginpb.EncodeEvent) error) error {
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when emit fails
	w, err := c.p.openUnits(emit)
	if err != nil {
		return c.p.callError(outer, "watch", err)
	}
	defer w.conn.Close()
	stream, err := c.c.Watch(ctx, &pluginpb.WatchRequest{UnitsHanded: true})
	if err != nil {
		return c.p.callError(outer, "watch", err)
	}
	return w.run(ctx, cancel, stream)
}

func (c *encodeClient) SetBitrate(ctx context.Context, bitsPerSecond uint32) error {
	_, err := c.c.SetBitrate(ctx, &pluginpb.Bitrate{BitsPerSecond: bitsPerSecond})
	return c.p.callError(ctx, "set bitrate", err)
}

func (c *encodeClient) SetFramerate(ctx context.Context, fps float64) error {
	_, err := c.c.SetFramerate(ctx, &pluginpb.Framerate{Fps: fps})
	return c.p.callError(ctx, "set frame rate", err)
}

func (c *encodeClient) RequestKeyframe(ctx context.Context) error {
	_, err := c.c.RequestKeyframe(ctx, &pluginpb.Empty{})
	return c.p.callError(ctx, "request keyframe", err)
}

func (c *encodeClient) Stop(ctx context.Context) error {
	_, err := c.c.Stop(ctx, &pluginpb.Empty{})
	return c.p.callError(ctx, "stop", err)
}

// watch hands every event to emit until the stream ends: nil when the plugin ended it, emit's error, or callError's.
func watch[T any](ctx context.Context, p *Process, stream grpc.ServerStreamingClient[T], emit func(*T) error) error {
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return p.callError(ctx, "watch", err)
		}
		if err := emit(event); err != nil {
			return err
		}
	}
}

// callError says what a failed call means. A cancelled ctx satisfies errors.Is with its error.
func (p *Process) callError(ctx context.Context, call string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s plugin %s: %w", call, p.Backend(), ctx.Err())
	}
	if u := (*pluginapi.UnavailableError)(nil); errors.As(pluginapi.FromStatus(err), &u) {
		return u
	}
	if (errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)) && p.gone() { // of its inbox
		return p.exitedError()
	}
	switch status.Code(err) {
	case codes.Unimplemented:
		return fmt.Errorf("%s plugin %s: %w", call, p.Backend(), ErrRole)
	case codes.Unavailable, codes.Canceled:
		if p.gone() {
			return p.exitedError()
		}
	}
	return fmt.Errorf("%s plugin %s: %w", call, p.Backend(), err)
}

// gone waits a moment for an exit that explains a lost connection.
func (p *Process) gone() bool {
	t := time.NewTimer(exitedGrace)
	defer t.Stop()
	select {
	case <-p.runner.exited:
		return true
	case <-t.C:
		return false
	}
}
