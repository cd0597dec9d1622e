package media

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Time is CLOCK_MONOTONIC in nanoseconds. Every process of one machine reads the same clock, and Wayland, PipeWire and
// GStreamer stamp pictures with it, so stages in different processes can be subtracted.
type Time int64

// Now reads the clock. The call never blocks, so Go's scheduler needs not know: told of a call in an idle process, it wakes its
// monitor thread, which costs more than ten times as much (unix.ClockGettime does).
func Now() Time {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail on Linux: the clock id is valid and ts is writable.
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&ts)), 0)
	return Time(ts.Nano())
}

// Sub is t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Add is t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }
