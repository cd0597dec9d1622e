package desktop

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRoot is returned when a desktop was asked to run as root: compositors refuse it, and applications would own the machine.
var ErrRoot = errors.New("a desktop does not run as root; name an unprivileged user")

// ErrBusy is returned when another desktop holds the state directory.
var ErrBusy = errors.New("another desktop uses this state directory")

// ErrUserBusy is returned when another desktop of this machine runs as the same user: the two could read each other's memory.
var ErrUserBusy = errors.New("another desktop of this machine runs as this user; name none, or another for each with -user")

// MissingBinaryError says which program is not installed and which Debian package has it.
type MissingBinaryError struct{ Binary, Package string }

func (e *MissingBinaryError) Error() string {
	return fmt.Sprintf("%s is not installed: apt-get install %s", e.Binary, e.Package)
}

// ProcessExitedError says that a process the desktop cannot do without has ended.
type ProcessExitedError struct {
	Name string
	Err  error    // as os/exec tells it; nil: status 0
	Tail []string // its last lines
}

func (e *ProcessExitedError) Error() string {
	how := "exit status 0"
	if e.Err != nil {
		how = e.Err.Error()
	}
	if len(e.Tail) == 0 {
		return fmt.Sprintf("%s ended: %s", e.Name, how)
	}
	return fmt.Sprintf("%s ended: %s; it said: %s", e.Name, how, strings.Join(e.Tail, " | "))
}

// Unwrap gives os/exec's error.
func (e *ProcessExitedError) Unwrap() error { return e.Err }
