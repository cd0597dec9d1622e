//go:build integration

package fakeplugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDecodes proves that a real decoder accepts the stream and shows flat grey of the right size, with a crop and across a keyframe.
func TestDecodes(t *testing.T) {
	const width, height, pictures = 322, 242, 6
	var s stream
	var file []byte
	for i := range pictures {
		file = append(file, s.next(width, height, i%3 == 0, 2000)...)
	}
	in, out := filepath.Join(t.TempDir(), "in.h264"), filepath.Join(t.TempDir(), "out.yuv")
	if err := os.WriteFile(in, file, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("gst-launch-1.0", "-q", "filesrc", "location="+in, "!", "h264parse", "!", "openh264dec", "!",
		"videoconvert", "!", "video/x-raw,format=GRAY8", "!", "filesink", "location="+out).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	const stride = (width + 3) / 4 * 4
	if len(raw) != pictures*stride*height {
		t.Fatalf("decoded %d bytes, want %d pictures of %d", len(raw), pictures, stride*height)
	}
	for i := range height { // row padding aside
		for _, p := range raw[i*stride : i*stride+width] {
			if p < 120 || p > 140 {
				t.Fatalf("row %d has %d, want grey", i, p)
			}
		}
	}
}
