// Command sidebyside compares an encoder plugin, watched over real gRPC, with one process that has the same elements and the same
// pictures at the same rate: CPU time per picture and, on the frame socket, latency per picture.
//
// With -source pipewire both read the node of a private PipeWire, and the one process is gst-launch-1.0. Its latency is not measured:
// what measures it would cost it CPU time.
//
// With -source frames the plugin is fed through a real frame socket. The one process (testdata/one.c) is gst-launch-1.0 at its best: the chain is parsed as gst-launch parses it, and the thread that
// has the pictures pushes them in. gst-launch itself has no source that hands over pictures which lie in memory: its reading of files
// would have to be taken off, and with it the cost of touching their memory first, which the plugin pays in videoconvert.
//
// On both sides the pictures lie drawn in shared memory, as a capture plugin's do: a disk's page cache lies in larger pieces, which made
// videoconvert 4 % cheaper. The plugin's latency is from the capture's stamp until this process, which stands for
// the host runtime, has the unit: two process borders. The other's is from the push until the unit is at the sink. This process's CPU
// time to hand pictures over and to receive units is counted.
//
//	go build -o bin/ ./plugins/encode-software && go run ./plugins/internal/encode/sidebyside -plugin bin/encode-software
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// options of a comparison.
type options struct {
	plugin        string
	width, height int
	fps           float64
	seconds       float64
	bps           uint
	method        string
	rounds        int
	source        string
}

func main() {
	var o options
	flag.StringVar(&o.plugin, "plugin", "bin/wavry-encode-software", "binary of the encoder plugin")
	flag.IntVar(&o.width, "width", 1280, "pixels")
	flag.IntVar(&o.height, "height", 720, "pixels")
	flag.Float64Var(&o.fps, "fps", 60, "pictures per second")
	flag.Float64Var(&o.seconds, "seconds", 8, "length of each run")
	flag.UintVar(&o.bps, "bps", 8_000_000, "bits per second")
	flag.StringVar(&o.method, "method", "", "method of the plugin; empty: its own choice")
	flag.IntVar(&o.rounds, "rounds", 3, "runs of each kind, alternating; the median counts")
	flag.StringVar(&o.source, "source", "frames", "where pictures come from: frames (a frame socket) or pipewire (a node)")
	flag.Parse()
	if err := compare(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(1)
	}
}

// counted is the number of pictures that count, warm those of the first second, which do not.
func (o options) counted() int { return int(o.fps * o.seconds) }
func (o options) warm() int    { return int(o.fps) }

// result of one run: CPU time and latencies per picture.
type result struct {
	cpu       time.Duration
	sender    time.Duration // of this process: it hands the pictures over and receives the units
	latencies []time.Duration
	handoffs  []time.Duration // the part of a latency before the plugin had the picture
	returns   []time.Duration // the part after the plugin had the unit
	bytes     int             // of all units
	dropped   int             // for want of credit: above a few the comparison says nothing
}

func compare(ctx context.Context, o options) error {
	var err error
	if o.plugin, err = filepath.Abs(o.plugin); err != nil { // a plugin starts in a directory of its own
		return err
	}
	dir, err := os.MkdirTemp("/dev/shm", "sidebyside")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	switch o.source {
	case "frames":
		return compareFrames(ctx, dir, o)
	case "pipewire":
		return comparePipeWire(ctx, dir, o)
	}
	return fmt.Errorf("source %q is neither frames nor pipewire", o.source)
}

func compareFrames(ctx context.Context, dir string, o options) error {
	pictures, err := drawPictures(dir, o)
	if err != nil {
		return err
	}
	program, err := buildOne(ctx, dir)
	if err != nil {
		return err
	}
	var alone, ours, theirs []time.Duration
	var plugin, one result // all rounds' latencies
	var elements string
	for range o.rounds {
		r, text, err := withPlugin(ctx, dir, o, func(ctx context.Context, p *pluginhost.Process, path string) (result, string, error) {
			return runFrames(ctx, p, path, o)
		})
		if err != nil {
			return fmt.Errorf("plugin: %w", err)
		}
		elements = inner(text)
		alone, ours = append(alone, r.cpu), append(ours, r.cpu+r.sender)
		plugin.add(r)
		if r, err = runOne(ctx, program, pictures, o, elements); err != nil {
			return fmt.Errorf("one process: %w", err)
		}
		theirs = append(theirs, r.cpu)
		one.add(r)
	}
	if plugin.dropped > 0 {
		fmt.Printf("%d pictures were dropped: the machine was busy\n", plugin.dropped)
	}
	report(o, elements, plugin.latencies, one.latencies)
	reportCPU("CPU, encoder alone", alone, theirs)
	reportCPU("CPU, all of ours", ours, theirs)
	for _, part := range []struct {
		name  string
		times []time.Duration
	}{{"hand-off", plugin.handoffs}, {"unit to the host", plugin.returns}} {
		fmt.Printf("%-28s p50 %v p95 %v, part of the plugin's latency\n", part.name, percentile(part.times, 50), percentile(part.times, 95))
	}
	return nil
}

// add takes over what another round measured per picture.
func (r *result) add(round result) {
	r.latencies = append(r.latencies, round.latencies...)
	r.handoffs = append(r.handoffs, round.handoffs...)
	r.returns = append(r.returns, round.returns...)
	r.bytes += round.bytes
	r.dropped += round.dropped
}

// inner is a plugin's pipeline without its ends.
func inner(text string) string {
	parts := strings.Split(text, " ! ")
	return strings.Join(parts[1:len(parts)-1], " ! ")
}

func report(o options, elements string, a, b []time.Duration) {
	fmt.Printf("%dx%d at %v pictures per second, %d runs of %v s each\n%s\n\n", o.width, o.height, o.fps, o.rounds, o.seconds, elements)
	fmt.Printf("%-28s %12s %12s %10s\n", "", "plugin", "one process", "")
	for _, p := range []int{50, 95, 99} {
		x, y := percentile(a, p), percentile(b, p)
		fmt.Printf("%-28s %12v %12v %+9.2f ms\n", fmt.Sprintf("latency p%d", p), x.Round(time.Microsecond), y.Round(time.Microsecond), (x-y).Seconds()*1e3)
	}
}

// reportCPU compares round by round: what else the machine did was much the same within one. The median round counts.
func reportCPU(what string, ours, theirs []time.Duration) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = float64(ours[i]) / float64(theirs[i])
	}
	slices.Sort(ratios)
	fmt.Printf("%-28s %12v %12v %9.2fx (rounds %.2f to %.2f)\n", what, median(ours).Round(time.Microsecond),
		median(theirs).Round(time.Microsecond), ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
}

func median(d []time.Duration) time.Duration { return percentile(d, 50) }

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)*p/100, len(s)-1)]
}

// loop is how many different pictures there are: as many as a frame socket takes buffers.
const loop = framesource.MaxBuffers

// drawPictures writes the pictures that both sides encode to files.
func drawPictures(dir string, o options) ([]string, error) {
	painter := newPainter(o)
	pixels := make([]byte, 4*o.width*o.height)
	var paths []string
	for i := range loop {
		painter.Paint(pixels, i)
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%03d.raw", i)))
		if err := os.WriteFile(paths[i], pixels, 0o600); err != nil {
			return nil, err
		}
	}
	return paths, nil
}
