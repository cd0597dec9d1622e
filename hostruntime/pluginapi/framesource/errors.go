package framesource

import (
	"errors"
	"fmt"
)

// ErrVersion is returned when the other plugin speaks another version of this protocol; install plugins of one release.
var ErrVersion = errors.New("frame source protocol version mismatch")

// ErrNoPath is returned for an empty socket path.
var ErrNoPath = errors.New("no path given for the frame source")

// ErrSealed is returned when a shared buffer is not sealed against shrinking, so that its owner could crash us.
var ErrSealed = errors.New("shared memory is not sealed against shrinking (F_SEAL_SHRINK)")

// MessageError says what is wrong with a message of the other side.
type MessageError struct {
	Type    byte
	Problem string
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("frame source message %d: %s", e.Type, e.Problem)
}
