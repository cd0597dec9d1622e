package claim

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wavry/fleet/hostruntime/asroot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is a supervisor that a test drives: ready lets the next claim in.
type desk struct {
	ready chan struct{}

	mu       sync.Mutex // guards the following
	holders  int
	most     int
	released []bool // with keep, in order
}

func (d *desk) take(ctx context.Context, keep bool, tell func(string)) (bool, func(), error) {
	tell("not yet")
	select {
	case <-d.ready:
	case <-ctx.Done():
		return false, nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holders++
	d.most = max(d.most, d.holders)
	return keep, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.holders--
		d.released = append(d.released, keep)
	}, nil
}

func (d *desk) counts() (holders, released int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.holders, len(d.released)
}

func serve(t *testing.T, d *desk) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "claim")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, d.take, slog.New(slog.DiscardHandler)) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return path, stop
}

func keep(t *testing.T, path string, kept bool) (k *Keeper, stop func()) {
	t.Helper()
	k = NewKeeper(path, kept, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return k, stop
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// TestReleaseAndReturn proves that a desktop is there only between yours and Release, and that the reason is told meanwhile.
func TestReleaseAndReturn(t *testing.T) {
	d := &desk{ready: make(chan struct{})}
	path, _ := serve(t, d)
	k, stop := keep(t, path, true)
	until(t, "the reason is told", func() bool { why := k.Why(); return why != nil && why.Error() == "not yet" })
	if k.Overdue(time.Hour) != nil || k.Overdue(0) == nil {
		t.Error("overdue does not follow its patience")
	}
	for i := range 3 {
		d.ready <- struct{}{}
		until(t, "the desktop is ours", func() bool { return k.Why() == nil })
		if !k.Kept() {
			t.Error("the wish to keep was not heard")
		}
		k.Release()
		if k.Why() == nil {
			t.Fatal("a desktop that was given back is still there")
		}
		until(t, "the supervisor knows", func() bool { holders, released := d.counts(); return holders == 0 && released == i+1 })
	}
	d.ready <- struct{}{}
	until(t, "the desktop is ours", func() bool { return k.Why() == nil })
	stop() // the end of a host gives it back, whether in order or not: its connection ends
	if k.Why() == nil {
		t.Error("a host that ends still has a desktop")
	}
	until(t, "the supervisor knows", func() bool { holders, _ := d.counts(); return holders == 0 })
}

// TestSupervisorGoes proves that a keeper without supervisor has no desktop, and claims it from the next one.
func TestSupervisorGoes(t *testing.T) {
	d := &desk{ready: make(chan struct{}, 1)}
	path, end := serve(t, d)
	k, _ := keep(t, path, false)
	d.ready <- struct{}{}
	until(t, "the desktop is ours", func() bool { return k.Why() == nil })
	end()
	until(t, "the desktop is gone", func() bool { why := k.Why(); return why != nil && strings.Contains(why.Error(), "supervisor") })
	k.Release() // of the session that went on; nothing to close
	if k.Why() == nil {
		t.Error("there is a desktop")
	}
}

// TestStrangersMayNotClaim proves that the socket's mode is not all that keeps the desktop's own user out.
func TestStrangersMayNotClaim(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as somebody else")
	}
	d := &desk{ready: make(chan struct{}, 1)}
	d.ready <- struct{}{}
	path, _ := serve(t, d)
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	err := asroot.AsUser(60999, 60999, func() error {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := writeLine(c, request{}); err != nil {
			return nil // it has closed already
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if n, err := c.Read(make([]byte, 100)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stranger got an answer: %d bytes, %v", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if holders, _ := d.counts(); holders != 0 {
		t.Error("a stranger has the desktop")
	}
}

// TestGarbage proves that what is no claim ends the connection, and nothing else.
func TestGarbage(t *testing.T) {
	d := &desk{ready: make(chan struct{}, 1)}
	path, _ := serve(t, d)
	for _, text := range []string{"\n", "{", "[]\n", "\x00\x01\n", strings.Repeat("x", 2*maxLine), `{"keep":"yes"}` + "\n"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(text)) // it may be closed in the middle
		if w, ok := c.(*net.UnixConn); ok {
			_ = w.CloseWrite()
		}
		if n, err := c.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("%q was answered", text)
		}
		c.Close()
	}
	d.ready <- struct{}{}
	k, _ := keep(t, path, false)
	until(t, "a claim still works", func() bool { return k.Why() == nil })
}
