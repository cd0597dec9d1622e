package transport

import "errors"

var (
	// ErrBusy is returned by SendUnit when the viewer grants no more streams: it is behind, and the unit must be skipped.
	ErrBusy = errors.New("viewer grants no more streams")
	// errTooManyHandshakes refuses a handshake while too many others are open.
	errTooManyHandshakes = errors.New("too many open handshakes")
)
