// Package gbm allocates DMA-BUFs on a GPU through libgbm, the only way to them that is the same for all drivers. The library is loaded
// when it is needed, so that a plugin starts on nodes that do not have it. Buffers are linear: every encoder can import those, and
// the compositor's one write into them per picture is not what its speed depends on.
package gbm

import "errors"

// Errors of Open.
var (
	// ErrNoCgo is returned by programs built without cgo.
	ErrNoCgo = errors.New("this program was built without cgo and cannot load libgbm")
	// ErrNoLibrary is returned when libgbm cannot be loaded; install libgbm1.
	ErrNoLibrary = errors.New("libgbm.so.1 cannot be loaded")
	// ErrNoDevice is returned when the render node's driver has no GBM backend.
	ErrNoDevice = errors.New("libgbm knows no driver for the render node")
	// ErrNoMemory is returned when the driver gives no linear buffer of that size and format.
	ErrNoMemory = errors.New("the driver gives no linear buffer")
)
