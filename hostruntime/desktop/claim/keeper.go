package claim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// retry is the pause before a claim that failed is made again; the supervisor may be starting.
const retry = 250 * time.Millisecond

var (
	// ErrEmptying is why a desktop is not there right after a person has left.
	ErrEmptying = errors.New("the desktop is being emptied after the last person")
	errNotYet   = errors.New("the desktop was not claimed yet")
	errEnded    = errors.New("this host is ending")
)

// Keeper holds a claim on one desktop for a host, which gives it back with Release after each person.
type Keeper struct {
	path string
	keep bool
	log  *slog.Logger

	mu    sync.Mutex // guards the following
	why   error      // nil: the desktop is there for the next person
	since time.Time  // of why
	kept  bool
	conn  net.Conn // of the present claim, asked for or held; nil: none
	first chan struct{}
	once  sync.Once
}

// NewKeeper returns a keeper that claims nothing yet. path is the supervisor's socket; keep asks it to leave the desktop as it is.
func NewKeeper(path string, keep bool, log *slog.Logger) *Keeper {
	return &Keeper{path: path, keep: keep, log: log, why: errNotYet, since: time.Now(), first: make(chan struct{})}
}

// Run claims the desktop, again whenever it was given back, until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := k.hold(ctx); err != nil {
			k.lose(err)
			k.log.Debug("claim of the desktop ended", "cause", err)
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
		}
	}
	k.lose(errEnded)
}

// First is closed when the desktop was there for the first time.
func (k *Keeper) First() <-chan struct{} { return k.first }

// Why is why nobody can be let into the desktop now; nil: somebody can.
func (k *Keeper) Why() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.why
}

// Overdue is Why once it has been so for longer than patience.
func (k *Keeper) Overdue(patience time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why == nil || time.Since(k.since) < patience {
		return nil
	}
	return k.why
}

// Kept says whether the next person finds what the last one left.
func (k *Keeper) Kept() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept
}

// Release gives the desktop back. Why is not nil from then on until there is another claim.
func (k *Keeper) Release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set(ErrEmptying)
	if k.conn != nil {
		_ = k.conn.Close() // which is the message
		k.conn = nil
	}
}

// set notes why, under mu.
func (k *Keeper) set(why error) {
	if (k.why == nil) != (why == nil) {
		k.since = time.Now()
	}
	k.why = why
}

// hold makes a claim and returns when it is over: nil when it was released.
func (k *Keeper) hold(ctx context.Context) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", k.path)
	if err != nil {
		return fmt.Errorf("the desktop's supervisor is not there: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	k.mu.Lock()
	k.conn = c
	k.mu.Unlock()
	if err := writeLine(c, request{Keep: k.keep}); err != nil {
		return fmt.Errorf("claim the desktop: %w", err)
	}
	lines := bufio.NewReaderSize(c, maxLine)
	for {
		var a answer
		if err := readLine(lines, &a); err != nil {
			if k.current(c) {
				return fmt.Errorf("the desktop's supervisor went away: %w", err)
			}
			return nil
		}
		if err := k.heard(c, a); err != nil {
			return err
		}
	}
}

func (k *Keeper) current(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conn == c
}

// heard takes an answer, unless the claim was released meanwhile.
func (k *Keeper) heard(c net.Conn, a answer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != c {
		return nil
	}
	switch a.State {
	case wait:
		k.set(errors.New(a.Why))
	case yours:
		k.set(nil)
		k.kept = a.Kept
		k.once.Do(func() { close(k.first) })
	default:
		return fmt.Errorf("the desktop's supervisor says %q, which this host does not know", a.State)
	}
	return nil
}

// lose notes that there is no claim.
func (k *Keeper) lose(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn = nil
	k.set(why)
}
