package encode

import "errors"

// ErrNotStarted is returned by calls that need a run before Start succeeded.
var ErrNotStarted = errors.New("no encoding run: call Start first")

// ErrStarted is returned by a second Start; a plugin process is one run.
var ErrStarted = errors.New("this process encodes already; start another")

// ErrStopped is returned by calls after Stop or after the run's end.
var ErrStopped = errors.New("the encoding run has ended")

// ErrWatched is returned by a second Watch while the first still runs: units go to one receiver only.
var ErrWatched = errors.New("another Watch receives the units already")

// ErrSourceGone is what a run ends with when the capture plugin left.
var ErrSourceGone = errors.New("the capture plugin closed its frame source")

// ErrHung is what a run ends with when the encoder swallows pictures.
var ErrHung = errors.New("the encoder takes pictures and gives no units")

// ErrDoubleUse is what a run ends with when the capturer sends a frame in a buffer that it was not given back.
var ErrDoubleUse = errors.New("the capture plugin reused a buffer before it was released")
