package credential

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Beyond the slots callers wait, beyond the queue they are refused at once, and nobody waits forever.
func TestQueueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, time.Now)
		release, err := q.acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		busy := 0
		for range queuePerSlot + 5 {
			wg.Go(func() {
				if _, err := q.acquire(t.Context(), "a"); errors.Is(err, ErrBusy) {
					mu.Lock()
					busy++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		mu.Lock()
		if busy != 5 {
			t.Errorf("%d refused at once, want 5", busy)
		}
		mu.Unlock()
		wg.Wait() // fake time runs to maxWait
		if busy != queuePerSlot+5 || len(q.waiting) != 0 {
			t.Errorf("%d refused in all, %d wait", busy, len(q.waiting))
		}
		release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		release, err = q.acquire(context.Background(), "a")
		if err != nil {
			t.Fatalf("after the crowd: %v", err)
		}
		if _, err := q.acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled wait: %v", err)
		}
		release()
		if q.free != 1 {
			t.Errorf("%d slots are free at the end", q.free)
		}
	})
}

// Thirty networks that always want more than there is keep nobody out: whoever comes from another one has the next slot.
func TestQueueFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hash = 300 * time.Millisecond
		q := newQueue(1, time.Now)
		ctx, stop := context.WithCancel(t.Context())
		work := func(from string) error {
			release, err := q.acquire(ctx, from)
			if err == nil {
				<-time.After(hash)
				release()
			}
			return err
		}
		var wg sync.WaitGroup
		for i := range 30 {
			for range 4 { // as many at once as there are connections
				wg.Go(func() {
					for ctx.Err() == nil {
						if errors.Is(work(fmt.Sprint("network ", i)), ErrBusy) {
							<-time.After(200 * time.Millisecond)
						}
					}
				})
			}
		}
		<-time.After(30 * time.Second)
		for i := range 10 {
			begun := time.Now()
			if err := work(fmt.Sprint("honest ", i)); err != nil || time.Since(begun) > 2*hash {
				t.Errorf("somebody from another network waited %v: %v", time.Since(begun), err)
			}
			<-time.After(time.Second)
		}
		// And the flood shares what is left evenly.
		least, most := 1000.0, 0.0
		for i := range 30 {
			q.mu.Lock()
			n := q.lately(fmt.Sprint("network ", i), time.Now())
			q.mu.Unlock()
			least, most = min(least, n), max(most, n)
		}
		if most > least+2 {
			t.Errorf("of thirty, one was served %.1f times and one %.1f times", least, most)
		}
		stop()
		wg.Wait()
	})
}

// What the queue remembers of networks is bounded.
func TestQueueForgets(t *testing.T) {
	q := newQueue(1, time.Now)
	for i := range maxServed + 10 {
		release, err := q.acquire(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	if len(q.served) > maxServed {
		t.Fatalf("%d networks remembered", len(q.served))
	}
}
