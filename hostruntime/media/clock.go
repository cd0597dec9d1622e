package media

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is CLOCK_MONOTONIC in nanoseconds. Every process of one machine reads the same clock, and Wayland, PipeWire and
// GStreamer stamp pictures with it, so stages in different processes can be subtracted.
type Time int64

// Now reads the clock.
func Now() Time {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail on Linux: the clock id is valid and ts is writable.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return Time(ts.Nano())
}

// Sub is t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Add is t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }
