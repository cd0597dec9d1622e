package gstpipe

import (
	"errors"
	"testing"
	"time"
)

// Raw pictures come out with their layout, without an odd edge, and can be looked at.
func TestPullPicture(t *testing.T) {
	p, err := Build("test", []Element{
		{Factory: "videotestsrc", Props: []Prop{P("num-buffers", 2), P("pattern", "white")}},
		Caps("video/x-raw, format=(string)BGRx, width=(int)64, height=(int)48"),
		{Factory: "videocrop", Props: []Prop{P("left", 3), P("top", 5)}},
		Sink(),
	})
	if err != nil {
		if f, missing := IsMissing(err); missing {
			t.Fatalf("%s is missing: install gstreamer1.0-plugins-base and -good", f)
		}
		t.Fatal(err)
	}
	defer p.Close()
	p.Pictures(false)
	if err := p.Start(5*time.Second, true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f, err := p.PullPicture(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		picture := f.Picture
		l := picture.Layout()
		if l.Width != 60 || l.Height != 42 {
			t.Errorf("%dx%d of 61x43", l.Width, l.Height)
		}
		grid := make([]byte, 4*4*4)
		if n := picture.Sample(grid, 4, 4, 4); n != 16 || grid[0] < 200 || grid[63-3] < 200 {
			t.Errorf("%d points, %v", n, grid)
		}
		picture.Release()
	}
	if _, err := p.PullPicture(5 * time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// Waiting ends at the timeout, and at once when the pipeline is stopped.
func TestPullEnds(t *testing.T) {
	p, err := Build("test", []Element{Source("video/x-raw, format=(string)I420, width=(int)16, height=(int)16"), Sink()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Start(time.Second, false); err != nil {
		t.Fatal(err)
	}
	if _, err := p.PullUnit(time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("timeout: %v", err)
	}
	ended := make(chan error, 1)
	go func() { _, err := p.PullUnit(0); ended <- err }()
	p.Stop()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("stop: %v", err)
	}
}

// The first error of an element reaches whoever waits.
func TestPullFails(t *testing.T) {
	p, err := Build("test", []Element{
		{Factory: "videotestsrc"}, {Factory: "identity", Name: "saboteur", Props: []Prop{P("error-after", 2)}}, Sink(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Start(5*time.Second, false); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err = p.PullUnit(5 * time.Second); err != nil {
			break
		}
	}
	var pe *PipelineError
	if !errors.As(err, &pe) || pe.Element != "saboteur" {
		t.Fatal(err)
	}
}

// Missing elements and properties are named; optional properties are not missed.
func TestBuildRefuses(t *testing.T) {
	if _, err := Build("test", []Element{{Factory: "identity", Props: []Prop{P("no-such", 1)}}}); err == nil {
		t.Error("built with a property that does not exist")
	}
	p, err := Build("test", []Element{{Factory: "identity", Props: []Prop{Maybe("no-such", 1), P("silent", true)}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.String(); got != `identity silent="true"` {
		t.Error(got)
	}
	p.Close()
	p.Close()
}
