package session

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/ratecontrol"
	"github.com/wavry/fleet/hostruntime/sendqueue"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/hostruntime/transport"
	"github.com/wavry/fleet/master/lease"
)

// viewer is one connection. All but the set-once fields and out belong to the session's loop.
type viewer struct {
	// set once
	conn    transport.Conn
	control io.ReadWriteCloser
	claims  lease.ViewerClaims
	lease   string // that this connection came with; its right is the session's to know
	hello   *streamwire.Hello
	out     chan streamwire.Message // to writeControl; a Bye is the last
	stuck   func()                  // closes the connection of a viewer that does not read

	steers  atomic.Bool // whether input counts now; read by the goroutines that read it
	steered atomic.Bool // whether it ever did: what is still on its way then is no fault of the viewer's

	role     lease.Role
	name     string              // of the person
	told     []streamwire.Person // of whom it was told last
	cut      *time.Timer         // closes the connection of a viewer that takes no goodbye; nil before the goodbye
	area     Area                // as it told last
	fit      fit
	queue    sendqueue.Queue
	rate     *ratecontrol.Controller
	limits   viewerLimits
	target   ratecontrol.Target
	next     uint32 // sequence of the next unit
	sent     [maxSentUnits]sentUnit
	reported uint32 // sequences below were given to rate
	skipped  uint32
	joined   media.Time
	order    uint64 // counts the session's connections
	left     bool   // said bye
	leaving  bool   // was told bye
	replaced bool   // a newer connection of this viewer shows pictures
}

type viewerLimits struct {
	bitrate int
	fps     float64
	pixels  int
}

type sentUnit struct {
	sequence uint32
	at       media.Time
	size     int
}

func newViewer(e *Entrant, cfg Config) *viewer {
	v := &viewer{conn: e.conn, control: e.control, claims: e.claims, lease: e.claims.Lease, hello: e.hello, out: make(chan streamwire.Message, maxOutgoing)}
	v.stuck = sync.OnceFunc(func() { go v.conn.Close(streamwire.CodeProtocol, "control messages are not read") }) // ends with Close
	v.limits = viewerLimits{bitrate: cfg.MaxBitrate, fps: cfg.MaxFPS}
	v.applyLimits(v.hello.MaxKbps, v.hello.MaxFPS, cfg)
	v.rate = ratecontrol.New(ratecontrol.Config{
		Min: minBitrate, Start: min(startBitrate, v.limits.bitrate), Max: v.limits.bitrate, MaxFPS: v.limits.fps,
	})
	return v
}

func (v *viewer) id() string     { return v.claims.Viewer }
func (v *viewer) controls() bool { return v.role == lease.RoleControl }

func (v *viewer) setRole(role lease.Role) {
	v.role, v.claims.Role = role, role
	if v.controls() {
		v.steered.Store(true)
	}
	v.steers.Store(v.controls() && !v.leaving)
}

func (v *viewer) wireRole() streamwire.Role {
	if v.controls() {
		return streamwire.RoleControl
	}
	return streamwire.RoleWatch
}

// applyLimits takes what the viewer wants at most; 0 is the session's own limit.
func (v *viewer) applyLimits(kbps uint32, fps uint8, cfg Config) {
	v.limits.bitrate, v.limits.fps = cfg.MaxBitrate, cfg.MaxFPS
	if kbps > 0 {
		v.limits.bitrate = max(minBitrate, int(min(uint64(kbps)*1000, uint64(cfg.MaxBitrate))))
	}
	if fps > 0 {
		v.limits.fps = min(float64(fps), cfg.MaxFPS)
	}
}

// send queues a control message. A viewer that has stopped reading loses its connection, not the session's time.
func (v *viewer) send(m streamwire.Message) {
	if v.leaving {
		return
	}
	select {
	case v.out <- m:
	default:
		v.leaving = true
		v.stuck()
	}
}

// bye ends the connection: politely when the viewer reads on, and in any case within cutAfter.
func (v *viewer) bye(code streamwire.Code, text string) {
	v.send(&streamwire.Bye{Code: code, Text: text})
	v.leaving = true
	v.steers.Store(false)
	if v.cut == nil {
		v.cut = time.AfterFunc(cutAfter, func() { _ = v.conn.Close(code, text) }) // it may be closed already
	}
}

// writeControl writes queued messages until a Bye was written or ctx ends.
func (v *viewer) writeControl(ctx context.Context) error {
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-v.out:
			if bye, ok := m.(*streamwire.Bye); ok {
				return errors.Join(sayBye(v.conn, v.control, bye.Code, bye.Text), errSaidBye)
			}
			buf = streamwire.AppendMessage(buf[:0], m)
			if _, err := v.control.Write(buf); err != nil {
				return err
			}
		}
	}
}

// errSaidBye ends a connection's goroutines after our bye.
var errSaidBye = errors.New("said bye")

// updateRate lets the rate controller look at the path.
func (v *viewer) updateRate(now media.Time) ratecontrol.Target {
	p := v.conn.Stats()
	v.target = v.rate.Update(since(now), ratecontrol.Path{RTT: p.RTT, Window: p.Window, Sent: p.PacketsSent, Lost: p.PacketsLost})
	return v.target
}

func (v *viewer) setSize(width, height int) {
	v.limits.pixels = width * height
	v.rate.SetLimits(v.limits.bitrate, v.limits.fps, v.limits.pixels)
}

func (v *viewer) remember(sequence uint32, at media.Time, size int) {
	v.sent[sequence%maxSentUnits] = sentUnit{sequence: sequence, at: at, size: size}
}

// reports hands the units of a feedback that were not yet reported to the rate controller.
func (v *viewer) reports(f streamwire.Feedback) {
	for _, u := range f.Units {
		if int32(u.Sequence-v.reported) < 0 {
			continue
		}
		v.reported = u.Sequence + 1
		if s := v.sent[u.Sequence%maxSentUnits]; s.sequence == u.Sequence && s.at != 0 {
			v.rate.Received(since(s.at), microseconds(u.Received), s.size)
		}
	}
}

func (v *viewer) stats(s Started) *streamwire.Stats {
	p := v.conn.Stats()
	path := streamwire.PathDirect
	if v.conn.Relayed() {
		path = streamwire.PathRelay
	}
	return &streamwire.Stats{
		RTT: clamp32(p.RTT.Microseconds()), TargetKbps: uint32(v.target.Bitrate / 1000), FPS: uint8(v.target.FPS),
		Window: clamp32(int64(p.Window)), Skipped: v.skipped, Path: path, Encoder: s.Encoder, Capture: s.Capture,
	}
}

// microseconds of a peer become a duration; the absurd ones saturate.
func microseconds(us uint64) time.Duration {
	return time.Duration(min(us, uint64(math.MaxInt64/1000))) * time.Microsecond
}

func clamp32(n int64) uint32 { return uint32(max(0, min(n, math.MaxUint32))) }
