package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/relay/relaywire"
)

// Relay wires the parts together; each part has a file of its own.
type Relay struct {
	// Set once.
	cfg      Config
	log      *slog.Logger
	engine   *engine
	verifier *verifier
	usage    cpuMeter
	meter    *meter
	started  chan struct{}

	path       atomic.Pointer[dataPath]
	binder     atomic.Pointer[binder]
	full       atomic.Bool // bandwidth
	succ       atomic.Bool // took over from a predecessor
	local      atomic.Bool // drained from within: Drain or the end of Run
	policyAt   atomic.Int64
	lastPolicy atomic.Pointer[Policy]
	pauses     chan pauseRequest
}

// New checks cfg and builds a relay. It opens nothing.
func New(cfg Config) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("relay configuration: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := newVerifier(cfg.ID, cfg.PrivateKey)
	r := &Relay{
		cfg: cfg, log: logger(cfg.Logger).With("component", "relay", "relay_id", cfg.ID), verifier: v, started: make(chan struct{}),
		engine: &engine{core: newCore(cfg.MediaPorts, cfg.MaxCircuits, relaywire.MakeIDKey(cfg.PrivateKey.Bytes())), admission: newAdmission(relaywire.MAC1Key(v.public)), clock: newClock()},
		pauses: make(chan pauseRequest),
	}
	r.meter = newMeter(r.engine.clock.now())
	if cfg.Registry != nil {
		if err := cfg.Registry.Register(collector{r}); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return r, nil
}

// PublicKey is what hosts must know to talk to this relay.
func (r *Relay) PublicKey() relaywire.PublicKey { return r.verifier.public }

// Started is closed when the sockets are open.
func (r *Relay) Started() <-chan struct{} { return r.started }

// ControlAddr is the advertised address of the control port; valid after Started.
func (r *Relay) ControlAddr() netip.AddrPort {
	return netip.AddrPortFrom(r.cfg.advertised(), (*r.path.Load()).controlPort())
}

// MediaPorts lists the media ports; valid after Started.
func (r *Relay) MediaPorts() []uint16 { return (*r.path.Load()).mediaPorts() }

// Circuits is the number of circuits.
func (r *Relay) Circuits() int { return r.engine.len() }

// Run opens the sockets and serves until ctx ends, then drains: it tells its hosts, waits until the circuits have gone or
// DrainTimeout is over, and returns nil. ErrHandedOver means that a successor goes on with everything.
//
// Order of the end: first not ready and out of the catalog (no new circuits), then the farewell to hosts while the data path still
// runs, then the data path, and the sockets last, because a closed port kills a browser's session at once.
func (r *Relay) Run(ctx context.Context) (err error) {
	path, finish, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, path.close()) }()
	r.install(path)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	r.succ.Store(finish != nil)
	if finish != nil { // the predecessor lets go only now
		if err := finish(); err != nil {
			return fmt.Errorf("take over from predecessor: %w", err)
		}
	}
	offer, err := r.offerHandover(path) // before anybody is told that this relay runs: a successor may come at once
	if err != nil {
		return err
	}
	g.Go(func() error { return r.runPath(work, path) })
	for range r.cfg.verifiers() {
		g.Go(func() error { return r.verify(work, path) })
	}
	g.Go(func() error { return r.sweep(work) })
	g.Go(func() error { return r.cfg.Control.Follow(work, r.self, r.apply) })
	g.Go(func() error { return r.tellCircuits(work) })
	g.Go(func() error { return r.report(work) })
	g.Go(func() error { return r.serveHTTP(work) })
	g.Go(func() error { return offer(work) })
	g.Go(func() error { return r.leave(ctx, work, stop) })
	if r.cfg.Catalog != nil {
		g.Go(func() error { return r.register(ctx, work, path) })
	}
	r.log.Info("relay runs", "control", r.ControlAddr().String(), "media_ports", len(path.mediaPorts()), "path", path.describe(), "circuits", r.Circuits())
	close(r.started)
	return g.Wait()
}

// open takes over from a predecessor, or opens sockets of its own. finish, if any, ends the hand-over.
func (r *Relay) open(ctx context.Context) (path dataPath, finish func() error, err error) {
	if r.cfg.HandoverPath != "" {
		path, finish, err = r.takeOver(ctx)
		if path != nil || err != nil {
			return path, finish, err
		}
	}
	path, err = openPath(r.cfg, r.engine)
	return path, nil, err
}

func (r *Relay) install(path dataPath) {
	r.binder.Store(&binder{
		core: r.engine.core, verifier: r.verifier, mediaPorts: path.mediaPorts(), defaultRate: r.cfg.DefaultRate, maxRate: r.cfg.MaxRate,
		full: r.full.Load,
	})
	r.path.Store(&path)
}

// verify is one verifier: it answers BINDs from the queue.
func (r *Relay) verify(ctx context.Context, path dataPath) error {
	var answer [relaywire.BoundLen]byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-r.engine.admission.queue:
			reply, why := r.binder.Load().answer(j, r.cfg.Now(), answer[:0])
			to := j.from
			r.engine.admission.free <- j
			if why != dropNone {
				r.engine.counts.drops[why].Add(1)
			}
			if len(reply) > 0 && path.sendControl(reply, to) != nil {
				r.engine.counts.drops[dropSendError].Add(1)
			}
		}
	}
}

// sweep ends circuits whose time has come and makes a new cookie secret now and then.
func (r *Relay) sweep(ctx context.Context) error {
	tick, cookies := time.NewTicker(sweepEvery), time.NewTicker(cookieLifetime)
	defer tick.Stop()
	defer cookies.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-cookies.C:
			r.engine.admission.cookies.rotate()
		case <-tick.C:
			if n := r.engine.sweep(r.engine.clock.now(), r.cfg.Now().UnixMilli()); n > 0 {
				r.log.Debug("circuits ended", "count", n)
			}
		}
	}
}

// apply puts a policy in force. Control calls it, and the taking over of a predecessor's before that.
func (r *Relay) apply(p Policy) error {
	compiled, err := p.compile(r.engine.policy.Load())
	if err != nil {
		return err
	}
	had := r.engine.policy.Load()
	r.keep(p)
	if n := r.engine.enforce(compiled, r.engine.clock.now()); n > 0 {
		r.log.Info("circuits ended by policy", "count", n)
	}
	r.policyAt.Store(r.cfg.Now().Unix())
	if had.keys != compiled.keys {
		r.log.Info("signing keys changed", "keys", compiled.keyIDs())
	}
	r.setDraining("policy", compiled.drainBy)
	return nil
}

// self is asked by Control; the path is open by then.
func (r *Relay) self() Self {
	return Self{
		RelayID: r.cfg.ID, Region: r.cfg.Region, Version: r.cfg.Version, PublicKey: r.PublicKey(), ControlAddr: r.ControlAddr(),
		MaxCircuits: r.cfg.MaxCircuits, CapacityBits: r.cfg.CapacityBits, Draining: r.local.Load(), Successor: r.succ.Load(),
	}
}

func (r *Relay) tellCircuits(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.engine.events:
			r.cfg.Control.Circuit(e)
		}
	}
}

// keep remembers p for a successor, with the keys in force.
func (r *Relay) keep(p Policy) {
	if last := r.lastPolicy.Load(); len(p.Keys) == 0 && last != nil {
		p.Keys = last.Keys
	}
	r.lastPolicy.Store(&p)
}

// Drain stops taking new circuits and asks the hosts of the running ones to leave.
func (r *Relay) Drain() {
	r.local.Store(true)
	r.setDraining("local", r.cfg.Now().Add(r.cfg.DrainTimeout))
}

func (r *Relay) setDraining(cause string, by time.Time) {
	want := r.local.Load() || r.engine.policy.Load().draining
	if r.engine.draining.Swap(want) == want {
		return
	}
	r.log.Info("relay state", "draining", want, "cause", cause, "circuits", r.Circuits())
	if want {
		r.sayFarewell(by)
	}
}

func (r *Relay) sayFarewell(by time.Time) {
	path := r.path.Load()
	if path == nil {
		return
	}
	r.engine.farewell(by.UnixMilli(), func(port int, to netip.AddrPort, p []byte) {
		if (*path).sendMedia(port, p, to) != nil { // the flag in every ALIVE says it again
			r.engine.counts.drops[dropSendError].Add(1)
		}
	})
}

// leave waits for ctx, drains, and stops everything.
func (r *Relay) leave(ctx, work context.Context, stop context.CancelFunc) error {
	defer stop()
	select {
	case <-work.Done():
		return nil
	case <-ctx.Done():
	}
	r.Drain()
	deadline := time.NewTimer(r.cfg.DrainTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for r.Circuits() > 0 {
		select {
		case <-work.Done():
			return nil
		case <-deadline.C:
			r.log.Warn("drain timed out", "circuits", r.Circuits())
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// notReady returns why no new circuit should be sent here, or nil.
func (r *Relay) notReady() error {
	switch {
	case r.path.Load() == nil:
		return ErrNotRunning
	case r.engine.draining.Load():
		return ErrDraining
	case r.engine.policy.Load().keys == nil:
		return ErrNoKeys
	case r.full.Load() || r.Circuits() >= r.cfg.MaxCircuits:
		return ErrFull
	}
	return nil
}
