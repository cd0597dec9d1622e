package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginhost"
	"github.com/wavry/fleet/plugins/internal/encode/encodetest"
)

// comparePipeWire lets the plugin and a real gst-launch-1.0 take turns at one PipeWire node. What the node costs counts for neither.
func comparePipeWire(ctx context.Context, dir string, o options) error {
	if _, err := drawPictures(dir, o); err != nil {
		return err
	}
	pw, err := encodetest.StartPipeWire(ctx, dir, fmt.Sprintf("multifilesrc loop=true location=%s/%%03d.raw ! "+
		"rawvideoparse format=bgrx width=%d height=%d framerate=%d/1 ! clocksync", dir, o.width, o.height, int(o.fps)))
	if err != nil {
		return err
	}
	defer pw.Close()
	var alone, ours, theirs []time.Duration
	var plugin, launch result
	var elements string
	for range o.rounds {
		r, text, err := withPlugin(ctx, dir, o, func(ctx context.Context, p *pluginhost.Process, path string) (result, string, error) {
			return runNode(ctx, p, path, pw, o)
		})
		if err != nil {
			return fmt.Errorf("plugin: %w", err)
		}
		elements = inner(text)
		alone, ours = append(alone, r.cpu), append(ours, r.cpu+r.sender)
		plugin.add(r)
		if r, err = runLaunch(pw, o, elements); err != nil {
			return fmt.Errorf("gst-launch-1.0: %w", err)
		}
		theirs = append(theirs, r.cpu)
		launch.add(r)
	}
	if plugin.dropped > o.rounds || launch.dropped > o.rounds { // the ends of a round may fall between two pictures
		fmt.Printf("%d and %d pictures went by: the machine was busy\n", plugin.dropped, launch.dropped)
	}
	fmt.Printf("PipeWire node, %dx%d at %v pictures per second, %d runs of %v s each\n%s\n\n", o.width, o.height, o.fps, o.rounds, o.seconds, elements)
	fmt.Printf("%-28s %12s %12s\n", "", "plugin", "gst-launch")
	reportCPU("CPU, encoder alone", alone, theirs)
	reportCPU("CPU, all of ours", ours, theirs)
	fmt.Printf("%-28s %12d %12d bytes\n", "unit, mean", plugin.bytes/max(len(plugin.latencies), 1), launch.bytes/(o.rounds*o.counted()))
	fmt.Printf("%-28s p50 %v p95 %v, of the plugin\n", "PipeWire stamp to unit", percentile(plugin.latencies, 50), percentile(plugin.latencies, 95))
	return nil
}

// runNode lets the plugin encode the node's pictures; this process gives it the node and receives the units.
func runNode(ctx context.Context, p *pluginhost.Process, path string, pw *encodetest.PipeWire, o options) (result, string, error) {
	l, err := framesource.Listen(path)
	if err != nil {
		return result{}, "", err
	}
	defer l.Close()
	var sink *framesource.Sink
	accepted := make(chan error, 1)
	go func() {
		var err error
		sink, err = l.AcceptPipeWire(pw.Open)
		accepted <- err
	}()
	if err := p.HandPath(path); err != nil {
		return result{}, "", err
	}
	started, err := p.Encoder().Start(ctx, request(o))
	if err != nil {
		return result{}, "", err
	}
	if err := <-accepted; err != nil {
		return result{}, "", err
	}
	defer sink.Close()
	first := make(chan struct{})
	units := units{first: first}
	go units.watch(ctx, p) // ends with ctx or the process
	select {
	case <-first:
	case <-ctx.Done():
		return result{}, "", errors.Join(errors.New("no unit came"), p.Err())
	}
	time.Sleep(time.Second)
	before, err := cpuTime(p.PID())
	ownBefore := clock(unix.CLOCK_PROCESS_CPUTIME_ID)
	units.take()
	time.Sleep(time.Duration(o.seconds * float64(time.Second)))
	r := units.take()
	own := clock(unix.CLOCK_PROCESS_CPUTIME_ID) - ownBefore
	after, err2 := cpuTime(p.PID())
	n := time.Duration(max(len(r.latencies), 1))
	r.cpu, r.sender, r.dropped = (after-before)/n, own/n, o.counted()-len(r.latencies)
	return r, started.Pipeline, errors.Join(err, err2)
}

// runLaunch is the CPU time per picture of a gst-launch-1.0 that reads the node with the plugin's own settings. Units leave it
// through a socket that keeps their borders, which counts them: a system call per unit, as a file would take.
func runLaunch(pw *encodetest.PipeWire, o options, elements string) (result, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return result{}, err
	}
	defer unix.Close(pair[0])
	_ = unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20) // without it a large unit ends the run with an error
	out := os.NewFile(uintptr(pair[1]), "units")
	c := pw.Command("sh", "-c", fmt.Sprintf("exec gst-launch-1.0 -q pipewiresrc path=%d do-timestamp=true keepalive-time=0 min-buffers=5 ! "+
		"'video/x-raw,format=BGRx,width=%d,height=%d' ! %s ! fdsink fd=3 sync=false", pw.Node, o.width, o.height, elements))
	c.ExtraFiles, c.Stderr = []*os.File{out}, os.Stderr
	err = c.Start()
	_ = out.Close()
	if err != nil {
		return result{}, err
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return result{}, err
	}
	unit := make([]byte, 8<<20)
	var before time.Duration
	var bytes int
	var began time.Time
	for i := 0; i < o.warm()+o.counted(); i++ {
		if i == o.warm() {
			if before, err = cpuTime(c.Process.Pid); err != nil {
				return result{}, err
			}
			began, bytes = time.Now(), 0
		}
		n, err := unix.Read(pair[0], unit)
		if n <= 0 {
			return result{}, fmt.Errorf("unit %d did not come: %w", i, err)
		}
		bytes += n
	}
	after, err := cpuTime(c.Process.Pid)
	if err != nil {
		return result{}, err
	}
	shown := int(time.Since(began).Seconds() * o.fps)
	return result{cpu: (after - before) / time.Duration(o.counted()), bytes: bytes, dropped: shown - o.counted()}, nil
}
