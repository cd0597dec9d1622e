package desktop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sync/errgroup"
)

// stack is one generation of a desktop's processes.
type stack struct {
	d        *Desktop
	started  time.Time
	wasReady bool
	group    *errgroup.Group // its first error ends the generation
	names    []string        // environment in which the user has a name
}

func newStack(d *Desktop) *stack { return &stack{d: d, started: time.Now()} }

// run starts everything in order and returns when something that cannot be replaced alone has died, or ctx ended.
//
// The order: buses, for everyone talks on them; the compositor; only then PipeWire, whose portal module would otherwise wake the
// portal, and with it a backend, before there is a display; the portal; applications.
func (s *stack) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	s.group = group
	if err := s.bringUp(ctx); err != nil {
		// A death that made the group end is the cause; the step that was waiting only noticed.
		s.group.Go(func() error { return err })
		return s.group.Wait()
	}
	s.wasReady = true
	s.d.markReady(s.started)
	for i, argv := range s.d.apps() {
		s.keep(ctx, command{name: fmt.Sprintf("app %d (%s)", i+1, argv[0]), argv: argv, dir: s.d.places.home})
	}
	s.group.Go(func() error { return s.ping(ctx) })
	return s.group.Wait()
}

func (s *stack) bringUp(ctx context.Context) error {
	d := s.d
	var err error
	if s.names, err = d.names(); err != nil {
		return err
	}
	if err := errors.Join(d.writePortals(), s.seed(ctx, d.seeds())); err != nil {
		return err
	}
	if err := s.startBus(ctx, "session", d.sessionBus()); err != nil {
		return err
	}
	if d.recipe.systemBus {
		if err := s.startBus(ctx, "system", d.systemBus()); err != nil {
			return err
		}
	}
	argv, env, err := d.recipe.prepare(d)
	if err != nil {
		return err
	}
	if err := s.start(ctx, command{name: "compositor", argv: argv, env: env, dir: d.places.home}); err != nil {
		return err
	}
	if err := s.await(ctx, "compositor", func(ctx context.Context) error { return waylandRoundtrip(ctx, d.wayland()) }); err != nil {
		return err
	}
	if err := s.await(ctx, "compositor's services", func(ctx context.Context) error { return d.recipe.settled(ctx, d) }); err != nil {
		return err
	}
	return s.bringUpMedia(ctx)
}

func (s *stack) bringUpMedia(ctx context.Context) error {
	d := s.d
	s.keep(ctx, command{name: "pipewire", argv: []string{"pipewire"}, dir: d.places.home})
	if err := s.await(ctx, "PipeWire", func(ctx context.Context) error { return accepts(ctx, d.pipewire()) }); err != nil {
		return err
	}
	s.keep(ctx, command{name: "wireplumber", argv: []string{"wireplumber"}, dir: d.places.home})
	if installed("pipewire-pulse") {
		s.keep(ctx, command{name: "pipewire-pulse", argv: []string{"pipewire-pulse"}, dir: d.places.home})
	}
	// The first call wakes the portal and its backend. Nobody waits for that: who needs the portal will, and capture seldom does.
	s.group.Go(func() error {
		s.blemish(ctx, "portal", func(ctx context.Context) error { return portalAnswers(ctx, d.sessionBus()) })
		return nil
	})
	s.blemish(ctx, "arrangement", func(ctx context.Context) error { return d.recipe.arranged(ctx, d) })
	return ctx.Err()
}

func (s *stack) startBus(ctx context.Context, kind, socket string) error {
	argv, err := s.d.writeBusConfig(kind, socket)
	if err != nil {
		return err
	}
	name := kind + " bus"
	if err := s.start(ctx, command{name: name, argv: argv, dir: s.d.places.home}); err != nil {
		return err
	}
	return s.await(ctx, name, func(ctx context.Context) error { return busAnswers(ctx, socket) })
}

// start starts a process whose end is the end of the generation.
func (s *stack) start(ctx context.Context, c command) error {
	p, err := s.spawn(c)
	if err != nil {
		return err
	}
	s.group.Go(func() error { return p.wait(ctx) })
	return nil
}

// keep starts a process and starts it again whenever it ends, until ctx does.
func (s *stack) keep(ctx context.Context, c command) {
	s.group.Go(func() error {
		retry := backoff{first: firstRetry, max: maxRetry}
		for ctx.Err() == nil {
			started := time.Now()
			err := s.once(ctx, c)
			if time.Since(started) > steadyAfter {
				retry.reset()
			}
			if ctx.Err() != nil {
				break
			}
			wait := retry.next()
			s.d.log.Info("process ended, starting it again", "err", err, "wait", wait)
			sleep(ctx, wait)
		}
		return nil
	})
}

func (s *stack) once(ctx context.Context, c command) error {
	p, err := s.spawn(c)
	if err != nil {
		return err
	}
	return p.wait(ctx)
}

func (s *stack) spawn(c command) (*process, error) {
	env := s.d.environment()
	env.add(s.names...)
	env.add(c.env...)
	c.env, c.user = env.list(), s.d.cfg.User.credential()
	return s.d.spawn.start(c, s.d.log)
}

// await polls until ask succeeds, ctx ends (for example because a process died) or socketTimeout is over.
func (s *stack) await(ctx context.Context, what string, ask func(context.Context) error) error {
	return s.poll(ctx, socketTimeout, what, ask)
}

// poll asks with the user's rights: what it asks is at a path that the user decides about.
func (s *stack) poll(ctx context.Context, within time.Duration, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := s.d.cfg.User.does(func() error { return ask(ctx) })
		if err == nil {
			return nil
		}
		if isFinal(err) || !sleep(ctx, pollEvery) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
	}
}

// isFinal recognises the portal without a backend, for which it looks only when it starts, and the portal that is not installed.
func isFinal(err error) bool {
	var refused dbus.Error
	return isMissing(err) || errors.As(err, &refused) && refused.Name == "org.freedesktop.DBus.Error.UnknownInterface"
}

// isMissing recognises a service that is not installed.
func isMissing(err error) bool {
	var refused dbus.Error
	return errors.As(err, &refused) && refused.Name == "org.freedesktop.DBus.Error.ServiceUnknown"
}

// blemish waits for something that a desktop is poorer without.
func (s *stack) blemish(ctx context.Context, what string, ask func(context.Context) error) {
	err := s.poll(ctx, portalTimeout, what, ask)
	switch {
	case err == nil || ctx.Err() != nil:
	case isMissing(err):
		s.d.log.Info("desktop is up without its "+what+", which is not installed", "err", err)
	default:
		s.d.log.Warn("desktop is up without its "+what, "err", err)
	}
}

// ping ends the generation when the compositor lives but no longer answers.
func (s *stack) ping(ctx context.Context) error {
	for failed := 0; sleep(ctx, pingEvery); {
		err := s.pingOnce(ctx)
		if err == nil {
			failed = 0
			continue
		}
		if failed++; failed >= maxPings && ctx.Err() == nil {
			return fmt.Errorf("compositor does not answer, %d times in a row: %w", failed, err)
		}
	}
	return ctx.Err()
}

func (s *stack) pingOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return s.d.cfg.User.does(func() error { return waylandRoundtrip(ctx, s.d.wayland()) })
}

func accepts(ctx context.Context, socket string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}
