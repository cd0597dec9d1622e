package portal

import (
	"errors"
	"fmt"
)

// ErrBusGone is returned when the session bus closed the connection: the desktop is going down.
var ErrBusGone = errors.New("the session bus closed the connection")

// ErrPipeWireGone is returned when PipeWire closed the connection.
var ErrPipeWireGone = errors.New("PipeWire closed the connection")

// ErrDialog is returned when the portal did not answer in time: it shows a dialog, and nobody is there.
var ErrDialog = errors.New("the portal waits for a human to answer its dialog")

// RefusedError is a portal request that was answered with no.
type RefusedError struct {
	Request string // "ScreenCast.Start"
	Code    uint32 // 1: cancelled by the user, 2: ended in some other way
}

func (e *RefusedError) Error() string {
	if e.Code == 1 {
		return fmt.Sprintf("%s was cancelled by the user", e.Request)
	}
	return fmt.Sprintf("%s was ended by the portal (response %d)", e.Request, e.Code)
}
