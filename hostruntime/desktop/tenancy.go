package desktop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/wavry/fleet/hostruntime/desktop/claim"
)

// tenancy is whose the desktop is: nobody's, or one claim's. Who has had it leaves it used, and it is given to nobody else before it
// was emptied. That it is used is kept on disk, so that it holds when this process is killed.
type tenancy struct {
	turn chan struct{} // holds a token while a claim has the desktop, or is next

	mu      sync.Mutex // guards the following
	changed chan struct{}
	up      bool   // the stack answers
	why     string // it does not
	used    bool
	empty   bool   // it shall be emptied, or is being
	restart func() // ends the present generation; nil between generations
}

// errEmptied ends a generation whose desktop shall be as new.
var errEmptied = errors.New("the last person has left")

func newTenancy() *tenancy {
	return &tenancy{turn: make(chan struct{}, 1), changed: make(chan struct{}), why: "the desktop is starting"}
}

// change runs f under the lock and wakes who waits.
func (t *tenancy) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tenancy) begin(restart func()) {
	t.change(func() {
		t.restart = restart
		if t.empty {
			restart()
		}
	})
}

func (t *tenancy) isUp() { t.change(func() { t.up = true }) }

func (t *tenancy) isDown(why string) {
	t.change(func() { t.up, t.why, t.restart = false, why, nil })
}

// wantEmpty asks for an empty desktop; it is one when used is false again.
func (t *tenancy) wantEmpty() {
	t.change(func() {
		if t.empty || !t.used {
			return
		}
		t.empty, t.up, t.why = true, false, claim.ErrEmptying.Error()
		if t.restart != nil {
			t.restart()
		}
	})
}

func (t *tenancy) mustEmpty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.empty
}

// await waits until the desktop is up and, unless it may be used, unused. Then it runs got under the lock.
func (t *tenancy) await(ctx context.Context, mayBeUsed bool, tell func(string), got func()) error {
	for told := ""; ; {
		t.mu.Lock()
		if t.up && (mayBeUsed || !t.used) {
			got()
			t.mu.Unlock()
			return nil
		}
		why, changed := t.why, t.changed
		t.mu.Unlock()
		if why != told {
			tell(why)
			told = why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take is claim.Take.
func (d *Desktop) take(ctx context.Context, keep bool, tell func(string)) (kept bool, release func(), err error) {
	t := d.tenancy
	keep = keep || !d.alone
	select {
	case t.turn <- struct{}{}:
	default:
		tell("another host has this desktop")
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return false, nil, ctx.Err()
		}
	}
	if !keep {
		t.wantEmpty()
	}
	var noted error
	err = t.await(ctx, keep, tell, func() { t.used, noted = true, d.places.markUsed(keep) })
	if err = errors.Join(err, noted); err != nil { // not given away: it would not be remembered
		<-t.turn
		return false, nil, err
	}
	d.log.Info("desktop claimed", "kept", keep)
	return keep, func() {
		d.log.Info("desktop given back", "kept", keep)
		if !keep {
			t.wantEmpty()
		}
		<-t.turn
	}, nil
}

// listen opens the socket at which hosts claim the desktop. Its directory is our user's, and so is everything above.
func (d *Desktop) listen() (*net.UnixListener, error) {
	path := d.places.claim
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a predecessor that was killed
		return nil, fmt.Errorf("listen for claims: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for claims: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for claims: %w", err), l.Close())
	}
	return l, nil
}
