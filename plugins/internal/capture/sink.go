package capture

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isEncoderGone reports that an encoder left while it was being greeted: the next one may come.
func isEncoderGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}
