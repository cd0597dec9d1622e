package master

import (
	"context"
	"testing"
	"time"

	"github.com/wavry/fleet/master/masterapi"
)

// watched are the events a gateway got.
type watched struct{ events chan *masterapi.SessionEvent }

// watch subscribes as a gateway and waits for the first SYNC.
func watch(t *testing.T, c *cluster) *watched {
	t.Helper()
	w := &watched{events: make(chan *masterapi.SessionEvent, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	gw := c.client("t-gateway")
	go func() {
		defer close(done)
		_ = gw.WatchSessions(ctx, "gw1", func(e *masterapi.SessionEvent) { w.events <- e })
	}()
	t.Cleanup(func() { cancel(); <-done })
	w.expect(t, masterapi.SessionEvent_KIND_SYNC)
	return w
}

// expect returns the next event of the kind; others are skipped.
func (w *watched) expect(t *testing.T, kind masterapi.SessionEvent_Kind) *masterapi.SessionEvent {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		select {
		case e := <-w.events:
			if e.GetKind() == kind {
				return e
			}
		case <-deadline:
			t.Fatalf("no %s within 15 s", kind)
		}
	}
}

// runFor runs f with a context that ends after d.
func runFor(t *testing.T, f func(context.Context) error, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := f(ctx); err != nil {
		t.Error(err)
	}
}
