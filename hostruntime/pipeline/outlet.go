package pipeline

import (
	"sync"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// outlet passes units and events on, one at a time, and only units that a viewer can decode: those of the present run, from its
// first keyframe on, without gaps.
type outlet struct {
	metrics *Metrics

	mu            sync.Mutex // held while the sink is called
	sink          session.Sink
	run           uint64
	next          uint64 // sequence
	synced        bool   // a keyframe of this run was passed on
	width, height int
	recovering    media.Time // since when; 0: not
}

// use makes run the one whose units pass; 0: none.
func (o *outlet) use(run uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.run, o.next, o.synced = run, 0, false
}

// verdict of a unit.
type verdict uint8

const (
	passed  verdict = iota
	stale           // of a run that was replaced
	needKey         // not decodable; ask for a keyframe
)

// unit passes u on, with a size change before it.
func (o *outlet) unit(run uint64, u *pluginpb.AccessUnit) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	if run != o.run {
		return stale
	}
	if u.Sequence != o.next {
		o.metrics.gaps.Inc()
		o.synced = false
	}
	o.next = u.Sequence + 1
	if !u.Keyframe && !o.synced {
		o.metrics.withheld.Inc()
		return needKey
	}
	o.synced = true
	out := accessUnit(u)
	o.observe(out)
	if out.Width != o.width || out.Height != o.height {
		o.width, o.height = out.Width, out.Height
		o.sink.Event(session.Event{Resized: &streamwire.Resized{Width: uint16(out.Width), Height: uint16(out.Height)}})
	}
	o.sink.Unit(out)
	return passed
}

func (o *outlet) observe(u media.AccessUnit) {
	now := media.Now()
	if o.recovering != 0 {
		o.metrics.recovery.Observe(now.Sub(o.recovering).Seconds())
		o.recovering = 0
	}
	o.metrics.crossing.Observe(ms(now.Sub(u.EncodeTime)))
	if u.Repeat {
		return // its capture lies in the past
	}
	o.metrics.handoff.Observe(ms(u.HandoffTime.Sub(u.CaptureTime)))
	o.metrics.encode.Observe(ms(u.EncodeTime.Sub(u.HandoffTime)))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// event passes e on.
func (o *outlet) event(e session.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sink.Event(e)
}

// lost starts the clock of a recovery, unless one is running.
func (o *outlet) lost(now media.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.recovering == 0 {
		o.recovering = now
	}
}

func accessUnit(u *pluginpb.AccessUnit) media.AccessUnit {
	return media.AccessUnit{
		Sequence: u.Sequence, Codec: media.Codec(u.Codec), Keyframe: u.Keyframe, Repeat: u.Repeat,
		Width: int(u.Width), Height: int(u.Height),
		CaptureTime: media.Time(u.CaptureTime), HandoffTime: media.Time(u.HandoffTime), EncodeTime: media.Time(u.EncodeTime),
		Data: u.Data,
	}
}
