// Package ratecontrol chooses bitrate and frame rate for one path from what the viewer reports and what QUIC measures.
//
// Delay first: the trend of the one-way delay shows a queue building long before a packet is lost (the idea of Google congestion
// control, draft-ietf-rmcat-gcc-02, with units instead of packet groups). Loss second. And never above a share of what QUIC's own
// controller would let through (window / RTT): QUIC paces and limits us whatever we wish, and what it holds back becomes delay.
// It is pure: times are arguments, viewer times only ever meet viewer times.
package ratecontrol

import "time"

// Config of a Controller. All rates are bits per second.
type Config struct {
	Min, Start, Max int
	// MaxFPS is the rate at good times; it is halved, and halved again, when the bitrate is too low for it.
	MaxFPS float64
	// Pixels per picture, for the choice of the frame rate.
	Pixels int
}

// Path is what QUIC says about the path.
type Path struct {
	RTT    time.Duration // smoothed
	Window int           // congestion window in bytes
	Sent   uint64        // packets since the start
	Lost   uint64        // packets since the start
}

// Target is what the encoder should do.
type Target struct {
	Bitrate int
	FPS     float64
}

// Reason says what held the target last; it is a metric label.
type Reason uint8

// The closed set of reasons.
const (
	ReasonRising Reason = iota
	ReasonDelay
	ReasonLoss
	ReasonWindow
)

// String is the metric label.
func (r Reason) String() string { return [...]string{"rising", "delay", "loss", "window"}[r] }

const (
	// windowShare of window/RTT is the most we use; the rest pays for headers, input, audio and bursts.
	windowShare = 0.8
	// decrease keeps this share of the received rate on overuse, as GCC does.
	decrease = 0.85
	// riseFast per second after the start and far from the last overuse, riseSlow near it.
	riseFast, riseSlow = 1.5, 1.08
	// lossHigh is where loss lowers the rate, lossLow up to where it is ignored (GCC: 10 % and 2 %).
	lossHigh, lossLow = 0.10, 0.02
	// holdAfterDecrease lets the queue drain and the reports catch up before the next decision.
	holdAfterDecrease = 300 * time.Millisecond
	// minBitsPerPixel is the floor below which fewer, better pictures look better (measured by eye on x264 ultrafast desktops).
	minBitsPerPixel = 0.015
	// interval between decisions.
	interval = 50 * time.Millisecond
)

// Controller is the state of one path. It is not safe for concurrent use.
type Controller struct {
	cfg    Config
	trend  trend
	meter  meter
	rate   float64
	knee   float64 // rate at the last overuse; 0: none yet
	reason Reason

	lastUpdate time.Duration
	lastCut    time.Duration
	cut        bool
	lastPath   Path
	lossy      float64 // smoothed share of lost packets
	behind     bool    // a unit was skipped since the last Update
}

// New returns a controller at cfg.Start.
func New(cfg Config) *Controller {
	return &Controller{cfg: cfg, rate: float64(cfg.Start)}
}

// SetLimits changes the bounds: a viewer asked for less, or the picture's size changed.
func (c *Controller) SetLimits(maxBitrate int, maxFPS float64, pixels int) {
	c.cfg.Max, c.cfg.MaxFPS, c.cfg.Pixels = maxBitrate, maxFPS, pixels
	c.rate = c.clamp(c.rate)
}

// Received takes one unit's report: when it was sent (host clock), when its last byte arrived (viewer clock), and its bytes.
// Units are reported in the order of their sequence.
func (c *Controller) Received(sent, received time.Duration, size int) {
	c.trend.add(sent, received)
	c.meter.add(received, size)
}

// Skipped says that the send queue skipped a unit because the path was behind. It keeps the delay short, so the trend alone would
// not see that the rate is too high.
func (c *Controller) Skipped() { c.behind = true }

// Update decides at now and returns the target.
func (c *Controller) Update(now time.Duration, p Path) Target {
	if c.lastUpdate != 0 && now-c.lastUpdate < interval {
		return c.target()
	}
	elapsed := min(now-c.lastUpdate, time.Second)
	if c.lastUpdate == 0 {
		elapsed = 0
	}
	c.observeLoss(p)
	c.lastUpdate = now
	switch {
	case c.cut && now-c.lastCut < holdAfterDecrease:
	case c.behind || c.trend.overused():
		c.reduce(now, ReasonDelay, decrease*c.received())
	case c.lossy > lossHigh:
		c.reduce(now, ReasonLoss, c.rate*(1-c.lossy/2))
	case c.lossy > lossLow:
		c.reason = ReasonLoss // hold
	default:
		c.rise(elapsed)
	}
	if limit := windowLimit(p); limit > 0 && c.rate > limit {
		c.rate, c.reason = limit, ReasonWindow
	}
	c.rate = c.clamp(c.rate)
	return c.target()
}

// Reason says what held the rate at the last Update.
func (c *Controller) Reason() Reason { return c.reason }

// received is the rate that arrived, or the present one before anything was measured.
func (c *Controller) received() float64 {
	if r := c.meter.rate(); r > 0 {
		return min(r, c.rate)
	}
	return c.rate
}

func (c *Controller) reduce(now time.Duration, why Reason, rate float64) {
	c.knee = c.rate
	c.rate, c.reason = min(rate, c.rate), why
	c.cut, c.lastCut, c.behind = true, now, false
	c.trend.reset()
}

func (c *Controller) rise(elapsed time.Duration) {
	factor := riseFast
	if c.knee > 0 && c.rate > 0.8*c.knee {
		factor = riseSlow
	}
	c.rate *= 1 + (factor-1)*elapsed.Seconds()
	// A desktop at rest sends far less than allowed. Nothing proves the path for more than twice what went through.
	if r := c.meter.rate(); r > 0 {
		c.rate = min(c.rate, max(2*r, float64(c.cfg.Start)))
	}
	if c.knee > 0 && c.rate > 1.5*c.knee {
		c.knee = 0 // the path changed for the better
	}
	c.reason = ReasonRising
}

// observeLoss smooths the share of packets lost between two updates.
func (c *Controller) observeLoss(p Path) {
	sent, lost := p.Sent-c.lastPath.Sent, p.Lost-c.lastPath.Lost
	if p.Lost < c.lastPath.Lost { // spurious losses were taken back
		lost = 0
	}
	c.lastPath = p
	if sent == 0 || sent > 1<<40 {
		return
	}
	const smooth = 0.2 // about five updates: a single burst is not a lossy path
	c.lossy += smooth * (min(float64(lost)/float64(sent), 1) - c.lossy)
}

func windowLimit(p Path) float64 {
	if p.Window <= 0 || p.RTT <= 0 {
		return 0
	}
	return windowShare * float64(p.Window*8) / p.RTT.Seconds()
}

func (c *Controller) clamp(rate float64) float64 {
	return max(float64(c.cfg.Min), min(rate, float64(c.cfg.Max)))
}

func (c *Controller) target() Target {
	fps := c.cfg.MaxFPS
	for range 2 {
		if fps <= 15 || c.rate >= minBitsPerPixel*float64(c.cfg.Pixels)*fps {
			break
		}
		fps /= 2
	}
	return Target{Bitrate: int(c.rate), FPS: fps}
}
