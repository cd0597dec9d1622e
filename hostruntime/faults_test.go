package hostruntime_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime"
	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/session"
	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/master/lease"
)

// A picture of another size in the middle of the stream is announced to every viewer, and goes out with its size.
func TestSizeChangesMidStream(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	r.source.emit(true, "small")
	if h, _ := v.unit(); h.Width != 64 || h.Height != 48 {
		t.Fatalf("first unit %+v", h)
	}
	now := media.Now()
	r.source.units <- media.AccessUnit{
		Codec: media.CodecH264, Keyframe: true, Width: 1920, Height: 1080, CaptureTime: now, HandoffTime: now, EncodeTime: now, Data: []byte("large"),
	}
	for m := expect[*streamwire.Resized](v); m.Width != 1920 || m.Height != 1080; m = expect[*streamwire.Resized](v) { // the first tells the size at the start
	}
	if h, data := v.unit(); h.Width != 1920 || h.Height != 1080 || data != "large" {
		t.Errorf("unit after the change %+v %q", h, data)
	}
	late := r.connect(r.token(func(c *lease.ViewerClaims) { c.Viewer, c.Role = "v2", lease.RoleWatch }))
	if w := expect[*streamwire.Welcome](late); w.Width != 1920 || w.Height != 1080 {
		t.Errorf("welcome after the change %+v", w)
	}
}

// The source hears the first target of the rate, and then not at every tick: each would be a call into the encoder.
func TestAdjustmentsAreFew(t *testing.T) {
	r := newRig(t, nil)
	v := r.connect(r.token(nil))
	expect[*streamwire.Welcome](v)
	r.source.wait(t, "the first target", func() bool { return r.source.adjustments > 0 })
	for range 6 { // half a second each: 60 ticks
		expect[*streamwire.Stats](v)
	}
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	// The rate rises by a half per second at first: 1.5^3 in steps of 3 % are 41, and it ends at the limit before that.
	if r.source.adjustments > 42 {
		t.Errorf("%d adjustments in three seconds", r.source.adjustments)
	}
}

// A viewer whose first words are no hello loses its connection alone, is not counted as a viewer, and costs the others nothing.
func TestGarbageInsteadOfHello(t *testing.T) {
	r := newRig(t, nil)
	token := r.token(nil)
	p := r.prepare(token)
	watch := r.token(func(c *lease.ViewerClaims) { c.Viewer, c.Role = "v2", lease.RoleWatch })
	hello := streamwire.AppendMessage(nil, &streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
	good := r.connectAs(token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
	expect[*streamwire.Welcome](good)
	for name, b := range map[string][]byte{
		"noise":       {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"oversized":   {hello[0], 0xff, 0xff, 0xff, 0xff},
		"truncated":   hello[:len(hello)-1],
		"another one": streamwire.AppendMessage(nil, &streamwire.Keyframe{}),
	} {
		conn, err := r.dial(watch, p)
		if err != nil {
			t.Fatal(err)
		}
		control, _, err := conn.Control(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := control.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := control.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-conn.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the connection stays", name)
		}
		conn.Close()
	}
	if infos := r.host.Sessions(); len(infos) != 1 || infos[0].Viewers != 1 {
		t.Errorf("sessions %+v", infos)
	}
	r.source.emit(true, "key")
	if _, data := good.unit(); data != "key" {
		t.Errorf("the good viewer got %q", data)
	}
}

// Sessions that end in every way leave no descriptor, goroutine or slot behind.
func TestSessionsLeaveNothing(t *testing.T) {
	sources := make(chan *source, 1)
	r := newRig(t, func(c *hostruntime.Config) {
		c.Grace = 2 * time.Second // also what a viewer has to arrive in the first place
		c.NewSource = func(string) (session.Source, error) {
			s := newSource()
			sources <- s
			return s, nil
		}
	})
	ends := map[string]func(*viewer, string){
		"bye":       func(v *viewer, _ string) { v.send(&streamwire.Bye{Code: streamwire.CodeEnded}) },
		"cut off":   func(v *viewer, _ string) { v.Close() },
		"by us":     func(_ *viewer, id string) { r.host.End(id, streamwire.CodeOperator, "done") },
		"by source": func(*viewer, string) { r.source.fail <- os.ErrInvalid },
	}
	visit := func(id string, end func(*viewer, string)) {
		token := r.token(func(c *lease.ViewerClaims) { c.Session = id })
		p := r.prepare(token)
		r.source = <-sources
		v := r.connectAs(token, p, streamwire.Hello{Version: streamwire.Version, Codecs: []media.Codec{media.CodecH264}})
		expect[*streamwire.Welcome](v)
		r.source.emit(true, "key")
		v.unit()
		end(v, id)
		<-r.ended
		v.Close()
	}
	visit("warm-up", ends["bye"])
	files, goroutines := settled(t, 1<<30, 1<<30)
	for name, end := range ends {
		for i := range 3 {
			visit(fmt.Sprint(name, i), end)
		}
	}
	settled(t, files, goroutines)
	if n := r.host.FreeSlots(); n != 1 {
		t.Errorf("%d free slots", n)
	}
}

// settled waits until there are at most so many descriptors and goroutines, and returns how many there are once they stop falling:
// QUIC closes connections in the background.
func settled(t *testing.T, maxFiles, maxGoroutines int) (files, goroutines int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	still := 0
	for {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		n := runtime.NumGoroutine()
		if still++; len(open) != files || n != goroutines {
			still = 0
		}
		files, goroutines = len(open), n
		if still >= 10 && files <= maxFiles && goroutines <= maxGoroutines {
			return files, goroutines
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d descriptors and %d goroutines, want at most %d and %d", files, goroutines, maxFiles, maxGoroutines)
		}
	}
}
