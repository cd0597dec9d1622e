package session

import (
	"errors"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/sendqueue"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// sink is the session as its source sees it.
type sink Session

func (s *sink) Unit(u media.AccessUnit) { s.loop.do(func() { (*Session)(s).sendUnit(u) }) }

func (s *sink) Event(e Event) { s.loop.do(func() { (*Session)(s).sourceEvent(e) }) }

// sendUnit offers one unit to every viewer.
func (s *Session) sendUnit(u media.AccessUnit) {
	if u.Keyframe {
		s.keyframes.Seen()
	}
	s.cfg.Metrics.observeUnit(u)
	s.checkSize(u.Width, u.Height)
	if s.state.State == streamwire.StateStarting || s.state.State == streamwire.StateRecovering {
		s.setState(streamwire.StateChange{State: streamwire.StateLive})
	}
	for v := range s.viewers {
		s.offer(v, u)
	}
}

func (s *Session) offer(v *viewer, u media.AccessUnit) {
	if v.leaving {
		return
	}
	now := media.Now()
	if v.fit.holds(since(now), u.Width, u.Height) {
		return
	}
	verdict, wantKeyframe := v.queue.Offer(since(now), u.Keyframe)
	if wantKeyframe {
		s.askKeyframe(s.keyframeInterval(v))
	}
	if verdict == sendqueue.Send {
		s.transmit(v, u, now)
		return
	}
	v.skipped++
	s.cfg.Metrics.skipped.WithLabelValues(verdict.String()).Inc()
	if verdict == sendqueue.SkipBehind {
		v.rate.Skipped()
	}
}

func (s *Session) transmit(v *viewer, u media.AccessUnit, now media.Time) {
	header := streamwire.VideoHeader{
		Codec: u.Codec, Keyframe: u.Keyframe, Repeat: u.Repeat, Sequence: v.next,
		Width: uint16(u.Width), Height: uint16(u.Height),
		CaptureTime: uint64(u.CaptureTime) / 1000,
		Handoff:     clamp32(u.HandoffTime.Sub(u.CaptureTime).Microseconds()),
		Encode:      clamp32(u.EncodeTime.Sub(u.HandoffTime).Microseconds()),
		Send:        clamp32(now.Sub(u.EncodeTime).Microseconds()),
	}
	if v.controls() {
		header.LastInput = s.in.appliedBefore(u.CaptureTime)
	}
	err := v.conn.SendUnit(header, u.Data, func(err error) {
		s.loop.do(func() { v.queue.Done(since(media.Now()), err == nil) })
	})
	if err != nil {
		s.unsent(v, err)
		return
	}
	if v.next == 0 {
		s.cfg.Observer.ViewerShown(v.claims, v.conn.Relayed(), now.Sub(v.joined))
		s.replaceOlder(v)
	}
	v.remember(v.next, now, len(u.Data))
	v.next++
	s.cfg.Metrics.sent.Inc()
	s.cfg.Metrics.bytes.Add(float64(len(u.Data)))
}

// unsent undoes the queue's decision: nothing left, and what follows cannot be decoded.
func (s *Session) unsent(v *viewer, err error) {
	v.queue.Withdraw()
	v.skipped++
	reason := "error"
	if errors.Is(err, transport.ErrBusy) {
		reason = "no_stream"
		v.rate.Skipped()
	}
	s.cfg.Metrics.skipped.WithLabelValues(reason).Inc()
}

// keyframeInterval is how often v may cost a keyframe.
func (s *Session) keyframeInterval(v *viewer) time.Duration {
	if !v.controls() && len(s.viewers) > 1 {
		return watcherKeyframes
	}
	return v.conn.Stats().RTT
}

func (s *Session) checkSize(width, height int) {
	if width == s.started.Width && height == s.started.Height {
		return
	}
	s.started.Width, s.started.Height = width, height
	s.resized()
}

func (s *Session) resized() {
	for v := range s.viewers {
		v.setSize(s.started.Width, s.started.Height)
	}
	s.broadcast(&streamwire.Resized{Width: uint16(s.started.Width), Height: uint16(s.started.Height)})
}

func (s *Session) sourceEvent(e Event) {
	if e.Started != nil {
		width, height := s.started.Width, s.started.Height
		s.started = *e.Started
		if s.started.Width == 0 {
			s.started.Width, s.started.Height = width, height
		}
		s.resized()
		for v := range s.viewers {
			s.welcome(v)
			s.fitFirst(v)
		}
		s.follow()
	}
	if e.State != nil {
		s.setState(*e.State)
	}
	if e.Resized != nil {
		s.checkSize(int(e.Resized.Width), int(e.Resized.Height))
	}
	if e.Cursor != nil {
		s.keepCursor(e.Cursor)
		s.broadcast(e.Cursor)
	}
}

// keepCursor remembers the pointer for viewers who come later: a message without a picture keeps the last picture.
func (s *Session) keepCursor(c *streamwire.Cursor) {
	kept := *c
	if kept.RGBA == nil && s.cursor != nil {
		kept.RGBA, kept.Width, kept.Height = s.cursor.RGBA, s.cursor.Width, s.cursor.Height
		kept.HotspotX, kept.HotspotY = s.cursor.HotspotX, s.cursor.HotspotY
	}
	s.cursor = &kept
}
