package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
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

// runPlugin sends pictures to the plugin at the rate and returns the pipeline's text too.
func runPlugin(ctx context.Context, dir string, o options) (result, string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds*float64(time.Second))+30*time.Second)
	defer cancel()
	p, err := pluginhost.Launch(ctx, pluginhost.Spec{Path: o.plugin, TempDir: dir})
	if err != nil {
		return result{}, "", err
	}
	defer p.Kill()
	path := filepath.Join(dir, "frames")
	capturer, err := encodetest.Listen(path)
	if err != nil {
		return result{}, "", err
	}
	defer capturer.Close()
	accepted := make(chan error, 1)
	go func() { accepted <- capturer.Accept() }()
	started, err := p.Encoder().Start(ctx, request(o, path))
	if err != nil {
		return result{}, "", err
	}
	if err := errors.Join(<-accepted, capturer.Register(loop, o.width, o.height)); err != nil {
		return result{}, "", err
	}
	units := make(chan unit, 64)
	go watch(ctx, p, units) // ends with ctx or the process
	r, err := feed(ctx, p, capturer, units, o)
	return r, started.Pipeline, err
}

func request(o options, path string) *pluginpb.StartEncodeRequest {
	q := &pluginpb.StartEncodeRequest{SourcePath: path, Codec: "h264", BitsPerSecond: uint32(o.bps), Fps: o.fps}
	if o.method != "" {
		q.Methods = []string{o.method}
	}
	return q
}

// unit is an access unit and when this process had it.
type unit struct {
	*pluginpb.AccessUnit
	received media.Time
}

func watch(ctx context.Context, p *pluginhost.Process, units chan<- unit) {
	_ = p.Encoder().Watch(ctx, func(e *pluginpb.EncodeEvent) error { // feed notices missing units
		if u := e.GetUnit(); u != nil {
			select {
			case units <- unit{u, media.Now()}:
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// feed sends for the length of the run, after one second that does not count.
func feed(ctx context.Context, p *pluginhost.Process, c *encodetest.Capturer, units <-chan unit, o options) (result, error) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / o.fps))
	defer tick.Stop()
	warm, total := o.warm(), o.warm()+o.counted()
	var r result
	var before, ownBefore time.Duration
	b := &brush{painter: newPainter(o), drawn: map[*byte]bool{}}
	for sent := 0; sent < total; {
		select {
		case <-tick.C:
			if sent == warm {
				var err error
				if before, err = cpuTime(p.PID()); err != nil {
					return r, err
				}
				ownBefore = clock(unix.CLOCK_PROCESS_CPUTIME_ID)
				r.latencies, r.handoffs, r.returns = nil, nil, nil
			}
			switch err := c.Send(b.draw); {
			case errors.Is(err, encodetest.ErrNoCredit):
				r.dropped++ // the machine is busy with something else
			case err != nil:
				return r, fmt.Errorf("picture %d: %w", sent, err)
			}
			sent++
		case u := <-units:
			r.latencies = append(r.latencies, time.Duration(u.received)-time.Duration(u.CaptureTime))
			r.returns = append(r.returns, time.Duration(u.received)-time.Duration(u.EncodeTime))
			r.handoffs = append(r.handoffs, time.Duration(u.HandoffTime-u.CaptureTime))
		case <-p.Exited():
			return r, p.Err()
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
	after, err := cpuTime(p.PID())
	pictures := time.Duration(max(o.counted()-r.dropped, 1))
	r.cpu = (after - before) / pictures
	r.sender = (clock(unix.CLOCK_PROCESS_CPUTIME_ID) - ownBefore) / pictures
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
