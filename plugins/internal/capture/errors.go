package capture

import "errors"

var (
	// ErrNotStarted is returned by calls that need a running capture before Start succeeded.
	ErrNotStarted = errors.New("the capture was not started")
	// ErrStarted is returned by a second Start: a plugin process is one capture.
	ErrStarted = errors.New("the capture was started already; a plugin process is one capture run")
	// ErrNoFramerate is returned for a frame rate that is not a positive number.
	ErrNoFramerate = errors.New("the frame rate must be above 0 and at most 1000")
)

// ErrNoEncoder is why a picture is dropped while no encoder is connected.
var ErrNoEncoder = errors.New("no encoder is connected")
