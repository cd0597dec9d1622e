// Package session is one visit: a picture source, the viewers who see it, the one who controls it, and the rules between them.
//
// Session is a hub: one goroutine owns all state, others send it closures (loop.go). What to send is sendqueue's decision, how
// fast ratecontrol's, when to ask for a keyframe keyframe's, which input a picture shows inputmark's.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/keyframe"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/ratecontrol"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// Source is where pictures come from and input goes: in production the pipeline of plugins. Its methods may be called from any
// goroutine once Run has started; none may block for longer than a plugin call takes.
type Source interface {
	// Run delivers to sink until ctx ends (nil) or nothing works any more (an error with what to do).
	Run(ctx context.Context, sink Sink) error
	// Inject delivers input and returns when the compositor was told, with that time and with what it could not do.
	Inject(ctx context.Context, batch *pluginpb.InputBatch) (*pluginpb.Injected, error)
	// Resize asks the desktop for an area; while nothing runs, the next start does.
	Resize(ctx context.Context, a Area) error
	// Adjust sets the encoder's target.
	Adjust(bitrate int, fps float64)
	RequestKeyframe()
}

// Sink takes what a Source produces, in order, from one goroutine. Unit owns the unit's data from then on.
type Sink interface {
	Unit(u media.AccessUnit)
	Event(e Event)
}

// Event is a change of the source. Nil fields did not change.
type Event struct {
	State   *streamwire.StateChange
	Started *Started
	Resized *streamwire.Resized
	Cursor  *streamwire.Cursor
}

// Started describes a source that runs (again).
type Started struct {
	Capture, Encoder string
	Input, Resize    bool
	Width, Height    int
}

// Observer is told what a control plane must know. Its methods must not block.
type Observer interface {
	// ViewerJoined: a viewer was let in.
	ViewerJoined(claims lease.ViewerClaims, relayed bool)
	// ViewerShown: the first picture was sent to it, so long after it joined.
	ViewerShown(claims lease.ViewerClaims, relayed bool, after time.Duration)
	// ViewerLeft: its connection is over. It may come back, and another connection of it may be open.
	ViewerLeft(claims lease.ViewerClaims)
	SessionEnded(sessionID string, why *EndedError)
}

// Config of a Session. Zero durations and rates take the defaults of limits.go.
type Config struct {
	ID         string
	Lease      lease.ViewerClaims // of the first viewer, who controls; Grant lets others in
	Name       string             // of the first viewer's person
	Source     Source
	Grace      time.Duration // how long the session waits for its controller to come back
	MaxBitrate int           // bits per second
	MaxFPS     float64
	Logger     *slog.Logger
	Metrics    *Metrics
	Observer   Observer
	Now        func() time.Time // wall clock, for leases
}

// Session is one visit. Create it with New, run it with Run.
type Session struct {
	cfg  Config
	log  *slog.Logger
	loop *loop
	in   *injector
	over chan struct{} // closed by finish

	// Owned by the loop's goroutine.
	rights    map[string]right // by lease
	viewers   map[*viewer]struct{}
	joined    uint64 // connections so far
	started   Started
	state     streamwire.StateChange
	cursor    *streamwire.Cursor
	scale     float64 // the desktop was asked for
	keyframes keyframe.Limiter
	aloneFrom media.Time // when the last controller left; 0: one is here
	end       *EndedError
	lastStats media.Time
	adjusted  ratecontrol.Target // what the source was told last
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Session, error) {
	if cfg.ID == "" || cfg.Lease.Lease == "" || cfg.Source == nil || cfg.Metrics == nil || cfg.Observer == nil {
		return nil, errors.New("session: ID, Lease, Source, Metrics and Observer are required")
	}
	cfg.setDefaults()
	s := &Session{
		cfg: cfg, log: cfg.Logger.With("session_id", cfg.ID), loop: newLoop(), over: make(chan struct{}),
		rights:    map[string]right{cfg.Lease.Lease: rightOf(cfg.Lease, cfg.Name)},
		viewers:   map[*viewer]struct{}{},
		state:     streamwire.StateChange{State: streamwire.StateStarting, Text: "Starting the desktop"},
		aloneFrom: media.Now(),
	}
	s.in = newInjector(cfg.Source, s.log, cfg.Metrics)
	s.in.resized, s.in.untyped = s.resizeAnswered, s.untyped
	return s, nil
}

func (c *Config) setDefaults() {
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.MaxBitrate == 0 {
		c.MaxBitrate = defaultMaxBitrate
	}
	if c.MaxFPS == 0 {
		c.MaxFPS = defaultMaxFPS
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Run serves the session until ctx ends, End is called, the grace time passes, the last lease ends or the source fails. It returns an
// *EndedError that says which, after every viewer was told and every goroutine is gone.
func (s *Session) Run(ctx context.Context) error {
	s.log.Info("session state", "from", "prepared", "to", "running")
	sourceCtx, stopSource := context.WithCancel(ctx)
	defer stopSource()
	g := new(errgroup.Group)
	g.Go(func() error { return s.in.run(sourceCtx) })
	g.Go(func() error {
		err := s.cfg.Source.Run(sourceCtx, (*sink)(s))
		if err != nil && sourceCtx.Err() == nil {
			s.End(streamwire.CodeHost, err.Error())
		}
		return nil
	})
	stop := context.AfterFunc(ctx, func() { s.End(streamwire.CodeOperator, "The host is shutting down.") })
	defer stop()
	s.loop.run(tickInterval, s.tick, func() bool { return s.end != nil && len(s.viewers) == 0 })
	stopSource()
	err := g.Wait()
	s.log.Info("session state", "from", "running", "to", "ended", "cause", s.end.Text)
	s.cfg.Observer.SessionEnded(s.cfg.ID, s.end)
	return errors.Join(err, s.end)
}

// End ends the session. Viewers are told code and text. It returns at once; Run returns when everybody has left.
func (s *Session) End(code streamwire.Code, text string) {
	s.loop.do(func() { s.finish(code, text) })
}

// Ending says whether the session takes no viewers any more, though it may still say goodbye and stop its source.
func (s *Session) Ending() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// finish is End on the loop's goroutine.
func (s *Session) finish(code streamwire.Code, text string) {
	if s.end != nil {
		return
	}
	s.end = &EndedError{Code: code, Text: text}
	close(s.over)
	for v := range s.viewers {
		v.bye(code, text)
	}
}

// Announce tells every viewer a state of the host, such as a drain that has begun.
func (s *Session) Announce(state streamwire.State, text string) {
	s.loop.do(func() { s.setState(streamwire.StateChange{State: state, Text: text}) })
}

// Move asks the viewer named by claims to open another path. It is a no-op when that viewer is not connected.
func (s *Session) Move(viewerID string, m *streamwire.Move) {
	s.loop.do(func() {
		for v := range s.viewers {
			if v.id() == viewerID {
				v.send(m)
			}
		}
	})
}

// Info is a picture of a session for operators.
type Info struct {
	ID         string `json:"id"`
	Viewers    int    `json:"viewers"`
	Controlled bool   `json:"controlled"`
	Capture    string `json:"capture"`
	Encoder    string `json:"encoder"`
	Width      int    `json:"width"`
	Height     int    `json:"height"`
}

// Info reports the present state; ErrEnded after the end.
func (s *Session) Info() (Info, error) {
	var info Info
	err := s.loop.call(func() {
		info = Info{
			ID: s.cfg.ID, Viewers: len(s.viewers), Controlled: s.aloneFrom == 0,
			Capture: s.started.Capture, Encoder: s.started.Encoder, Width: s.started.Width, Height: s.started.Height,
		}
	})
	return info, err
}

// tick looks at everything that time alone changes.
func (s *Session) tick() {
	now := media.Now()
	if s.end != nil {
		return
	}
	s.checkRights()
	s.checkGrace(now)
	s.adjust(now)
	if s.keyframes.Due(since(now), s.slowestRTT()) {
		s.cfg.Source.RequestKeyframe()
	}
	if now.Sub(s.lastStats) >= statsInterval {
		s.lastStats = now
		s.sendStats()
	}
}

func (s *Session) checkGrace(now media.Time) {
	if s.aloneFrom == 0 {
		return
	}
	if alone := now.Sub(s.aloneFrom); alone > s.cfg.Grace {
		s.finish(streamwire.CodeGrace, fmt.Sprintf("Nobody came back within %s.", s.cfg.Grace))
	}
}

// adjust updates every viewer's rate; the controller's decides, or the slowest watcher's while nobody controls.
func (s *Session) adjust(now media.Time) {
	var bitrate int
	var fps float64
	for v := range s.viewers {
		t := v.updateRate(now)
		decides := v.controls() || s.aloneFrom != 0
		if decides && (bitrate == 0 || t.Bitrate < bitrate) {
			bitrate, fps = t.Bitrate, t.FPS
		}
	}
	wanted := ratecontrol.Target{Bitrate: bitrate, FPS: fps}
	if bitrate > 0 && worthAdjusting(s.adjusted, wanted) {
		s.adjusted = wanted
		s.cfg.Source.Adjust(bitrate, fps)
	}
}

// worthAdjusting says whether a wish differs enough from what the source was told: every adjustment is a call into a plugin, and
// the wish moves a little at every tick.
func worthAdjusting(told, wanted ratecontrol.Target) bool {
	change := math.Abs(float64(wanted.Bitrate - told.Bitrate))
	return wanted.FPS != told.FPS || change > adjustStep*float64(told.Bitrate)
}

func (s *Session) slowestRTT() time.Duration {
	var rtt time.Duration
	for v := range s.viewers {
		rtt = max(rtt, v.conn.Stats().RTT)
	}
	return rtt
}

func (s *Session) askKeyframe(rtt time.Duration) {
	if s.keyframes.Ask(since(media.Now()), rtt) {
		s.cfg.Source.RequestKeyframe()
	}
}

func (s *Session) setState(c streamwire.StateChange) {
	if s.state == c {
		return
	}
	s.log.Info("stream state", "from", s.state.State.String(), "to", c.State.String(), "cause", c.Text)
	s.state = c
	s.broadcast(&c)
}

func (s *Session) broadcast(m streamwire.Message) {
	for v := range s.viewers {
		v.send(m)
	}
}

func (s *Session) sendStats() {
	for v := range s.viewers {
		v.send(v.stats(s.started))
	}
}

// since is the monotonic clock as the pure packages take it.
func since(t media.Time) time.Duration { return time.Duration(t) }
