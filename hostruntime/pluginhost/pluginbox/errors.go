package pluginbox

import (
	"fmt"
	"syscall"
)

// StepError says at which step a plugin could not be put into its box, or not be executed. It never ran.
type StepError struct {
	Step   string // "exec", "seccomp", ...
	Detail string
	Errno  syscall.Errno // 0: not an error of the kernel
}

func (e *StepError) Error() string {
	if e.Errno == 0 {
		return fmt.Sprintf("box the plugin: %s: %s", e.Step, e.Detail)
	}
	return fmt.Sprintf("box the plugin: %s: %v", e.Step, e.Errno)
}

// Unwrap is Errno, for errors.Is.
func (e *StepError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Steps that callers tell apart.
const (
	StepExec = "exec"
	StepDir  = "working directory"
)
