//go:build linux && (amd64 || arm64)

package relay

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWait proves that a worker looks at its sockets without sleeping for busy_poll after it forwarded something and not a moment
// longer, that it sees a packet and the order to stop either way, and that it makes no garbage.
func TestWait(t *testing.T) {
	w, media := newWorker(t, newBed(t, 1))
	epoll, wake, err := w.watch()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	defer unix.Close(wake)
	sender, events := listenUDP(t), make([]unix.EpollEvent, 3)
	send := func() { write(t, sender, initial(1200), media) } // nobody waits for it
	// await lets the worker serve until a packet came, and returns how long it polled.
	await := func() uint64 {
		t.Helper()
		polled, in := w.stats.polling.Load(), w.stats.packetsIn.Load()
		for w.stats.packetsIn.Load() == in {
			n, err := w.wait(epoll, events)
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := w.serve(epoll, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		return w.stats.polling.Load() - polled
	}
	w.forwarded = w.engine.clock.now()
	send()
	if d := await(); d != 0 {
		t.Errorf("polled %d ns with busy_poll off", d)
	}
	w.busyPoll, w.forwarded = int64(20*time.Millisecond), w.engine.clock.now()
	send()
	if await() == 0 {
		t.Error("did not poll")
	}
	for range 2 { // 20 ms are over
		send()
		if d := await(); d != 0 {
			t.Errorf("a candidate made it poll %d ns", d)
		}
	}

	w.busyPoll, w.forwarded = int64(maxBusyPoll), w.engine.clock.now()
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	if _, err := unix.Write(wake, one); err != nil {
		t.Fatal(err)
	}
	if n, err := w.wait(epoll, events); n != 1 || events[0].Fd != -1 {
		t.Error("the order to stop was not seen:", n, err)
	}
	w.busyPoll = int64(time.Microsecond)
	if n := testing.AllocsPerRun(50, func() {
		w.forwarded = w.engine.clock.now()
		unix.Write(wake, one)
		w.wait(epoll, events)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestPollingLetsOthersRun proves that workers which poll on every processor the process has stop neither the garbage collector nor
// the verifiers, and that what they burn is told apart from load.
func TestPollingLetsOthersRun(t *testing.T) {
	i := newIssuer(t, "k1")
	u := startTrusting(t, i, func(c *Config) { c.BusyPoll, c.Workers = maxBusyPoll, runtime.NumCPU() })
	for circuit := range uint64(3) {
		p := connect(t, u, i, circuit+1)
		for range 20 {
			if err := p.host.send(u.engine.short(circuit, 100), p.media); err != nil {
				t.Fatal(err)
			}
			read(t, p.viewer.UDPConn)
			runtime.GC()
		}
	}
	eventually(t, "time spent polling is counted", func() bool { return u.totals().polling > 0 })
	var m cpuMeter
	m.share(0)
	burn := func() {
		for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		}
	}
	if burn(); m.share(time.Hour) != 0 {
		t.Error("polling counts as load")
	}
	if burn(); m.share(time.Hour) == 0 {
		t.Error("work does not count as load")
	}
}
