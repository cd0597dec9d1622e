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
		s.resizeFor(v, m.Width, m.Height)
	case *streamwire.Limits:
		v.applyLimits(m.MaxKbps, m.MaxFPS, s.cfg)
		v.setSize(s.started.Width, s.started.Height)
	case *streamwire.Bye:
		v.left = m.Code == streamwire.CodeEnded
	default:
		v.bye(streamwire.CodeProtocol, "A viewer does not send this message on its control stream.")
	}
}

// resizeFor makes the desktop follow the controller's size. A failure is worth a log line, not the session.
func (s *Session) resizeFor(v *viewer, width, height uint16) {
	if !v.controls() || !s.started.Resize || width == 0 || height == 0 {
		return
	}
	w, h := int(width)&^1, int(height)&^1 // 4:2:0 needs even sides
	if w == s.started.Width && h == s.started.Height {
		return
	}
	s.in.resize(w, h)
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
