package ratecontrol

import "time"

const (
	// trendWindow is how many units the line is fitted through: a third of a second at 60 Hz.
	trendWindow = 20
	// trendGain scales the slope to milliseconds of queue per window (GCC's threshold_gain and its 60-sample cap).
	trendGain = 4.0
	// overuseTime the slope must stay above the threshold.
	overuseTime = 10 * time.Millisecond
	// threshold adapts between these, so that competing flows do not starve us (GCC section 5.4); milliseconds.
	thresholdStart, thresholdMin, thresholdMax = 12.5, 6.0, 600.0
	thresholdUp, thresholdDown                 = 0.0087, 0.039
	// maxGap between two units that are still compared: longer pauses say nothing about a queue.
	maxGap = 500 * time.Millisecond
)

// trend is the slope of the one-way delay over the last units.
type trend struct {
	started       bool
	firstSent     time.Duration
	firstReceived time.Duration
	lastReceived  time.Duration
	smoothed      float64 // accumulated delay in ms, smoothed
	xs, ys        [trendWindow]float64
	n             int
	threshold     float64
	above         time.Duration
	overusing     bool
	previousSlope float64
}

// add takes one unit; sent and received are on different clocks and are only compared with their own kind.
func (t *trend) add(sent, received time.Duration) {
	if !t.started || received-t.lastReceived > maxGap || received < t.lastReceived {
		threshold := t.threshold
		*t = trend{started: true, firstSent: sent, firstReceived: received, lastReceived: received, threshold: max(threshold, thresholdMin)}
		if threshold == 0 {
			t.threshold = thresholdStart
		}
		return
	}
	delta := received - t.lastReceived
	t.lastReceived = received
	delay := ms((received - t.firstReceived) - (sent - t.firstSent))
	const smooth = 0.9 // GCC's smoothing coefficient
	t.smoothed = smooth*t.smoothed + (1-smooth)*delay
	t.xs[t.n%trendWindow], t.ys[t.n%trendWindow] = ms(received-t.firstReceived), t.smoothed
	t.n++
	if t.n >= trendWindow {
		t.detect(delta)
	}
}

func (t *trend) detect(delta time.Duration) {
	slope := t.slope()
	signal := slope * trendGain * float64(min(t.n, 60))
	switch {
	case signal > t.threshold:
		t.above += delta
		if t.above > overuseTime && slope >= t.previousSlope {
			t.overusing = true
		}
	default:
		t.above, t.overusing = 0, false
	}
	t.adapt(signal, delta)
	t.previousSlope = slope
}

func (t *trend) adapt(signal float64, delta time.Duration) {
	size := max(signal, -signal)
	if size > t.threshold+15 { // an outlier, not the path
		return
	}
	k := thresholdDown
	if size > t.threshold {
		k = thresholdUp
	}
	t.threshold += k * (size - t.threshold) * ms(min(delta, 100*time.Millisecond))
	t.threshold = max(thresholdMin, min(t.threshold, thresholdMax))
}

// slope is the least-squares line through the window.
func (t *trend) slope() float64 {
	var mx, my float64
	for i := range trendWindow {
		mx += t.xs[i] / trendWindow
		my += t.ys[i] / trendWindow
	}
	var num, den float64
	for i := range trendWindow {
		num += (t.xs[i] - mx) * (t.ys[i] - my)
		den += (t.xs[i] - mx) * (t.xs[i] - mx)
	}
	if den == 0 {
		return 0
	}
	return num / den
}

func (t *trend) overused() bool { return t.overusing }

// reset starts over after a decision, keeping what was learned about the threshold.
func (t *trend) reset() { *t = trend{threshold: t.threshold} }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
