package main

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// BenchmarkEncode is one picture from the frame socket to its access unit, one at a time: hand-off, conversion, encoding, collecting.
// handoff and encode are percentiles of the stages; allocs/op includes the capturer's side of the test.
func BenchmarkEncode(b *testing.B) {
	for _, method := range []string{"x264", "openh264"} {
		for _, size := range [][2]int{{1280, 720}, {1920, 1080}} {
			b.Run(fmt.Sprintf("%s/%dx%d", method, size[0], size[1]), func(b *testing.B) { benchEncode(b, method, size[0], size[1]) })
		}
	}
}

func benchEncode(b *testing.B, method string, width, height int) {
	r := newRig(b, func(q *pluginpb.StartEncodeRequest) {
		q.Methods, q.Fps, q.BitsPerSecond = []string{method}, 240, 40_000_000
	})
	r.register(3, width, height)
	for range 20 {
		r.send()
	}
	b.ReportAllocs()
	var handoff, encode []time.Duration
	b.ResetTimer()
	for b.Loop() {
		u := r.send()
		handoff = append(handoff, media.Time(u.HandoffTime).Sub(media.Time(u.CaptureTime)))
		encode = append(encode, media.Time(u.EncodeTime).Sub(media.Time(u.HandoffTime)))
	}
	b.StopTimer()
	report(b, "handoff", handoff)
	report(b, "encode", encode)
	runtime.KeepAlive(r)
}

func report(b *testing.B, name string, d []time.Duration) {
	slices.Sort(d)
	for _, p := range []int{50, 95} {
		b.ReportMetric(d[min(len(d)*p/100, len(d)-1)].Seconds()*1e3, fmt.Sprintf("%s-p%d-ms", name, p))
	}
}
