//go:build integration

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wavry/fleet/plugins/capture-test/pattern"
	"github.com/wavry/fleet/plugins/internal/capture"
)

// The stamp survives real H.264 at a twentieth of a usual bitrate: every decoded picture still reads.
func TestStampSurvivesH264(t *testing.T) {
	const pictures = 90
	size := capture.Size{Width: 1280, Height: 720}
	layout := layoutOf(size)
	c := newCanvas(newScene(layout), make([]byte, 4*size.Width*size.Height))
	dir := t.TempDir()
	raw, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range pictures {
		c.draw(pattern.Stamp{Time: 1<<40 + int64(i)*33_333, Sequence: uint32(i), Inputs: uint16(i / 7), Key: uint16(i), X: uint16(i * 700), Y: 30_000})
		if _, err := raw.Write(c.pix); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "decoded")
	pipeline := "filesrc location=" + raw.Name() + " ! rawvideoparse width=1280 height=720 format=bgrx framerate=30/1 ! videoconvert" +
		" ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=250 ! h264parse ! openh264dec ! videoconvert ! video/x-raw,format=RGBA ! filesink location=" + out
	if text, err := exec.Command("gst-launch-1.0", append([]string{"-q"}, strings.Fields(pipeline)...)...).CombinedOutput(); err != nil {
		t.Skipf("no such pipeline here: %v\n%s", err, text)
	}
	decoded, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	frame := 4 * size.Width * size.Height
	if len(decoded) != pictures*frame {
		t.Fatalf("%d decoded bytes, want %d pictures", len(decoded), pictures)
	}
	for i := range pictures {
		s, err := pattern.Decode(decoded[i*frame:], 4*size.Width, size.Width, size.Height)
		if err != nil || s.Sequence != uint32(i) || s.Time != 1<<40+int64(i)*33_333 {
			t.Errorf("picture %d: %+v, %v", i, s, err)
		}
	}
}
