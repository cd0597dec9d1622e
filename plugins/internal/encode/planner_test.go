package encode

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// t0 is any time.
const t0 = media.Time(1_000_000_000)

const ms = time.Millisecond

// Each state of the run has one next action.
func TestPlannerNext(t *testing.T) {
	paced := pace{interval: 20 * ms, due: t0.Add(30 * ms)} // next at +10 ms
	for name, c := range map[string]struct {
		p    planner
		now  media.Time
		act  action
		wake media.Time
	}{
		"nobody watches":           {planner{waiting: true, key: true}, t0, actNothing, forever},
		"busy":                     {planner{watched: true, waiting: true, key: true, busy: true}, t0, actNothing, forever},
		"nothing there":            {planner{watched: true, key: true}, t0, actNothing, forever},
		"new picture":              {planner{watched: true, waiting: true}, t0, actEncode, 0},
		"new picture too early":    {planner{watched: true, waiting: true, pace: paced}, t0, actNothing, t0.Add(10 * ms)},
		"new picture in time":      {planner{watched: true, waiting: true, pace: paced}, t0.Add(10 * ms), actEncode, 0},
		"keyframe goes early":      {planner{watched: true, waiting: true, pace: paced, key: true}, t0, actEncode, 0},
		"keyframe of last":         {planner{watched: true, last: true, key: true}, t0, actRepeat, 0},
		"new wins over last":       {planner{watched: true, last: true, waiting: true, key: true}, t0, actEncode, 0},
		"no keep-alive":            {planner{watched: true, last: true}, t0, actNothing, forever},
		"keep-alive not yet":       {planner{watched: true, last: true, keepalive: 100 * ms, sentAt: t0}, t0.Add(99 * ms), actNothing, t0.Add(100 * ms)},
		"keep-alive":               {planner{watched: true, last: true, keepalive: 100 * ms, sentAt: t0}, t0.Add(100 * ms), actRepeat, 0},
		"keep-alive without a pic": {planner{watched: true, keepalive: 100 * ms, sentAt: t0}, t0.Add(time.Hour), actNothing, forever},
	} {
		t.Run(name, func(t *testing.T) {
			if act, wake := c.p.next(c.now); act != c.act || wake != c.wake {
				t.Fatalf("action %d at %d, want %d at %d", act, wake, c.act, c.wake)
			}
		})
	}
}

// One picture that comes very late, with the next on time again, makes the others wait for some seconds only.
func TestPaceRecovers(t *testing.T) {
	const interval = time.Second / 60
	var p pace
	p.set(60)
	waited := 0
	var last media.Time
	for i := range 2000 {
		now := t0.Add(time.Duration(i) * interval)
		if i == 100 {
			now = now.Add(interval * 3 / 2)
		}
		now = max(now, last)
		if last = now; now < p.at() {
			waited = i
		}
		p.sent(max(now, p.at()))
	}
	if waited < 101 || waited > 900 {
		t.Fatalf("picture %d was the last that waited", waited)
	}
}

// A source at the limit with jitter loses nothing; a faster one is held to the limit in the long run.
func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		interval time.Duration // of the source
		jitter   time.Duration
		least    int
		most     int
	}{
		"at the limit with jitter": {20 * ms, 18 * ms, 500, 500},
		"twice the limit":          {10 * ms, 0, 249, 251},
		"half the limit":           {40 * ms, 0, 500, 500},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			p.set(50)
			sent := 0
			for i := range 500 {
				now := t0.Add(time.Duration(i) * c.interval)
				if i%2 == 1 {
					now = now.Add(c.jitter)
				}
				if now >= p.at() {
					p.sent(now)
					sent++
				}
			}
			if sent < c.least || sent > c.most {
				t.Fatalf("%d of 500 pictures went, want %d..%d", sent, c.least, c.most)
			}
		})
	}
}

// A source at the limit is in time again right after a picture that went late.
func TestPaceAfterStall(t *testing.T) {
	for _, late := range []time.Duration{5 * ms, 15 * ms, 19 * ms} {
		var p pace
		p.set(50)
		p.sent(t0)
		p.sent(t0.Add(20*ms + late))
		for i := 2; i < 100; i++ {
			now := t0.Add(time.Duration(i) * 20 * ms)
			if p.at() > now {
				t.Fatalf("%v after a picture that was %v late, the next waits %v", now.Sub(t0), late, p.at().Sub(now))
			}
			p.sent(now)
		}
	}
}

// Without a limit every picture goes, and a raised limit takes effect at once.
func TestPaceChange(t *testing.T) {
	var p pace
	p.sent(t0)
	if p.at() > t0 {
		t.Fatal("no limit holds a picture back")
	}
	p.set(1)
	p.sent(t0)
	p.set(100)
	if at := p.at(); at > t0.Add(10*ms) {
		t.Fatalf("after raising the limit the next picture may go only after %v", at.Sub(t0))
	}
}

// An encoder that counts bits per picture is told what gives the wanted rate at the real limit.
func TestScaledRate(t *testing.T) {
	for _, c := range []struct {
		bps          uint32
		nominal, fps float64
		want         uint32
	}{
		{6_000_000, 60, 60, 6_000_000}, {6_000_000, 60, 30, 12_000_000}, {6_000_000, 60, 1, 360_000_000},
		{400_000_000, 60, 10, MaxBitrate}, {MinBitrate, 30, 60, MinBitrate},
	} {
		if got := scaledRate(c.bps, c.nominal, c.fps); got != c.want {
			t.Errorf("%d at %v of %v: %d, want %d", c.bps, c.fps, c.nominal, got, c.want)
		}
	}
}

// Capture times that cannot be are replaced by the time of arrival.
func TestStamped(t *testing.T) {
	now := t0.Add(10 * time.Second)
	for _, c := range []struct{ capture, want media.Time }{
		{now, now}, {now.Add(-time.Second), now.Add(-time.Second)}, {now.Add(-oldestPicture), now.Add(-oldestPicture)},
		{now.Add(-oldestPicture - 1), now}, {now + 1, now}, {0, now}, {-5, now},
	} {
		if got := stamped(c.capture, now); got != c.want {
			t.Errorf("%d: %d, want %d", c.capture, got, c.want)
		}
	}
}
