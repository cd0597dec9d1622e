// Package desktop starts, supervises and tears down one headless Linux desktop: private D-Bus buses, compositor, PipeWire with
// WirePlumber, portal configuration and a few applications, all as an unprivileged user, without systemd or a login manager.
//
// Everything of a desktop lives under its state directory: run/ is XDG_RUNTIME_DIR and disappears with the desktop, home/ is the
// user's and stays, unless a host claims the desktop for one person after the other (package claim): then it is emptied between them,
// with everything else that the user has on the machine. A compositor or session bus that dies takes its clients with it, so the whole stack is then started again
// under the same names (same sockets, same environment); PipeWire, WirePlumber and applications are restarted alone.
//
// Every process of a desktop carries the variable WAVRY_DESKTOP with the desktop's random id. That is how the end finds all of
// them, whoever their parent is by then, and kills them; Guard does the same should this process be killed.
package desktop

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/hostruntime/desktop/claim"
)

// Config describes one desktop.
type Config struct {
	// Kind is the compositor.
	Kind Kind
	// Size of the one output in pixels; both even. The zero value is DefaultSize.
	Size Size
	// StateDir holds run/ (0700, removed at the end) and home/ (kept). It is created when missing and must be ours, as all above it.
	// Empty: a temporary directory, removed as a whole at the end. At most MaxStateDir bytes, for socket paths must fit into 108.
	StateDir string
	// User runs the processes. Nil: this process's user, or when that is root one that nobody else has; a desktop never runs as root.
	User *User
	// Apps are started inside when the desktop is ready, argv each, and again when they end. Nil: the kind's default, a terminal
	// where one is installed. Empty but not nil: none.
	Apps [][]string
	// Env is added to the environment of every process of the desktop, KEY=VALUE.
	Env []string
	// Guard is a command that calls Guard with its standard input: it is started with the state of this desktop and cleans up when
	// this process is killed. Nil: no guard; direct children still die with this process.
	Guard []string
	// Exclusive says that this process does nothing but run this desktop. It then adopts and reaps orphans of the desktop.
	Exclusive bool
	// Logger gets one line per state change; nil discards.
	Logger *slog.Logger
}

// Desktop is one desktop. Run may be called once.
type Desktop struct {
	// Set once by New.
	cfg    Config
	id     string // the value of markerVar
	recipe recipe
	log    *slog.Logger
	places places
	ready  chan struct{}

	tenancy *tenancy

	// Set by Run before any process starts, as is cfg.User when it was nil.
	spawn    *spawner
	guardPID int
	alone    bool   // nobody else has the user: it can be emptied
	nss      string // library that gives the user a name; empty: it has one

	readyOnce sync.Once
}

// New checks cfg and that everything it needs is installed. It starts nothing and writes nothing.
func New(cfg Config) (*Desktop, error) {
	if cfg.Size == (Size{}) {
		cfg.Size = DefaultSize
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	user, userErr := effectiveUser(cfg.User, os.Geteuid(), os.Getegid())
	cfg.User = user
	if err := errors.Join(userErr, cfg.Kind.validate(), cfg.Size.validate(), validateStateDir(cfg.StateDir), validateApps(cfg.Apps)); err != nil {
		return nil, err
	}
	d := &Desktop{cfg: cfg, id: newID(), recipe: recipes[cfg.Kind], ready: make(chan struct{}), tenancy: newTenancy()}
	d.log = cfg.Logger.With("component", "desktop", "desktop", string(cfg.Kind))
	if err := checkBinaries(append(commonBinaries(), d.recipe.binaries...)); err != nil {
		return nil, err
	}
	if cfg.StateDir != "" {
		d.places = placesIn(cfg.StateDir)
	}
	return d, nil
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Ready is closed when the desktop answers for the first time. A later restart of the stack does not reopen it.
func (d *Desktop) Ready() <-chan struct{} { return d.ready }

// User returns who the processes of the desktop run as, when Ready is closed. Clients that talk to its portal must run as the same.
func (d *Desktop) User() User { return *d.cfg.User }

// Environ is the environment for clients of the desktop, KEY=VALUE, sorted. It is complete when Ready is closed, stays valid
// over restarts of the stack, and carries the mark that makes the client part of the desktop: it will be killed at its end.
// ClientEnviron leaves the mark out.
func (d *Desktop) Environ() []string { return d.environment().list() }

// ClientEnviron is Environ for processes that shall outlive the desktop, such as capture plugins.
func (d *Desktop) ClientEnviron() []string {
	env := d.environment()
	delete(env, markerVar)
	env[HintVar] = string(d.cfg.Kind)
	env[claim.EnvVar] = d.places.claim
	env[UserVar] = d.cfg.User.String()
	return env.list()
}

// Run opens the state directory, runs the desktop and returns when ctx ends (nil) or when it cannot be kept running (why). On
// return no process of the desktop is left, run/ is gone, and a temporary state directory too. While it runs, hosts may claim the desktop.
func (d *Desktop) Run(ctx context.Context) (err error) {
	closePlaces, err := d.openPlaces()
	if err != nil {
		return err
	}
	// Order: claims end, processes die (they write into the directories), then the directories go, then the locks are released.
	defer func() { err = errors.Join(err, closePlaces()) }()
	if d.cfg.Exclusive {
		if err := becomeSubreaper(); err != nil {
			return err
		}
	}
	d.spawn = newSpawner()
	defer d.spawn.close()
	release, err := d.startGuard()
	if err != nil {
		return err
	}
	defer release()
	stopReaping := d.reapMeanwhile()
	defer stopReaping()
	if err := d.clear(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.clear()) }()
	return d.serve(ctx)
}

// clear ends and removes what the user has outside of the state directory, for another desktop may have it next. A predecessor that
// was killed left it.
func (d *Desktop) clear() error {
	if !d.alone {
		return nil
	}
	return errors.Join(limitUser(), d.killUser(), sweep(*d.cfg.User))
}

// serve supervises the desktop and answers claims.
func (d *Desktop) serve(ctx context.Context) error {
	used, keep := d.places.wasUsed()
	d.tenancy.change(func() { d.tenancy.used, d.tenancy.empty = used || d.places.found, used && !keep && d.alone })
	l, err := d.listen()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	g.Go(func() error { return claim.Serve(ctx, l, d.take, d.log) })
	g.Go(func() error { defer cancel(); return d.supervise(ctx) })
	return g.Wait()
}

// supervise runs stacks one after the other. A stack that was ready resets the count of failures.
func (d *Desktop) supervise(ctx context.Context) error {
	retry := backoff{first: firstRetry, max: maxRetry}
	for failures := 0; ; {
		wasReady, err := d.runStack(ctx)
		if ctx.Err() != nil {
			d.log.Info("desktop stopped", "cause", context.Cause(ctx))
			return nil
		}
		if d.tenancy.mustEmpty() {
			if err := d.empty(); err != nil {
				return err
			}
			continue
		}
		if wasReady {
			failures = 0
			retry.reset()
		}
		if failures++; failures >= maxStartFailures {
			return fmt.Errorf("start %s desktop: %d attempts in a row ended before it was ready: %w", d.cfg.Kind, failures, err)
		}
		wait := retry.next()
		d.log.Warn("desktop died, starting it again", "err", err, "wait", wait)
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// runStack runs one generation of all processes from an empty run directory and leaves no process behind.
func (d *Desktop) runStack(ctx context.Context) (wasReady bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.tenancy.begin(func() { cancel(errEmptied) })
	if ctx.Err() != nil {
		return false, errEmptied
	}
	if err := d.places.freshRun(*d.cfg.User); err != nil {
		return false, err
	}
	if err := d.spawn.do(freshKeys); err != nil {
		return false, err
	}
	s := newStack(d)
	err = s.run(ctx)
	cancel(nil)
	why := "the desktop died and is starting again"
	if d.tenancy.mustEmpty() {
		why = claim.ErrEmptying.Error()
	}
	d.tenancy.isDown(why)
	return s.wasReady, errors.Join(err, d.killAll())
}

func (d *Desktop) markReady(started time.Time) {
	d.log.Info("desktop ready", "size", d.cfg.Size.String(), "uid", d.cfg.User.UID, "after", time.Since(started).Round(time.Millisecond))
	d.readyOnce.Do(func() { close(d.ready) })
	d.tenancy.isUp()
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
