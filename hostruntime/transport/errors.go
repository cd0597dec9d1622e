package transport

import "errors"

// ErrBusy is returned by SendUnit when the viewer grants no more streams: it is behind, and the unit must be skipped.
var ErrBusy = errors.New("viewer grants no more streams")
