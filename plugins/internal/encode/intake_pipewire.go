package encode

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// pipewireIntake takes pictures from a PipeWire node. Compositor and pipewiresrc negotiate memory and format; what comes out stays
// PipeWire's buffer. Nothing is dropped on the way here: when the run is slow, PipeWire runs out of buffers and the compositor skips.
type pipewireIntake struct {
	source *framesource.Source
	remote *os.File
	node   uint32
	caps   string
}

func newPipeWireIntake(source *framesource.Source, caps string) *pipewireIntake {
	in := &pipewireIntake{source: source, caps: caps}
	in.remote, in.node = source.PipeWire()
	return in
}

func (in *pipewireIntake) run(ctx context.Context, deliver func(frame) bool) error {
	defer in.remote.Close()
	defer in.source.Close()
	g, inner := errgroup.WithContext(ctx)
	stop := context.AfterFunc(inner, func() { _ = in.source.Close() })
	defer stop()
	g.Go(func() error { return in.watchEnd() })
	g.Go(func() error { return in.pump(inner, deliver) })
	err := g.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watchEnd waits for the capture plugin to leave: the socket has no other use with PipeWire.
func (in *pipewireIntake) watchEnd() error {
	_, err := in.source.Next()
	if err == nil {
		return errors.New("a PipeWire source sent a frame message")
	}
	return sourceEnd(err)
}

func (in *pipewireIntake) pump(ctx context.Context, deliver func(frame) bool) error {
	p, err := gstpipe.Build("intake", in.chain())
	if err != nil {
		if factory, missing := gstpipe.IsMissing(err); missing {
			return Missing(factory)
		}
		return err
	}
	defer p.Close()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(stopped); p.Stop() })
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	if err := p.Start(startTimeout, true); err != nil {
		return in.explain(err)
	}
	for {
		picture, taken, err := p.PullPicture(0)
		switch {
		case ctx.Err() != nil:
			picture.Release()
			return nil
		case errors.Is(err, gstpipe.ErrIncomplete):
			picture = gstpipe.Picture{} // the run counts it as dropped
		case errors.Is(err, gstpipe.ErrLayout):
			return fmt.Errorf("picture of PipeWire node %d: %w", in.node, err)
		case err != nil:
			return in.explain(err)
		}
		now := media.Now()
		if !deliver(frame{picture: picture, capture: stamped(taken, now), handoff: now}) {
			picture.Release()
			return nil
		}
	}
}

func (in *pipewireIntake) chain() []gstpipe.Element {
	return []gstpipe.Element{
		{Factory: "pipewiresrc", Name: "pipewire", Props: []gstpipe.Prop{
			gstpipe.P("fd", in.remote.Fd()), gstpipe.P("path", in.node), gstpipe.P("do-timestamp", true),
			gstpipe.P("always-copy", false), gstpipe.Maybe("client-name", "wavry-encode"),
			// The run repeats pictures itself and marks them; PipeWire's keep-alive could not be told from a new picture.
			gstpipe.Maybe("keepalive-time", 0),
			// One waits, one is encoded, one is kept, two are drawn into.
			gstpipe.Maybe("min-buffers", 5),
		}},
		gstpipe.Caps(in.caps),
		gstpipe.Sink(false),
	}
}

func (in *pipewireIntake) explain(err error) error {
	var pe *gstpipe.PipelineError
	if !errors.As(err, &pe) {
		return fmt.Errorf("take pictures from PipeWire node %d: %w", in.node, err)
	}
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("PipeWire node %d gives no pictures: %v", in.node, err),
		Remedy: "check that the node still exists (pw-dump) and offers video/x-raw, and restart the capture",
	}
}

// spare: PipeWire was asked for enough buffers.
func (in *pipewireIntake) spare() bool { return true }
