package session

import (
	"errors"
	"fmt"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// ErrEnded is returned when a session is over; the viewer should ask for a new one.
var ErrEnded = errors.New("session has ended")

// ErrNoLease is returned for a lease that was never granted here or has ended; a new one must be asked for.
var ErrNoLease = errors.New("lease has no right here")

// EndedError is why Run returned.
type EndedError struct {
	Code streamwire.Code
	Text string
}

func (e *EndedError) Error() string { return fmt.Sprintf("session ended: %s: %s", e.Code, e.Text) }

// RefusedError is why a viewer was not let in; the viewer has been told.
type RefusedError struct {
	Code streamwire.Code
	Text string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("viewer refused: %s: %s", e.Code, e.Text) }
