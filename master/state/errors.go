package state

import (
	"errors"
	"fmt"

	"github.com/wavry/fleet/master/masterapi"
)

var (
	// ErrCorrupt is returned for bytes that are not what this package wrote.
	ErrCorrupt = errors.New("corrupt data")
	// ErrTooNew is returned for a snapshot or an entry of a version this program does not know; upgrade the program.
	ErrTooNew = errors.New("written by a newer version")
)

// Result is what a command did. A refusal is a result, not an error: every server comes to the same one.
type Result struct {
	// Refused is why nothing was changed; unspecified when the command was carried out.
	Refused masterapi.Reason
	Detail  string
	// Skipped says that this version does not know the command and may ignore it.
	Skipped bool
	// Changed is false when everything was already as the command wants it.
	Changed bool
	// Lease is the lease that was issued, renewed, ended or found; nil for other commands.
	Lease *Lease
	// SessionEnded says that the command ended the session of Lease.
	SessionEnded bool
}

// Err is the refusal as an error, or nil.
func (r Result) Err() error {
	if r.Refused == masterapi.Reason_REASON_UNSPECIFIED {
		return nil
	}
	return &masterapi.RefusedError{Reason: r.Refused, Detail: r.Detail}
}

func refuse(reason masterapi.Reason, format string, args ...any) Result {
	return Result{Refused: reason, Detail: fmt.Sprintf(format, args...)}
}
