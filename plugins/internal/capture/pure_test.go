package capture

import (
	"math"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

const millisecond = media.Time(time.Millisecond)

// Asked as often as possible, or only at a compositor's refreshes, the pacer holds the rate; after a pause it makes up for nothing.
func TestPacerRate(t *testing.T) {
	for _, c := range []struct {
		fps, refresh float64
		want         int // in ten seconds
	}{{60, 60, 600}, {30, 60, 300}, {60, 1000, 600}, {50, 60, 500}, {24, 60, 240}, {144, 60, 600}, {0, 60, 600}} {
		var p Pacer
		p.SetFramerate(c.fps)
		n := 0
		asked := media.Time(-1) // when the picture under way was asked for
		for i := range int(10 * c.refresh) {
			now := media.Time(float64(i) * 1e9 / c.refresh)
			if asked < 0 && p.Wait(now-millisecond/10) == 0 {
				asked = now
			}
			if asked >= 0 {
				p.Taken(now)
				n++
				asked = -1
			}
		}
		if math.Abs(float64(n-c.want)) > float64(c.want)/50+2 {
			t.Errorf("%v fps at %v Hz: %d pictures in 10 s, want %d", c.fps, c.refresh, n, c.want)
		}
	}
}

func TestPacerPause(t *testing.T) {
	var p Pacer
	p.SetFramerate(10)
	p.Taken(0)
	p.Taken(10_000 * millisecond)
	if w := p.Wait(10_001 * millisecond); w != 49*time.Millisecond {
		t.Errorf("waits %v after a pause", w)
	}
}

// A picture is black only if every looked-at pixel is, whatever the padding holds, and equal pictures look equal.
func TestLook(t *testing.T) {
	layout := media.Layout{Width: 640, Height: 360, Planes: []media.Plane{{Stride: 640*4 + 64}}}
	pix := make([]byte, layout.Planes[0].Stride*360)
	for i := 3; i < len(pix); i += 4 {
		pix[i] = 0xFF // alpha
	}
	l := NewLooker()
	dark := l.Look(pix, layout)
	if !dark.Black || l.Look(pix, layout) != dark {
		t.Errorf("black: %+v", dark)
	}
	for y := 100; y < 120; y++ { // something of a 64th of the picture's width
		for x := 200; x < 212; x++ {
			pix[y*layout.Planes[0].Stride+4*x] = 0x80
		}
	}
	if got := l.Look(pix, layout); got.Black || got.Hash == dark.Hash {
		t.Errorf("a small thing: %+v", got)
	}
	if n := testing.AllocsPerRun(10, func() { l.Look(pix, layout) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A trial says what the pictures were like.
func TestTrial(t *testing.T) {
	layout := media.Layout{Width: 64, Height: 64, Planes: []media.Plane{{Stride: 256}}}
	black, white := make([]byte, 256*64), make([]byte, 256*64)
	for i := range white {
		white[i] = 0xFF
	}
	item := func(pictures ...[]byte) *pluginpb.ProbeItem {
		trial := NewTrial()
		for i, p := range pictures {
			trial.Add(p, layout, time.Duration(i+1)*time.Millisecond)
		}
		var i pluginpb.ProbeItem
		trial.Fill(&i)
		return &i
	}
	if i := item(); i.Usable || i.Reason != "no picture came" {
		t.Errorf("nothing: %v", i)
	}
	if i := item(black, black); i.Usable || i.Distinct != 1 || i.Remedy == "" {
		t.Errorf("black: %v", i)
	}
	if i := item(black, white, white); !i.Usable || i.Frames != 3 || i.Distinct != 2 || i.LatencyP50Ms != 2 || i.LatencyP95Ms != 3 {
		t.Errorf("mixed: %v", i)
	}
}

func TestPercentile(t *testing.T) {
	if v := Percentile(nil, 50); v != 0 {
		t.Errorf("of nothing: %v", v)
	}
	d := []time.Duration{4e6, 1e6, 3e6, 2e6}
	for p, want := range map[float64]float64{0: 1, 50: 2, 75: 3, 99: 4, 100: 4} {
		if got := Percentile(d, p); got != want {
			t.Errorf("p%v = %v, want %v", p, got, want)
		}
	}
	if d[0] != 4e6 {
		t.Error("the argument was sorted")
	}
}

// A full queue drops its oldest event; every event gets a time.
func TestEventQueue(t *testing.T) {
	q := newEventQueue()
	for i := range maxEvents + 3 {
		q.put(Resized(Size{Width: i, Height: 1}))
	}
	events := q.takeAll()
	if len(events) != maxEvents || events[0].GetResized().Width != 3 || events[0].Time == 0 {
		t.Errorf("%d events, first %v", len(events), events[0])
	}
	if len(q.takeAll()) != 0 {
		t.Error("events came twice")
	}
}

func TestSizeCheck(t *testing.T) {
	for s, ok := range map[Size]bool{
		{16, 16}: true, {15, 16}: false, {16, 15}: false, {16384, 16384}: true, {16385, 16}: false, {}: false, {-1, 100}: false,
	} {
		if err := s.check(); (err == nil) != ok {
			t.Errorf("%v: %v", s, err)
		}
	}
}
