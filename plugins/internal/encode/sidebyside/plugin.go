package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/plugins/internal/encode"
	"github.com/wavry/fleet/plugins/internal/encode/encodetest"
)

func newPainter(o options) *encode.Painter { return encode.NewPainter(o.width, o.height) }

// brush draws each buffer once: the pictures repeat, and drawing takes nothing from what is measured.
type brush struct {
	painter *encode.Painter
	drawn   map[*byte]bool
}

func (b *brush) draw(pixels []byte, _, _ int) {
	if b.drawn[&pixels[0]] {
		return
	}
	b.painter.Paint(pixels, len(b.drawn))
	b.drawn[&pixels[0]] = true
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(id, &t); err != nil {
		panic(err) // the clock is a constant that every Linux has
	}
	return time.Duration(t.Nano())
}

// withPlugin starts the plugin for one run, and names a socket for its pictures.
func withPlugin(ctx context.Context, dir string, o options,
	run func(ctx context.Context, p *pluginhost.Process, path string) (result, string, error)) (result, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds*float64(time.Second))+30*time.Second)
	defer cancel()
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{Path: o.plugin, Role: pluginhost.RoleEncode, TempDir: dir})
	if err != nil {
		return result{}, "", err
	}
	defer p.Kill()
	return run(ctx, p, filepath.Join(dir, "frames"))
}

// runFrames sends pictures to the plugin at the rate and returns the pipeline's text too.
func runFrames(ctx context.Context, p *pluginhost.Process, path string, o options) (result, string, error) {
	capturer, err := encodetest.Listen(path)
	if err != nil {
		return result{}, "", err
	}
	defer capturer.Close()
	accepted := make(chan error, 1)
	go func() { accepted <- capturer.Accept() }()
	if err := p.HandPath(path); err != nil {
		return result{}, "", err
	}
	started, err := p.Encoder().Start(ctx, request(o))
	if err != nil {
		return result{}, "", err
	}
	if err := errors.Join(<-accepted, capturer.Register(loop, o.width, o.height)); err != nil {
		return result{}, "", err
	}
	var units units
	go units.watch(ctx, p) // ends with ctx or the process
	r, err := feed(p, capturer, &units, o)
	return r, started.Pipeline, err
}

func request(o options) *pluginpb.StartEncodeRequest {
	q := &pluginpb.StartEncodeRequest{SourcePath: inbox.Handed, Codec: "h264", BitsPerSecond: uint32(o.bps), Fps: o.fps}
	if o.method != "" {
		q.Methods = []string{o.method}
	}
	return q
}

// units are the times of what came back. They are noted where the host runtime passes units on: handing them to another goroutine
// would be work of this program alone.
type units struct {
	first chan struct{} // closed by the first; may be nil

	mu sync.Mutex
	r  result
}

func (u *units) watch(ctx context.Context, p *pluginhost.Process) {
	_ = p.Encoder().Watch(ctx, func(e *pluginpb.EncodeEvent) error { // feed notices missing units
		if unit := e.GetUnit(); unit != nil {
			u.note(unit, int64(media.Now()))
		}
		return nil
	})
}

func (u *units) note(unit *pluginpb.AccessUnit, received int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.first != nil {
		close(u.first)
		u.first = nil
	}
	u.r.bytes += len(unit.Data)
	u.r.latencies = append(u.r.latencies, time.Duration(received-unit.CaptureTime))
	u.r.returns = append(u.r.returns, time.Duration(received-unit.EncodeTime))
	u.r.handoffs = append(u.r.handoffs, time.Duration(unit.HandoffTime-unit.CaptureTime))
}

// take returns what came since the last time.
func (u *units) take() result {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.r
	u.r = result{}
	return r
}

// beats is a descriptor that becomes readable at the rate. A capture plugin is woken by its compositor's socket just so; a Go ticker
// wakes two threads more, and the one process uses none.
type beats struct {
	*os.File
	raw   syscall.RawConn
	count [8]byte
}

// wait reads without a word to Go's scheduler, as our readers of sockets do.
func (b *beats) wait() error {
	return b.raw.Read(func(fd uintptr) bool {
		_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&b.count[0])), uintptr(len(b.count)))
		return errno != unix.EAGAIN
	})
}

func newBeats(fps float64) (*beats, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	f := os.NewFile(uintptr(fd), "beats")
	interval := unix.NsecToTimespec(int64(float64(time.Second) / fps))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: interval, Value: interval}, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("set a timer: %w", err), f.Close())
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &beats{File: f, raw: raw}, nil
}

// feed sends for the length of the run, after one second that does not count.
func feed(p *pluginhost.Process, c *encodetest.Capturer, units *units, o options) (result, error) {
	beat, err := newBeats(o.fps)
	if err != nil {
		return result{}, err
	}
	defer beat.Close()
	warm, total := o.warm(), o.warm()+o.counted()
	var dropped int
	var before, ownBefore time.Duration
	b := &brush{painter: newPainter(o), drawn: map[*byte]bool{}}
	for sent := range total {
		if err := beat.wait(); err != nil {
			return result{}, err
		}
		if sent == warm {
			if before, err = cpuTime(p.PID()); err != nil {
				return result{}, err
			}
			ownBefore = clock(unix.CLOCK_PROCESS_CPUTIME_ID)
			units.take()
			dropped = 0
		}
		switch err := c.Send(b.draw); {
		case errors.Is(err, encodetest.ErrNoCredit):
			dropped++ // the machine is busy with something else
		case err != nil:
			return result{}, errors.Join(fmt.Errorf("picture %d: %w", sent, err), p.Err())
		}
	}
	own := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - ownBefore
	after, err := cpuTime(p.PID())
	r := units.take()
	pictures := time.Duration(max(o.counted()-dropped, 1))
	r.cpu, r.sender, r.dropped = (after-before)/pictures, own/pictures, dropped
	if missing := o.counted() - dropped - len(r.latencies); missing > 2 { // one is still on its way
		return r, fmt.Errorf("%d of %d units did not come", missing, o.counted())
	}
	return r, err
}

// cpuTime is the user and system time of a process with all its threads, from /proc/PID/schedstat of its tasks, in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d has no tasks", pid)
	}
	var total time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that just ended
		}
		ns, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", t, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}
