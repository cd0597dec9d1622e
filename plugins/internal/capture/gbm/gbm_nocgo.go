//go:build !cgo

package gbm

import "os"

// Device cannot exist without cgo.
type Device struct{}

// Open returns ErrNoCgo.
func Open(string) (*Device, error) { return nil, ErrNoCgo }

// Allocate returns ErrNoCgo.
func (*Device) Allocate(_, _, _ uint32) (*os.File, uint32, error) { return nil, 0, ErrNoCgo }

// Close does nothing.
func (*Device) Close() error { return nil }
