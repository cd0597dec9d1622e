package ratecontrol

import (
	"testing"
	"time"
)

// link is a bottleneck: a queue in front of a fixed capacity and a propagation delay.
type link struct {
	capacity func(now time.Duration) float64 // bits per second
	delay    time.Duration
	free     time.Duration // when the queue is empty
}

// send returns when a unit's last byte arrives and how long it queued.
func (l *link) send(now time.Duration, bytes int) (arrival, queued time.Duration) {
	start := max(now, l.free)
	l.free = start + time.Duration(float64(bytes*8)/l.capacity(now)*float64(time.Second))
	return l.free + l.delay, l.free - now
}

type sample struct {
	at      time.Duration
	bitrate int
	queued  time.Duration
}

// run streams 60 units a second for total over l, each as large as the target allows, with a viewer clock that is an hour off.
// Like the send queue, it skips while more than 100 ms wait.
func run(c *Controller, l *link, path Path, total time.Duration) []sample {
	type report struct {
		sent, received time.Duration
		size           int
	}
	var inFlight []report
	var samples []sample
	target := c.Update(0, path)
	for now := time.Duration(0); now < total; now += time.Second / 60 {
		size := int(float64(target.Bitrate) / target.FPS / 8)
		queued := l.free - now
		if queued < 100*time.Millisecond {
			var arrival time.Duration
			arrival, queued = l.send(now, size)
			inFlight = append(inFlight, report{sent: now, received: arrival, size: size})
		} else {
			c.Skipped()
		}
		for len(inFlight) > 0 && inFlight[0].received+l.delay < now {
			r := inFlight[0]
			c.Received(r.sent, r.received+time.Hour, r.size)
			inFlight = inFlight[1:]
		}
		path.Sent += uint64(size/1200 + 1)
		target = c.Update(now, path)
		samples = append(samples, sample{at: now, bitrate: target.Bitrate, queued: queued})
	}
	return samples
}

func constant(bps float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return bps }
}

func config() Config {
	return Config{Min: 200_000, Start: 2_000_000, Max: 20_000_000, MaxFPS: 60, Pixels: 1280 * 720}
}

// On a steady link the rate settles below the capacity, uses most of it, and the queue stays short.
func TestSettlesBelowCapacity(t *testing.T) {
	const capacity = 6e6
	l := &link{capacity: constant(capacity), delay: 15 * time.Millisecond}
	samples := run(New(config()), l, Path{RTT: 30 * time.Millisecond, Window: 1 << 20}, 30*time.Second)
	var sum float64
	var worst time.Duration
	late := samples[len(samples)/2:]
	for _, s := range late {
		sum += float64(s.bitrate)
		worst = max(worst, s.queued)
	}
	if mean := sum / float64(len(late)); mean < 0.6*capacity || mean > 1.05*capacity {
		t.Errorf("mean rate %.1f Mbit/s on a link of %.1f", mean/1e6, capacity/1e6)
	}
	if worst > 150*time.Millisecond {
		t.Errorf("queue grew to %v", worst)
	}
}

// When the link collapses, the rate follows within two seconds and the queue drains.
func TestFollowsCollapse(t *testing.T) {
	l := &link{delay: 15 * time.Millisecond, capacity: func(now time.Duration) float64 {
		if now < 10*time.Second {
			return 10e6
		}
		return 2e6
	}}
	samples := run(New(config()), l, Path{RTT: 30 * time.Millisecond, Window: 1 << 20}, 20*time.Second)
	for _, s := range samples {
		if s.at > 14*time.Second && s.queued > 300*time.Millisecond {
			t.Fatalf("at %v: %v queued at %.1f Mbit/s", s.at, s.queued, float64(s.bitrate)/1e6)
		}
		if s.at > 12500*time.Millisecond && s.bitrate > 3e6 {
			t.Fatalf("at %v: still %.1f Mbit/s on a link of 2", s.at, float64(s.bitrate)/1e6)
		}
	}
}

// Without a bottleneck the rate reaches the maximum, never above.
func TestRisesToMax(t *testing.T) {
	cfg := config()
	l := &link{capacity: constant(1e9), delay: time.Millisecond}
	samples := run(New(cfg), l, Path{RTT: 2 * time.Millisecond, Window: 1 << 20}, 20*time.Second)
	if last := samples[len(samples)-1].bitrate; last != cfg.Max {
		t.Errorf("rate %d after 20 s without a bottleneck, want %d", last, cfg.Max)
	}
}

// The rate never passes the share of window/RTT.
func TestWindowBounds(t *testing.T) {
	cfg := config()
	cfg.Start = cfg.Max
	c := New(cfg)
	p := Path{RTT: 30 * time.Millisecond, Window: 25_000} // as measured at 1 % random loss
	target := c.Update(time.Second, p)
	if want := windowLimit(p); float64(target.Bitrate) > want {
		t.Errorf("rate %d, window allows %.0f", target.Bitrate, want)
	}
	if c.Update(2*time.Second, p); c.Reason() != ReasonWindow {
		t.Errorf("reason %v", c.Reason())
	}
}

// Heavy loss lowers the rate, light loss does not.
func TestLoss(t *testing.T) {
	for _, tt := range []struct {
		name   string
		share  float64
		lowers bool
	}{{"1 %", 0.01, false}, {"20 %", 0.20, true}} {
		c := New(config())
		p := Path{RTT: time.Millisecond, Window: 1 << 20}
		for i := range 40 {
			p.Sent += 1000
			p.Lost += uint64(1000 * tt.share)
			c.Update(time.Duration(i+1)*interval, p)
		}
		if lowered := c.target().Bitrate < c.cfg.Start; lowered != tt.lowers {
			t.Errorf("%s: rate %d from %d", tt.name, c.target().Bitrate, c.cfg.Start)
		}
	}
}

// Too few bits for the pixels halve the frame rate, twice at most.
func TestFrameRateFollows(t *testing.T) {
	for _, tt := range []struct {
		bitrate int
		want    float64
	}{{5_000_000, 60}, {600_000, 30}, {200_000, 15}} {
		cfg := config()
		cfg.Start = tt.bitrate
		if got := New(cfg).Update(0, Path{}); got.FPS != tt.want {
			t.Errorf("%d bit/s: %v fps, want %v", tt.bitrate, got.FPS, tt.want)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	c := New(config())
	now := time.Duration(0)
	n := testing.AllocsPerRun(1000, func() {
		now += 16 * time.Millisecond
		c.Received(now, now+5*time.Millisecond, 20_000)
		c.Update(now, Path{RTT: time.Millisecond, Window: 1 << 20})
	})
	if n != 0 {
		t.Fatalf("%v allocations per unit", n)
	}
}
