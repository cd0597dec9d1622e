package encode

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// pipewireIntake takes pictures from a PipeWire node. Compositor and pipewiresrc negotiate memory and format; what comes out stays
// PipeWire's buffer. Nothing is dropped on the way here: when the run is slow, PipeWire runs out of buffers and the compositor skips.
type pipewireIntake struct {
	source *framesource.Source
	caps   string
	nodes  chan framesource.Node // that take the place of the one before; a newer one replaces one that waits
}

func newPipeWireIntake(source *framesource.Source, caps string) *pipewireIntake {
	in := &pipewireIntake{source: source, caps: caps, nodes: make(chan framesource.Node, 1)}
	in.nodes <- source.PipeWire()
	return in
}

func (in *pipewireIntake) run(ctx context.Context, deliver func(gstpipe.Frame) bool) error {
	defer in.source.Close()
	g, inner := errgroup.WithContext(ctx)
	stop := context.AfterFunc(inner, func() { _ = in.source.Close() })
	defer stop()
	g.Go(in.watch)
	g.Go(func() error { return in.follow(inner, deliver) })
	err := g.Wait()
	in.forget()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watch waits for other nodes and for the capture plugin to leave.
func (in *pipewireIntake) watch() error {
	for {
		e, err := in.source.Next()
		switch {
		case err != nil:
			return sourceEnd(err)
		case e.Node == nil:
			return errors.New("a PipeWire source sent a frame message")
		}
		in.forget()
		in.nodes <- *e.Node
	}
}

// forget drops a node that waits.
func (in *pipewireIntake) forget() {
	select {
	case n := <-in.nodes:
		_ = n.Remote.Close() // a connection that nobody used
	default:
	}
}

// follow takes pictures from a node until another one takes its place.
func (in *pipewireIntake) follow(ctx context.Context, deliver func(gstpipe.Frame) bool) error {
	var n framesource.Node
	select {
	case n = <-in.nodes:
	case <-ctx.Done():
		return nil
	}
	for {
		pumping, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- in.pump(pumping, n, deliver) }() // ends with pumping, awaited below
		next := n
		var err error
		select {
		case next = <-in.nodes:
			cancel()
			err = <-ended
		case err = <-ended:
		}
		cancel()
		_ = n.Remote.Close()
		if next == n || err != nil {
			return err
		}
		n = next
	}
}

// pump takes pictures from a node until ctx ends (nil).
func (in *pipewireIntake) pump(ctx context.Context, n framesource.Node, deliver func(gstpipe.Frame) bool) error {
	p, err := gstpipe.Build("intake", in.chain(n))
	if err != nil {
		if factory, missing := gstpipe.IsMissing(err); missing {
			return Missing(factory)
		}
		return err
	}
	defer p.Close()
	p.Pictures(false)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(stopped); p.Stop() })
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	if err := p.Start(startTimeout, true); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return explainNode(n, err)
	}
	for {
		f, err := p.PullPicture(0)
		switch {
		case ctx.Err() != nil:
			f.Picture.Release()
			return nil
		case errors.Is(err, gstpipe.ErrIncomplete): // the run counts it as dropped
		case errors.Is(err, gstpipe.ErrLayout):
			return fmt.Errorf("picture of PipeWire node %d: %w", n.ID, err)
		case err != nil:
			return explainNode(n, err)
		}
		f.Capture = stamped(f.Capture, f.Handoff)
		if !deliver(f) {
			f.Picture.Release()
			return nil
		}
	}
}

func (in *pipewireIntake) chain(n framesource.Node) []gstpipe.Element {
	return []gstpipe.Element{
		{Factory: "pipewiresrc", Name: "pipewire", Props: []gstpipe.Prop{
			gstpipe.P("fd", n.Remote.Fd()), gstpipe.P("path", n.ID), gstpipe.P("do-timestamp", true),
			gstpipe.P("always-copy", false), gstpipe.Maybe("client-name", "wavry-encode"),
			// The run repeats pictures itself and marks them; PipeWire's keep-alive could not be told from a new picture.
			gstpipe.Maybe("keepalive-time", 0),
			// One waits, one is encoded, one is kept, two are drawn into.
			gstpipe.Maybe("min-buffers", 5),
		}},
		gstpipe.Caps(gstpipe.SizedCaps(in.caps, n.Width, n.Height)),
		gstpipe.Sink(),
	}
}

func explainNode(n framesource.Node, err error) error {
	var pe *gstpipe.PipelineError
	if !errors.As(err, &pe) {
		return fmt.Errorf("take pictures from PipeWire node %d: %w", n.ID, err)
	}
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("PipeWire node %d gives no pictures: %v", n.ID, err),
		Remedy: "check that the node still exists (pw-dump) and offers video/x-raw, and restart the capture",
	}
}

// buffers: PipeWire was asked for enough.
func (in *pipewireIntake) buffers() *gstpipe.Buffers { return nil }

func (in *pipewireIntake) close() {}
