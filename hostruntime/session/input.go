package session

import (
	"context"
	"errors"
	"io"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/streamwire"
)

// readInput injects what arrives on the viewer's input stream, in order, until it ends. Watchers need no input stream, and what
// they send is refused.
func (s *Session) readInput(ctx context.Context, v *viewer) error {
	stream, err := v.conn.Input(ctx)
	if err != nil {
		return err
	}
	r := streamwire.NewMessageReader(stream)
	for {
		m, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil // a viewer may close its input alone
		}
		if err != nil {
			return s.controlEnded(v, err)
		}
		in, ok := m.(streamwire.Input)
		if ok && v.steered.Load() && !v.steers.Load() {
			continue // its right has ended meanwhile
		}
		if !ok || !v.steers.Load() {
			return s.controlEnded(v, &streamwire.WireError{Problem: "input that this viewer may not send"})
		}
		for _, e := range inputEvents(in) {
			if err := s.in.put(ctx, in.InputID(), e); err != nil {
				return err
			}
		}
	}
}

// inputEvents translates one message for the capture plugin. A placed button first moves the pointer there.
func inputEvents(m streamwire.Input) []*pluginpb.InputEvent {
	switch m := m.(type) {
	case *streamwire.Key:
		return []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Key{Key: &pluginpb.Key{Code: uint32(m.Code), Down: m.Down}}}}
	case *streamwire.Button:
		button := &pluginpb.InputEvent{Event: &pluginpb.InputEvent_Button{Button: &pluginpb.Button{Code: uint32(m.Code), Down: m.Down}}}
		if !m.Placed {
			return []*pluginpb.InputEvent{button}
		}
		return []*pluginpb.InputEvent{absolute(m.X, m.Y), button}
	case *streamwire.Scroll:
		return []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Scroll{Scroll: &pluginpb.Scroll{X: m.X, Y: m.Y}}}}
	case *streamwire.Text:
		return []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Text{Text: &pluginpb.Text{Text: m.Text}}}}
	case *streamwire.Locks:
		return []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Locks{Locks: &pluginpb.Locks{Known: uint32(m.Known), On: uint32(m.On)}}}}
	case *streamwire.Touch:
		return []*pluginpb.InputEvent{{Event: &pluginpb.InputEvent_Touch{Touch: &pluginpb.Touch{
			Id: uint32(m.Finger), Phase: pluginpb.Touch_Phase(m.Phase), X: fraction(m.X), Y: fraction(m.Y),
		}}}}
	case *streamwire.ReleaseAll:
		return []*pluginpb.InputEvent{releaseAll()}
	}
	return nil
}

// motion is the pointer as the datagrams of one connection have told it.
type motion struct {
	lastID uint32
	dx, dy int32 // totals applied
	begun  bool
}

// motion injects a motion datagram unless it is stale or may not.
func (s *Session) motion(v *viewer, m *motion, d *streamwire.Datagram) {
	if !v.steers.Load() {
		s.cfg.Metrics.badDatagrams.Inc()
		return
	}
	if id, e := m.event(d); e != nil {
		s.in.offer(id, e)
	}
}

// event returns the new motion of d, or nil for a stale one.
func (m *motion) event(d *streamwire.Datagram) (uint32, *pluginpb.InputEvent) {
	id := d.Absolute.ID
	if d.Type == streamwire.DatagramMotionRelative {
		id = d.Relative.ID
	}
	if m.begun && int32(id-m.lastID) <= 0 {
		return 0, nil
	}
	m.begun, m.lastID = true, id
	if d.Type == streamwire.DatagramMotionAbsolute {
		return id, absolute(d.Absolute.X, d.Absolute.Y)
	}
	dx, dy := d.Relative.DX-m.dx, d.Relative.DY-m.dy
	m.dx, m.dy = d.Relative.DX, d.Relative.DY
	if dx == 0 && dy == 0 {
		return 0, nil
	}
	return id, &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionRelative{
		MotionRelative: &pluginpb.MotionRelative{Dx: fixed(dx), Dy: fixed(dy)},
	}}
}

func absolute(x, y uint16) *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_MotionAbsolute{
		MotionAbsolute: &pluginpb.MotionAbsolute{X: fraction(x), Y: fraction(y)},
	}}
}

func releaseAll() *pluginpb.InputEvent {
	return &pluginpb.InputEvent{Event: &pluginpb.InputEvent_ReleaseAll{ReleaseAll: &pluginpb.ReleaseAll{}}}
}

func fraction(v uint16) float64 { return float64(v) / 65535 }

// fixed turns 1/256 units into whole ones.
func fixed(v int32) float64 { return float64(v) / 256 }
