package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wavry/fleet/plugins/internal/wayland"
)

// kwinCursorEmbedded is zkde_screencast's pointer mode; see cursorEmbedded.
const kwinCursorEmbedded = 2

// kwinStream is one zkde_screencast stream.
type kwinStream struct {
	object wayland.KdeScreencastStream
	node   uint32
	closed chan struct{} // by KWin
}

// openStream asks KWin for a stream with request and waits for its PipeWire node.
func (d *kwinDesktop) openStream(ctx context.Context, request func(*wayland.KdeScreencastStream)) (*kwinStream, error) {
	s := &kwinStream{closed: make(chan struct{})}
	created, failed := make(chan uint32, 1), make(chan string, 1)
	s.object.On.Created = func(node uint32) { created <- node }
	s.object.On.Failed = func(why string) { failed <- why }
	s.object.On.Closed = func() { close(s.closed) }
	request(&s.object)
	if err := d.conn.Flush(); err != nil {
		return nil, fmt.Errorf("ask KWin for a stream: %w", err)
	}
	timeout := time.NewTimer(streamTimeout)
	defer timeout.Stop()
	select {
	case s.node = <-created:
		return s, nil
	case why := <-failed:
		return nil, unavailable("KWin refused the stream: "+why, "see KWin's log; a renderer without OpenGL (QPainter) cannot cast")
	case <-s.closed:
		return nil, unavailable("KWin closed the stream at once", "the output or window is going away; try again")
	case <-d.conn.Done():
		return nil, fmt.Errorf("wait for KWin's stream: %w", d.conn.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for KWin's stream: %w", ctx.Err())
	case <-timeout.C:
		return nil, unavailable(fmt.Sprintf("KWin named no PipeWire node within %v", streamTimeout),
			"check that pipewire and wireplumber run in the desktop's session")
	}
}

// needCaster says why KWin cannot stream to this program.
func (d *kwinDesktop) needCaster() error {
	if d.caster != nil {
		return nil
	}
	return unavailable("KWin does not offer zkde_screencast_unstable_v1 to this program",
		"start KWin with KWIN_WAYLAND_NO_PERMISSION_CHECKS=1 (wavry desktop run kde does) or install a desktop file with X-KDE-Wayland-Interfaces; "+
			"in either case the plugin's program must lie where KWin's user can see it")
}
