package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pipeline"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/hostruntime/session"
)

// joint runs the first choices together in a real pipeline: memory that one exports and the other cannot import shows only here.
func (c *Config) joint(ctx context.Context, r *Result) *Joint {
	ctx, cancel := context.WithTimeout(ctx, jointTimeout)
	defer cancel()
	captures, encoders := r.CaptureCandidates()[:1], r.EncoderCandidates()[:1]
	j := &Joint{Capture: first(r.Captures), Encoder: first(r.Encoders), Verdict: Fail}
	p, err := pipeline.New(pipeline.Config{
		Captures: captures, Encoders: encoders, Users: c.Users, Env: c.Env, FPS: c.FPS, KeepaliveFPS: jointKeepalive, Logger: c.Logger,
		Launch: func(ctx context.Context, candidate pipeline.Candidate) (pipeline.Process, error) {
			return c.Launch(ctx, pluginhost.Binary{Name: candidate.Name, Role: candidate.Role, Path: candidate.Path})
		},
	})
	if err != nil {
		j.Reason, j.Remedy = reasonRemedy(err)
		return j
	}
	sink := &jointSink{begin: time.Now(), wanted: max(2, min(c.Frames, defaultFrames)), enough: cancel}
	err = p.Run(ctx, sink)
	j.conclude(sink, err)
	return j
}

// jointKeepalive makes an idle desktop deliver pictures too.
const jointKeepalive = 10

func (j *Joint) conclude(s *jointSink, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Units, j.FirstPicture = s.units, s.first.Seconds()*1e3
	j.HandoffP50, j.EncodeP50, j.CrossingP50 = median(s.handoff), median(s.encode), median(s.crossing)
	var exhausted *pipeline.ExhaustedError
	switch {
	case s.units >= s.wanted:
		j.Verdict, j.Reason = OK, fmt.Sprintf("%d units, first picture after %.0f ms", j.Units, j.FirstPicture)
	case errors.As(err, &exhausted):
		j.Reason, j.Remedy = exhausted.Error(), "prefer another capture or encoder plugin; each works alone, but not together"
	default:
		j.Reason = fmt.Sprintf("%d units of %d within %v", s.units, s.wanted, jointTimeout)
		j.Remedy = "see what happens with WAVRY_LOG_LEVEL=debug; prefer another capture or encoder plugin"
	}
}

// jointSink counts and measures.
type jointSink struct {
	begin  time.Time
	wanted int
	enough context.CancelFunc

	mu                        sync.Mutex // guards the following
	units                     int
	first                     time.Duration
	handoff, encode, crossing []float64
}

// Unit takes one unit.
func (s *jointSink) Unit(u media.AccessUnit) {
	now := media.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units == 0 {
		s.first = time.Since(s.begin)
	}
	s.units++
	s.crossing = append(s.crossing, ms(now.Sub(u.EncodeTime)))
	if !u.Repeat {
		s.handoff = append(s.handoff, ms(u.HandoffTime.Sub(u.CaptureTime)))
		s.encode = append(s.encode, ms(u.EncodeTime.Sub(u.HandoffTime)))
	}
	if s.units == s.wanted {
		s.enough()
	}
}

// Event is of no interest.
func (s *jointSink) Event(session.Event) {}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}
