// Command sidebyside compares an encoder plugin, fed through a real frame socket and watched over real gRPC, with one gst-launch-1.0
// process of the same elements and the same pictures at the same rate: CPU time per picture and latency per picture.
//
// gst-launch reads its pictures from files, which costs CPU of its own; the same process with a fakesink instead of the elements is
// measured too and taken off. The plugin's pictures lie drawn in the buffers of this process, whose CPU time to hand them over and to
// receive the units is counted: it stands for the capture plugin and the host runtime. Latency of the plugin is
// capture to unit made, with the hand-off between processes; gst-launch's is the time within its elements by GStreamer's tracer, in a
// run of its own because tracing costs.
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
	flag.Parse()
	if err := compare(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "sidebyside:", err)
		os.Exit(1)
	}
}

// result of one run: CPU time per picture, and latencies when they were measured.
type result struct {
	cpu       time.Duration
	sender    time.Duration // of this process: it hands the pictures over and receives the units
	latencies []time.Duration
	handoffs  []time.Duration // the part of a latency before the plugin had the picture
	pictures  int
	dropped   int // for want of credit: above a few the comparison says nothing
}

func compare(ctx context.Context, o options) error {
	var err error
	if o.plugin, err = filepath.Abs(o.plugin); err != nil { // a plugin starts in a directory of its own
		return err
	}
	dir, err := os.MkdirTemp("", "sidebyside")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pictures, err := drawPictures(dir, o)
	if err != nil {
		return err
	}
	var alone, ours, theirs, source []time.Duration
	var oursLatency, theirsLatency, handoffs []time.Duration
	var elements string
	dropped := 0
	for range o.rounds {
		r, text, err := runPlugin(ctx, dir, o)
		if err != nil {
			return fmt.Errorf("plugin: %w", err)
		}
		elements = inner(text)
		dropped += r.dropped
		handoffs = append(handoffs, r.handoffs...)
		alone, ours = append(alone, r.cpu), append(ours, r.cpu+r.sender)
		oursLatency = append(oursLatency, r.latencies...)
		for _, run := range []struct {
			elements string
			trace    bool
			cpu      *[]time.Duration
		}{{elements, false, &theirs}, {"", false, &source}, {elements, true, nil}} {
			r, err := runLaunch(ctx, pictures, o, run.elements, run.trace)
			if err != nil {
				return fmt.Errorf("gst-launch: %w", err)
			}
			if run.cpu != nil {
				*run.cpu = append(*run.cpu, r.cpu)
			}
			theirsLatency = append(theirsLatency, r.latencies...)
		}
	}
	if dropped > 0 {
		fmt.Printf("%d pictures were dropped: the machine was busy\n", dropped)
	}
	report(o, elements, oursLatency, theirsLatency)
	reportCPU("CPU, encoder alone", alone, theirs, source)
	reportCPU("CPU, all of ours", ours, theirs, source)
	fmt.Printf("%-28s p50 %v p95 %v, part of the plugin's latency\n", "hand-off", percentile(handoffs, 50), percentile(handoffs, 95))
	return nil
}

// inner is a plugin's pipeline without its ends.
func inner(text string) string {
	parts := strings.Split(text, " ! ")
	return strings.Join(parts[1:len(parts)-1], " ! ")
}

func report(o options, elements string, a, b []time.Duration) {
	fmt.Printf("%dx%d at %v pictures per second, %d runs of %v s each\n%s\n\n", o.width, o.height, o.fps, o.rounds, o.seconds, elements)
	fmt.Printf("%-28s %12s %12s %10s\n", "", "plugin", "gst-launch", "")
	for _, p := range []int{50, 95, 99} {
		x, y := percentile(a, p), percentile(b, p)
		fmt.Printf("%-28s %12v %12v %+9.2f ms\n", fmt.Sprintf("latency p%d", p), x.Round(time.Microsecond), y.Round(time.Microsecond), (x-y).Seconds()*1e3)
	}
}

// reportCPU compares round by round: what else the machine did was much the same within one. The median round counts.
func reportCPU(what string, ours, theirs, source []time.Duration) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = float64(ours[i]) / float64(max(theirs[i]-source[i], 1))
	}
	slices.Sort(ratios)
	fmt.Printf("%-28s %12v %12v %9.2fx (rounds %.2f to %.2f)\n", what, median(ours).Round(time.Microsecond),
		(median(theirs) - median(source)).Round(time.Microsecond), ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
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

// drawPictures writes the pictures that both sides encode to files and returns their pattern.
func drawPictures(dir string, o options) (string, error) {
	painter := newPainter(o)
	pixels := make([]byte, 4*o.width*o.height)
	for i := range loop {
		painter.Paint(pixels, i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.raw", i)), pixels, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "%03d.raw"), nil
}
