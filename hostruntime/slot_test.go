package hostruntime_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// desk is a desktop whose state a test sets.
type desk struct {
	mu       sync.Mutex // guards the following
	why      error
	released int
}

func (d *desk) Why() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.why
}

func (d *desk) set(why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.why = why
}

func (d *desk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.why = errors.New("it is being emptied")
	d.released++
}

// The slot is not free before the desktop is there for the next person, and whoever asks hears why.
func TestDesktopIsReadyBeforeItsSlotIsFree(t *testing.T) {
	d := &desk{why: errors.New("it starts")}
	r := newRig(t, func(c *hostruntime.Config) { c.Desktop = d; c.Grace = 200 * time.Millisecond })
	refused := func(session, why string) {
		t.Helper()
		_, err := r.host.Prepare(r.token(func(c *lease.ViewerClaims) { c.Session = session }), "Bob")
		if notReady := (*hostruntime.NotReadyError)(nil); !errors.As(err, &notReady) || !errors.Is(err, hostruntime.ErrFull) || !strings.Contains(err.Error(), why) {
			t.Errorf("session %s: %v", session, err)
		}
		if n := r.host.FreeSlots(); n != 0 {
			t.Errorf("%d free slots", n)
		}
	}
	refused("s1", "it starts")
	d.set(nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	d.set(errors.New("its supervisor went away")) // the session goes on
	if _, err := r.host.Prepare(r.token(nil), "Bob"); err != nil {
		t.Error("the running session:", err)
	}
	v.Close()
	<-r.ended // who hears that it is over finds the desktop given back
	if d.released != 1 {
		t.Errorf("given back %d times", d.released)
	}
	refused("s2", "it is being emptied")
	d.set(nil)
	if n := r.host.FreeSlots(); n != 1 {
		t.Errorf("%d free slots", n)
	}
	if _, err := hostruntime.New(hostruntime.Config{Desktop: d, Slots: 2}); err == nil || !strings.Contains(err.Error(), "use slots = 1") {
		t.Errorf("two people on one desktop: %v", err)
	}
}
