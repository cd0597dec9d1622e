//go:build integration

package viewertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// unit is one access unit of a clip.
type unit struct {
	data     []byte
	keyframe bool
}

// clip is a short H.264 film: a keyframe, then delta units only, so that a lost unit really breaks what follows.
type clip struct {
	width, height int
	units         []unit
}

var (
	clipsMu sync.Mutex
	clips   = map[string]*clip{}
)

// film encodes a ball on a background of one colour (0xAARRGGBB), once per colour and size.
func film(t testing.TB, colour uint32, width, height int) *clip {
	t.Helper()
	clipsMu.Lock()
	defer clipsMu.Unlock()
	key := fmt.Sprintf("%08x %dx%d", colour, width, height)
	if clips[key] == nil {
		clips[key] = encode(t, colour, width, height)
	}
	return clips[key]
}

func encode(t testing.TB, colour uint32, width, height int) *clip {
	t.Helper()
	out := filepath.Join(t.TempDir(), "film.h264")
	cmd := exec.CommandContext(t.Context(), "gst-launch-1.0", "-q",
		"videotestsrc", "pattern=ball", "num-buffers=120", fmt.Sprintf("background-color=%d", colour), "foreground-color=4294967295", "!",
		fmt.Sprintf("video/x-raw,format=I420,width=%d,height=%d,framerate=60/1", width, height), "!",
		"x264enc", "tune=zerolatency", "speed-preset=ultrafast", "key-int-max=1000", "bitrate=6000", "!",
		"video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au", "!", "filesink", "location="+out)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("encode a film: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	c := &clip{width: width, height: height, units: split(b)}
	if len(c.units) != 120 || !c.units[0].keyframe {
		t.Fatalf("film has %d units, keyframe first %v", len(c.units), len(c.units) > 0 && c.units[0].keyframe)
	}
	return c
}

// split cuts an Annex-B film at its access unit delimiters.
func split(b []byte) []unit {
	delimiter := []byte{0, 0, 0, 1, 9}
	var out []unit
	for len(b) > 0 {
		n := bytes.Index(b[1:], delimiter) + 1
		if n == 0 {
			n = len(b)
		}
		out = append(out, unit{data: b[:n], keyframe: bytes.Contains(b[:n], []byte{0, 0, 1, 0x65})})
		b = b[n:]
	}
	return out
}
