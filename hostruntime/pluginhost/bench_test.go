package pluginhost

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// BenchmarkAccessUnits measures what the process boundary adds to an access unit: from the end of encoding in the plugin to the
// unit in the host runtime's hands, at 60 fps with 30 kB units and a keyframe of 200 kB each second. Budget: p95 < 0.5 ms.
//
// Run it for a fixed number of frames: go test -bench AccessUnits -benchtime 600x
func BenchmarkAccessUnits(b *testing.B) {
	ctx := b.Context()
	start := func(behaviour fakeplugin.Behaviour) *Process {
		p, err := Launch(ctx, selfSpec(b, behaviour))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(p.Kill)
		return p
	}
	capture := start(fakeplugin.Behaviour{Role: "capture", Width: 64, Height: 64})
	encoder := start(fakeplugin.Behaviour{Role: "encode", UnitBytes: 30_000, KeyBytes: 200_000})
	if _, err := capture.Capture().Start(ctx, &pluginpb.StartCaptureRequest{SourcePath: inbox.Handed, Fps: 60}); err != nil {
		b.Fatal(err)
	}
	if err := Connect(capture, encoder); err != nil {
		b.Fatal(err)
	}
	e := encoder.Encoder()
	if _, err := e.Start(ctx, &pluginpb.StartEncodeRequest{SourcePath: inbox.Handed, Codec: "h264", Fps: 60}); err != nil {
		b.Fatal(err)
	}
	m := measure{encoder: func() error { return e.RequestKeyframe(ctx) }}
	b.ReportAllocs()
	b.ResetTimer()
	if err := e.Watch(ctx, func(event *pluginpb.EncodeEvent) error { return m.take(event, b.N) }); !errors.Is(err, errEnough) {
		b.Fatal(err)
	}
	b.StopTimer()
	m.report(b)
}

var errEnough = errors.New("enough")

type measure struct {
	encoder     func() error
	units, keys []time.Duration
}

func (m *measure) take(event *pluginpb.EncodeEvent, n int) error {
	u := event.GetUnit()
	if u == nil {
		return nil
	}
	took := media.Now().Sub(media.Time(u.EncodeTime))
	if u.Keyframe {
		m.keys = append(m.keys, took)
	} else {
		m.units = append(m.units, took)
	}
	if total := len(m.units) + len(m.keys); total >= n {
		return errEnough
	} else if total%60 == 0 {
		return m.encoder()
	}
	return nil
}

func (m *measure) report(b *testing.B) {
	for name, list := range map[string][]time.Duration{"unit": m.units, "key": m.keys} {
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		at := func(q float64) float64 { return float64(list[int(q*float64(len(list)-1))].Microseconds()) }
		b.ReportMetric(at(.5), name+"-p50-us")
		b.ReportMetric(at(.95), name+"-p95-us")
		b.ReportMetric(at(.99), name+"-p99-us")
	}
}
