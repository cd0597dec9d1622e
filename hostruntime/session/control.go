package session

import (
	"context"
	"errors"
	"io"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// readControl handles the viewer's control messages until the stream ends.
func (s *Session) readControl(v *viewer) error {
	r := streamwire.NewMessageReader(v.control)
	for {
		m, err := r.Next()
		if err != nil {
			return s.controlEnded(v, err)
		}
		s.loop.do(func() { s.controlMessage(v, m) })
		if _, ok := m.(*streamwire.Bye); ok {
			return errViewerLeft
		}
	}
}

// errViewerLeft ends the goroutines of a connection whose viewer said bye.
var errViewerLeft = errors.New("viewer said bye")

func (s *Session) controlEnded(v *viewer, err error) error {
	var wire *streamwire.WireError
	if errors.As(err, &wire) {
		s.loop.do(func() { v.bye(streamwire.CodeProtocol, wire.Error()) })
		<-v.conn.Done() // writeControl says it and closes
	}
	if errors.Is(err, io.EOF) {
		return errViewerLeft
	}
	return err
}

func (s *Session) controlMessage(v *viewer, m streamwire.Message) {
	switch m := m.(type) {
	case *streamwire.Keyframe:
		s.cfg.Metrics.keyframeRequests.Inc()
		v.queue.Desync()
		s.askKeyframe(s.keyframeInterval(v))
	case *streamwire.Resize:
		s.resizeFor(v, areaOf(m.Width, m.Height, m.Scale))
	case *streamwire.Limits:
		v.applyLimits(m.MaxKbps, m.MaxFPS, s.cfg)
		v.setSize(s.started.Width, s.started.Height)
	case *streamwire.Bye:
		v.left = m.Code == streamwire.CodeEnded
	default:
		v.bye(streamwire.CodeProtocol, "A viewer does not send this message on its control stream.")
	}
}

// resizeFor makes the desktop follow v's area if v controls it.
func (s *Session) resizeFor(v *viewer, a Area) {
	v.area = a
	s.follow()
}

// follow asks the desktop to take the area of the viewer who came last of those that control. What is asked before the source has
// started holds for its start; every start asks again, for the wish may have come in between.
func (s *Session) follow() {
	v := s.controller()
	if v == nil || !v.area.known() || (s.running() && !s.started.Resize) {
		return
	}
	fits := v.area.Width == s.started.Width && v.area.Height == s.started.Height
	if fits && v.area.Scale == s.scale {
		return
	}
	s.scale = v.area.Scale
	s.in.resize(v.area)
}

// running says whether the source has ever told what it can.
func (s *Session) running() bool { return s.started.Capture != "" }

// controller is the newest connection that controls; nil: none.
func (s *Session) controller() *viewer {
	var newest *viewer
	for v := range s.viewers {
		if v.controls() && (newest == nil || v.order > newest.order) {
			newest = v
		}
	}
	return newest
}

// fitFirst holds v's first picture back if the desktop is about to change for it.
func (s *Session) fitFirst(v *viewer) {
	if v == s.controller() && v.next == 0 && v.area.known() && s.running() && s.started.Resize {
		v.fit.begin(since(media.Now()), v.area)
	}
}

// resizeAnswered is told by the injector. A failure is worth a log line, not the session.
func (s *Session) resizeAnswered(err error) {
	s.loop.do(func() {
		for v := range s.viewers {
			v.fit.answered(since(media.Now()), err)
		}
	})
}

// untyped tells those who control what their desktop could not type.
func (s *Session) untyped(text, reason string) {
	s.loop.do(func() {
		for v := range s.viewers {
			if v.controls() {
				v.send(&streamwire.Untyped{Text: text, Reason: reason})
			}
		}
	})
}

// readDatagrams handles motion, feedback and pings until the connection ends.
func (s *Session) readDatagrams(ctx context.Context, v *viewer) error {
	var d streamwire.Datagram
	var m motion
	var pong []byte
	for {
		b, err := v.conn.ReceiveDatagram(ctx)
		if err != nil {
			return err
		}
		received := media.Now()
		if err := streamwire.ParseDatagram(&d, b); err != nil {
			s.cfg.Metrics.badDatagrams.Inc()
			continue
		}
		switch d.Type {
		case streamwire.DatagramPing:
			pong = streamwire.AppendPong(pong[:0], streamwire.Pong{ID: d.Ping.ID, ViewerTime: d.Ping.ViewerTime, HostTime: uint64(received) / 1000})
			if err := v.conn.SendDatagram(pong); err != nil {
				return err
			}
		case streamwire.DatagramFeedback:
			s.feedback(v, d.Feedback)
		case streamwire.DatagramMotionAbsolute, streamwire.DatagramMotionRelative:
			s.motion(v, &m, &d)
		}
	}
}

// feedback takes a report. The loop works on the slices before the next datagram is parsed into them.
func (s *Session) feedback(v *viewer, f streamwire.Feedback) {
	s.cfg.Metrics.observeFeedback(&f)
	_ = s.loop.call(func() { v.reports(f) }) // an ended session needs no reports
}
