package session

import (
	"errors"
	"fmt"

	"github.com/wavry/fleet/hostruntime/streamwire"
)

// ErrEnded is returned when a session is over; the viewer should ask for a new one.
var ErrEnded = errors.New("session has ended")

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
