package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/capture"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// errNoFrames says that a PipeWire stream exists and stays silent.
var errNoFrames = errors.New("the stream delivered no frame although the picture was changed")

// trial opens a PipeWire node as an encoder would and looks at what comes.
type trial struct {
	frames int
	hashes map[uint64]bool
	bright bool // some picture was not black
	delays []time.Duration
	size   capture.Size
	dmabuf bool
	caps   string
}

// tryNode takes frames pictures from node, or as many as come until ctx ends or, for the first one, until firstFrame is over. nudge
// changes the picture and is called all the while; nil when nothing can be changed. size is what the node is asked for; zero: what it has.
func tryNode(ctx context.Context, open func() (*os.File, error), node uint32, size capture.Size, frames int, nudge func()) (*trial, error) {
	remote, err := open()
	if err != nil {
		return nil, err
	}
	defer remote.Close()
	p, err := gstpipe.Build("trial", []gstpipe.Element{
		{Factory: "pipewiresrc", Name: "pipewire", Props: []gstpipe.Prop{
			gstpipe.P("fd", remote.Fd()), gstpipe.P("path", node), gstpipe.P("do-timestamp", true)}},
		// Without a filter right behind it pipewiresrc does not negotiate (GStreamer 1.22, PipeWire 0.3.65).
		gstpipe.Caps(gstpipe.SizedCaps("video/x-raw", size.Width, size.Height)),
		gstpipe.Sink(),
	})
	if err != nil {
		return nil, explainBuild(err)
	}
	defer p.Close()
	p.Pictures(true)
	if nudge != nil {
		defer nudging(nudge)()
	}
	// A stream without a frame does not finish starting; that is what the pulling finds out, with its own deadline.
	if err := p.Start(firstFrame, true); err != nil && p.Err() != nil {
		return nil, fmt.Errorf("open PipeWire node %d: %w", node, err)
	}
	return pullTrial(ctx, p, frames)
}

func explainBuild(err error) error {
	if factory, missing := gstpipe.IsMissing(err); missing && factory == "pipewiresrc" {
		return unavailable("GStreamer element pipewiresrc is missing", "apt-get install gstreamer1.0-pipewire")
	}
	return err
}

// nudging calls nudge until the returned function was called.
func nudging(nudge func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		tick := time.NewTicker(nudgeEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				nudge()
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func pullTrial(ctx context.Context, p *gstpipe.Pipeline, frames int) (*trial, error) {
	t := &trial{hashes: map[uint64]bool{}}
	seed := maphash.MakeSeed()
	for begun := time.Now(); t.frames < frames; {
		f, err := p.PullPicture(pullTimeout)
		switch {
		case err == nil:
			t.add(&f.Picture, f.Capture, seed)
			f.Picture.Release()
		case !errors.Is(err, gstpipe.ErrTimeout):
			return nil, err
		case ctx.Err() != nil && t.frames > 0:
			return t, nil
		case ctx.Err() != nil || (t.frames == 0 && time.Since(begun) > firstFrame):
			return nil, errNoFrames
		}
	}
	t.caps = p.CapsOf("pipewire", "src")
	return t, nil
}

// A grid of this size is what is looked at of a picture.
const (
	trialColumns, trialRows = 64, 36
	trialPixel              = 4
	trialBlack              = 8
)

func (t *trial) add(p *gstpipe.Picture, taken media.Time, seed maphash.Seed) {
	t.frames++
	if taken > 0 {
		t.delays = append(t.delays, media.Now().Sub(taken))
	}
	layout := p.Layout()
	t.size, t.dmabuf = capture.Size{Width: layout.Width, Height: layout.Height}, p.DMABuf()
	var grid [trialColumns * trialRows * trialPixel]byte
	n := p.Sample(grid[:], trialPixel, trialColumns, trialRows)
	if n == 0 { // memory of a GPU: it came, and that is all we can say without a GPU's help
		t.bright = true
		t.hashes[uint64(t.frames)] = true
		return
	}
	for i := 0; i < n*trialPixel; i += trialPixel {
		grid[i+3] = 0 // alpha or padding
		t.bright = t.bright || max(grid[i], grid[i+1], grid[i+2]) >= trialBlack
	}
	t.hashes[maphash.Bytes(seed, grid[:])] = true
}

// item is the trial as a line of the probe's report.
func (t *trial) item() *pluginpb.ProbeItem {
	item := &pluginpb.ProbeItem{
		Usable: t.bright, Frames: uint32(t.frames), Distinct: uint32(len(t.hashes)),
		LatencyP50Ms: capture.Percentile(t.delays, 50), LatencyP95Ms: capture.Percentile(t.delays, 95),
		Details: map[string]string{"size": t.size.String(), "memory": "shared", "caps": t.caps},
	}
	if t.dmabuf {
		item.Details["memory"] = "dmabuf"
	}
	if !t.bright {
		item.Reason = fmt.Sprintf("all %d pictures are black", t.frames)
		item.Remedy = "check that the output is powered on and shows a desktop"
	}
	return item
}
