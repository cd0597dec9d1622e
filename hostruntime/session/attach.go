package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
)

// Attach serves one viewer's connection until it is over. A refused viewer was told why (*RefusedError).
func (s *Session) Attach(ctx context.Context, e *Entrant) error {
	conn, control := e.conn, e.control
	v := newViewer(e, s.cfg)
	if refused, err := s.admit(v); err != nil || refused != nil {
		if err != nil {
			refused = &RefusedError{Code: streamwire.CodeEnded, Text: "This session is over. Connect again."}
		}
		return errors.Join(refused, sayBye(conn, control, refused.Code, refused.Text))
	}
	defer s.loop.do(func() { s.leave(v) })
	conn.Prove(e.claims.Lease)
	s.log.Info("viewer connected", "remote", conn.Remote().String(), "role", string(e.claims.Role), "relayed", conn.Relayed())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.writeControl(ctx) })
	g.Go(func() error { return s.readControl(v) })
	g.Go(func() error { return s.readDatagrams(ctx, v) })
	g.Go(func() error { return s.readInput(ctx, v) })
	context.AfterFunc(ctx, func() { _ = conn.Close(streamwire.CodeEnded, "") }) // unblocks the readers
	err := g.Wait()
	s.log.Info("viewer disconnected", "remote", conn.Remote().String(), "cause", err)
	return err
}

// sayBye tells the viewer and gives it a moment to read.
func sayBye(conn transport.Conn, control io.WriteCloser, code streamwire.Code, text string) error {
	_, err := control.Write(streamwire.AppendMessage(nil, &streamwire.Bye{Code: code, Text: text}))
	if err == nil {
		err = control.Close()
	}
	timer := time.NewTimer(byeTimeout)
	defer timer.Stop()
	select {
	case <-conn.Done():
	case <-timer.C:
	}
	return errors.Join(err, conn.Close(code, text))
}

// admit lets v in or says why not.
func (s *Session) admit(v *viewer) (refused *RefusedError, err error) {
	err = s.loop.call(func() {
		if refused = s.refusal(v); refused == nil {
			s.join(v)
		}
	})
	return refused, err
}

func (s *Session) refusal(v *viewer) *RefusedError {
	if s.end != nil {
		return &RefusedError{Code: s.end.Code, Text: s.end.Text}
	}
	r, known := s.rights[v.lease]
	if !known || r.viewer != v.id() {
		return &RefusedError{Code: streamwire.CodeLease, Text: "This lease has ended. Connect again."}
	}
	v.setRole(r.role)
	if len(s.viewers) >= maxViewers {
		return &RefusedError{Code: streamwire.CodeFull, Text: fmt.Sprintf("This session already has %d viewers.", maxViewers)}
	}
	for other := range s.viewers {
		if v.controls() && other.controls() && !other.leaving && other.id() != v.id() {
			return &RefusedError{Code: streamwire.CodeControlled, Text: "Somebody else controls this session. Ask to watch it instead."}
		}
	}
	return nil
}

func (s *Session) join(v *viewer) {
	s.joined++
	v.order, v.joined = s.joined, media.Now()
	s.cfg.Observer.ViewerJoined(v.claims, v.conn.Relayed())
	s.viewers[v] = struct{}{}
	if v.controls() {
		s.aloneFrom = 0
		s.in.begin()
	}
	v.setSize(s.started.Width, s.started.Height)
	v.name = s.rights[v.lease].name
	s.welcome(v)
	v.told = s.othersOf(v)
	v.send(&streamwire.People{Others: v.told})
	s.tellPeople()
	state := s.state
	v.send(&state)
	if s.cursor != nil {
		v.send(s.cursor)
	}
	s.resizeFor(v, areaOf(v.hello.Width, v.hello.Height, v.hello.Scale))
	s.fitFirst(v)
	s.askKeyframe(0)
}

// welcome tells v what it sees; it is sent again when the source changed.
func (s *Session) welcome(v *viewer) {
	v.send(&streamwire.Welcome{
		Version: streamwire.Version, Role: v.wireRole(), Input: s.started.Input && v.controls(), Resize: s.started.Resize && v.controls(),
		Codec: media.CodecH264, Width: uint16(s.started.Width), Height: uint16(s.started.Height), FPS: uint8(s.cfg.MaxFPS), Session: s.cfg.ID,
	})
}

func (s *Session) leave(v *viewer) {
	delete(s.viewers, v)
	if v.cut != nil {
		v.cut.Stop()
	}
	s.cfg.Observer.ViewerLeft(v.claims)
	s.tellPeople()
	if !v.controls() {
		return
	}
	if s.countControllers(); s.aloneFrom == 0 {
		s.follow()
		return
	}
	s.in.releaseAll()
	if v.left && s.end == nil { // a polite bye of the controller ends the visit at once
		s.finish(streamwire.CodeEnded, "The session was ended.")
	}
}

// replaceOlder closes earlier connections of v's viewer now that v shows pictures.
func (s *Session) replaceOlder(v *viewer) {
	for other := range s.viewers {
		if other.order < v.order && other.id() == v.id() && !other.replaced {
			other.replaced = true
			time.AfterFunc(replaceAfter, func() { // ends with itself; a loop that is over ignores it
				s.loop.do(func() { s.dismiss(other, streamwire.CodeReplaced, textReplaced) })
			})
		}
	}
}
