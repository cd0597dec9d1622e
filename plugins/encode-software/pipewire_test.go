//go:build integration

package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/encode/encodetest"
)

// Pictures of a PipeWire node come out as access units, with the time at which PipeWire's source made them, and go on when the node is
// reached by another connection.
func TestPipeWireNode(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pw, err := encodetest.StartPipeWire(t.Context(), dir, "videotestsrc is-live=true pattern=ball ! video/x-raw,format=BGRx,width=1280,height=720,framerate=30/1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pw.Close)
	path := filepath.Join(t.TempDir(), "frames")
	l, err := framesource.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sinks := make(chan *framesource.Sink, 1)
	go func() {
		s, err := l.AcceptPipeWire(pw.Open)
		if err != nil {
			t.Error(err)
		}
		sinks <- s
	}()
	r := &rig{t: t, plugin: encode.New(encode.Config{Name: "test", Methods: methods()})}
	_, err = r.plugin.Start(t.Context(), &pluginpb.StartEncodeRequest{SourcePath: path, Codec: "h264", BitsPerSecond: 6e6, Fps: 60})
	if err != nil {
		t.Fatal(err)
	}
	sink := <-sinks
	r.watch()
	var last media.Time
	for i := range 90 {
		if i == 60 {
			node, err := pw.Open()
			if err == nil {
				err = sink.Replace(node)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = node.Remote.Close()
		}
		u := r.unit()
		if u.Keyframe != (i == 0) || u.Width != 1280 || u.Height != 720 {
			t.Fatalf("unit %d: key %v %dx%d", i, u.Keyframe, u.Width, u.Height)
		}
		if handoff := media.Time(u.HandoffTime).Sub(media.Time(u.CaptureTime)); handoff < 0 || handoff > time.Second || media.Time(u.CaptureTime) <= last {
			t.Fatalf("unit %d: capture %d after %d, hand-off %v", i, u.CaptureTime, last, handoff)
		}
		last = media.Time(u.CaptureTime)
		if i%20 == 5 {
			t.Logf("handoff %v encode %v", time.Duration(u.HandoffTime-u.CaptureTime), time.Duration(u.EncodeTime-u.HandoffTime))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.plugin.Stop(ctx); err != nil {
		t.Error(err)
	}
	r.stop()
	<-r.watched
	select {
	case <-sink.Done():
	case <-time.After(patience):
		t.Error("the encoder did not leave")
	}
}
