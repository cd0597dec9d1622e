package fingerprint

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Keeper takes the fingerprint of this node and takes it again whenever it may have become another: the operator changes the order,
// a plugin's file comes, goes or changes, a session found that nothing works, or nothing worked the last time. Sessions that run
// keep what they have. Create it with NewKeeper.
type Keeper struct {
	cfg   Config
	found func(*Result)
	busy  func() bool
	log   *slog.Logger
	take  func(context.Context, Config) (*Result, error)

	wake   chan struct{} // one pending change is enough
	result atomic.Pointer[Result]

	mu       sync.Mutex // guards the following
	job      Order      // of the configuration
	node     Order      // of the node, above it
	accepted Order      // the last good one
	doubted  bool       // a session says that the result no longer holds
	yield    func()     // ends the trial that runs now; nil: none that sessions would mind
}

// NewKeeper returns a keeper. cfg is that of every trial, without Binaries and Beside, which are the keeper's; its Order is the
// configuration's. busy says whether sessions run; found is told each result, on Run's goroutine.
func NewKeeper(cfg Config, busy func() bool, found func(*Result)) *Keeper {
	cfg.setDefaults()
	return &Keeper{
		cfg: cfg, found: found, busy: busy, log: cfg.Logger.With("component", "fingerprint"), take: Run,
		wake: make(chan struct{}, 1), job: cfg.Order, accepted: cfg.Order,
	}
}

// Result is the last one; nil before the first.
func (k *Keeper) Result() *Result { return k.result.Load() }

// Configure replaces the order of the configuration.
func (k *Keeper) Configure(o Order) { k.change(func() { k.job = o }) }

// Prefer replaces the order of the node, which goes over that of the configuration.
func (k *Keeper) Prefer(o Order) { k.change(func() { k.node = o }) }

// Doubt asks for another look soon: a session failed because nothing worked.
func (k *Keeper) Doubt() { k.change(func() { k.doubted = true }) }

func (k *Keeper) change(f func()) {
	k.mu.Lock()
	f()
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

// Yield ends a trial that a session which begins now would meet at the desktop; it is made again beside the session.
func (k *Keeper) Yield() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.yield != nil {
		k.yield()
	}
}

// Run keeps the fingerprint until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last look
	for ctx.Err() == nil {
		now := k.look()
		if why := due(last, now); why != "" {
			if !k.again(ctx, &last, now, why) {
				continue // a session began, or ctx ended
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-k.wake:
		}
	}
}

// look is what can be seen without a trial.
type look struct {
	result   *Result
	wanted   Order
	files    string // every plugin file with its mark
	busy     bool
	beside   bool // result was taken beside sessions: not everything was tried
	doubted  bool
	binaries []pluginhost.Binary
}

func (k *Keeper) look() look {
	binaries, err := pluginhost.Discover(k.cfg.Dirs...)
	if err != nil {
		k.log.Debug("plugins", "err", err) // what is missing is in the result
	}
	var files strings.Builder
	for _, b := range binaries {
		fmt.Fprintf(&files, "%s %s\n", b.Path, markOf(b.Path))
	}
	busy := k.busy() // not under the lock: a host that starts a session calls Yield
	k.mu.Lock()
	defer k.mu.Unlock()
	l := look{wanted: k.node.Over(k.job), files: files.String(), busy: busy, doubted: k.doubted, binaries: binaries}
	k.doubted = false
	return l
}

// due says why the fingerprint is taken again; empty: it holds. Beside sessions nothing is tried by the clock.
func due(last, now look) string {
	switch {
	case last.result == nil:
		return "start"
	case !now.wanted.Equal(last.wanted):
		return "the order changed"
	case now.files != last.files:
		return "plugin files changed"
	case now.doubted:
		return "a session failed"
	case now.busy:
		return ""
	case last.beside:
		return "sessions are over"
	case !last.result.Usable():
		return "nothing worked"
	}
	return ""
}

// again takes the fingerprint and tells it. It reports false when the trial was ended.
func (k *Keeper) again(ctx context.Context, last *look, now look, why string) bool {
	cfg := k.cfg
	cfg.Binaries, cfg.Order, cfg.Beside = now.binaries, now.wanted, nil
	if now.busy {
		cfg.Beside = last.result
	}
	trial, end := context.WithCancel(ctx)
	defer end()
	if !now.busy {
		k.setYield(end)
		defer k.setYield(nil)
		if k.busy() {
			return false // a session began before it could say so
		}
	}
	r, err := k.take(trial, cfg)
	if err != nil {
		return false
	}
	r.missGone(last.result)
	k.settle(r, now.wanted)
	now.result, now.beside = r, now.busy
	k.tell(last.result, r, why)
	*last = now
	k.result.Store(r)
	k.found(r)
	return true
}

func (k *Keeper) setYield(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.yield = f
}

// settle follows the wanted order, or the last good one when that is none.
func (k *Keeper) settle(r *Result, wanted Order) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := r.Check(wanted); err != nil {
		r.Refused = strings.ReplaceAll(err.Error(), "\n", ". ")
		r.Choose(k.accepted)
		return
	}
	k.accepted = wanted
	r.Choose(wanted)
}

func (k *Keeper) tell(before, r *Result, why string) {
	if r.Refused != "" && (before == nil || before.Refused != r.Refused) {
		k.log.Warn("order of plugins refused; the last good one stays", "cause", r.Refused)
	}
	switch reason := r.Unusable(); {
	case reason == "":
		k.log.Info("node fingerprinted", "cause", why, "capture", first(r.Captures), "encoder", first(r.Encoders), "took", time.Since(r.Time).String())
	case before == nil || before.Unusable() != reason:
		k.log.Warn("no session can run on this node; wavry host doctor says more", "cause", reason)
	}
}

// markOf tells one file from another that takes its name; empty: there is none.
func markOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d %s %v", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano), info.Mode())
}
