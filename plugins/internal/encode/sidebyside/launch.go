package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// runLaunch runs gst-launch-1.0 over the pictures at the rate; empty elements measure the source alone.
func runLaunch(ctx context.Context, pictures string, o options, elements string, trace bool) (result, error) {
	n := int(o.fps * o.seconds)
	pipeline := fmt.Sprintf("multifilesrc location=%s loop=true num-buffers=%d stop-index=%d caps=\"video/x-raw,format=BGRx,width=%d,height=%d,framerate=%d/1000,colorimetry=sRGB\" ! identity sync=true",
		pictures, n, loop-1, o.width, o.height, int(o.fps*1000))
	if elements != "" {
		pipeline += " ! " + elements
	}
	pipeline += " ! fakesink sync=false async=false"
	c := exec.CommandContext(ctx, "sh", "-c", "exec gst-launch-1.0 -q "+shellCaps(pipeline))
	var log bytes.Buffer
	c.Stderr = &log
	if trace {
		c.Env = append(os.Environ(), "GST_TRACERS=latency(flags=element)", "GST_DEBUG=GST_TRACER:7", "GST_DEBUG_NO_COLOR=1")
	}
	if err := c.Run(); err != nil {
		return result{}, fmt.Errorf("%w: %s", err, last(log.String()))
	}
	used := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	r := result{pictures: n, cpu: used / time.Duration(n)}
	if trace {
		r.latencies = latencies(log.String(), int(o.fps))
	}
	return r, nil
}

// shellCaps quotes the caps filters for the shell; the properties' own quotes are Go's and the parser's alike.
func shellCaps(pipeline string) string {
	var out []string
	for _, part := range strings.Split(pipeline, " ! ") {
		words := strings.SplitN(part, " ", 2)
		if len(words) == 2 {
			words[1] = quoteProperties(words[1])
		}
		out = append(out, strings.Join(words, " "))
	}
	return strings.Join(out, " ! ")
}

var property = regexp.MustCompile(`([a-z0-9-]+)=("(?:[^"\\]|\\.)*"|\S+)`)

func quoteProperties(s string) string {
	return property.ReplaceAllStringFunc(s, func(p string) string {
		name, value, _ := strings.Cut(p, "=")
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		return "'" + name + "=" + value + "'"
	})
}

func last(s string) string {
	if len(s) > 600 {
		s = s[len(s)-600:]
	}
	return s
}

var elementLatency = regexp.MustCompile(`element-latency.*element=\(string\)([a-z0-9]+),.*time=\(guint64\)([0-9]+)`)

// latencies adds up, picture by picture, what each element between source and sink took.
func latencies(log string, skip int) []time.Duration {
	byElement := map[string][]time.Duration{}
	for _, m := range elementLatency.FindAllStringSubmatch(log, -1) {
		ns, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil || strings.HasPrefix(m[1], "identity") {
			continue // identity waits for the picture's time
		}
		byElement[m[1]] = append(byElement[m[1]], time.Duration(ns))
	}
	var sums []time.Duration
	for _, list := range byElement {
		for i, d := range list {
			if i >= len(sums) {
				sums = append(sums, 0)
			}
			sums[i] += d
		}
	}
	return sums[min(skip, len(sums)):]
}
