package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/capture-test/pattern"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// defaultSize is used by a request that leaves it open.
var defaultSize = capture.Size{Width: 1280, Height: 720}

// minSize is the smallest picture that can carry the strip with something below it.
var minSize = capture.Size{Width: pattern.MinWidth, Height: 90}

// method is the one method of this plugin.
type method struct{}

func (method) Name() string { return "test" }

// Probe draws real pictures: what can fail is memory.
func (method) Probe(_ context.Context, frames int) *pluginpb.ProbeItem {
	item := &pluginpb.ProbeItem{
		Usable: true, Reason: "the test pattern needs nothing of the node",
		Details: map[string]string{"size": defaultSize.String()},
	}
	if frames > 0 {
		if err := try(frames, item); err != nil {
			return capture.Unusable(err.Error(), "give the process more memory")
		}
	}
	return item
}

func try(frames int, item *pluginpb.ProbeItem) error {
	layout := layoutOf(defaultSize)
	buffer, err := capture.NewSharedBuffer(layout)
	if err != nil {
		return err
	}
	defer buffer.Gone()
	trial, c := capture.NewTrial(), newCanvas(newScene(layout), buffer.Data)
	for i := range frames {
		start := media.Now()
		c.draw(pattern.Stamp{Time: int64(i) * 100_000, Sequence: uint32(i)})
		trial.Add(buffer.Data, layout, media.Now().Sub(start))
	}
	trial.Fill(item)
	return nil
}

// Open implements capture.Method.
func (method) Open(_ context.Context, r *pluginpb.StartCaptureRequest) (capture.Source, error) {
	size := capture.SizeOf(r.Size)
	if size.Zero() {
		size = defaultSize
	}
	return newSource(size, r.Fps)
}

func layoutOf(s capture.Size) media.Layout {
	return media.Layout{
		Width: s.Width, Height: s.Height, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 4 * s.Width}},
	}
}

func checkSize(s capture.Size) error {
	if s.Width < minSize.Width || s.Height < minSize.Height || s.Height < pattern.Height(s.Width)+1 {
		return fmt.Errorf("size %v is too small for the test pattern; it needs at least %v", s, minSize)
	}
	return nil
}

func period(fps float64) time.Duration { return time.Duration(float64(time.Second) / fps) }
