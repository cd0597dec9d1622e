// Package desktop starts, supervises and tears down one headless Linux desktop: private D-Bus buses, compositor, PipeWire with
// WirePlumber, portal configuration and a few applications, all as an unprivileged user, without systemd or a login manager.
//
// Everything of a desktop lives under its state directory: run/ is XDG_RUNTIME_DIR and disappears with the desktop, home/ is the
// user's and stays. A compositor or session bus that dies takes its clients with it, so the whole stack is then started again
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
)

// Config describes one desktop.
type Config struct {
	// Kind is the compositor.
	Kind Kind
	// Size of the one output in pixels; both even. The zero value is DefaultSize.
	Size Size
	// StateDir holds run/ (0700, removed at the end) and home/ (kept). It is created when missing and belongs to User then. Empty:
	// a temporary directory, removed as a whole at the end. At most MaxStateDir bytes, for socket paths must fit into 108.
	StateDir string
	// User runs the processes. Nil: this process's user, or Nobody when that is root; a desktop never runs as root.
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

	// Set by Run before any process starts.
	spawn    *spawner
	guardPID int

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
	d := &Desktop{cfg: cfg, id: newID(), recipe: recipes[cfg.Kind], ready: make(chan struct{})}
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

// User returns who the processes of the desktop run as. Clients that talk to its portal must run as the same user.
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
	return env.list()
}

// Run opens the state directory, runs the desktop and returns when ctx ends (nil) or when it cannot be kept running (why). On
// return no process of the desktop is left, run/ is gone, and a temporary state directory too.
func (d *Desktop) Run(ctx context.Context) (err error) {
	closePlaces, err := d.openPlaces()
	if err != nil {
		return err
	}
	// Order: processes die first (they write into the directories), then the directories go, then the lock is released.
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
	return d.supervise(ctx)
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
	if err := d.places.freshRun(*d.cfg.User); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newStack(d)
	err = s.run(ctx)
	cancel()
	return s.wasReady, errors.Join(err, d.killAll())
}

func (d *Desktop) markReady(started time.Time) {
	d.log.Info("desktop ready", "size", d.cfg.Size.String(), "uid", d.cfg.User.UID, "after", time.Since(started).Round(time.Millisecond))
	d.readyOnce.Do(func() { close(d.ready) })
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
