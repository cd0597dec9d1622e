package pluginhost

import (
	"errors"
	"fmt"
	"os"
)

// What a LaunchError is about, for errors.Is.
var (
	ErrMissing       = errors.New("plugin binary is missing")
	ErrNotExecutable = errors.New("plugin binary cannot be executed")
	ErrNotPlugin     = errors.New("binary is not a Wavry plugin")
	ErrVersion       = errors.New("plugin speaks another protocol version")
	ErrTimeout       = errors.New("plugin did not answer the handshake in time")
	ErrChecksum      = errors.New("plugin binary has an unexpected checksum")
	ErrCredential    = errors.New("plugin cannot run as that user")
	ErrTempDir       = errors.New("private directory cannot be used")
	ErrBox           = errors.New("plugin cannot be put into its box")
)

// ErrRole is returned by calls on the wrong kind of plugin: Capture of an encoder plugin, or the reverse.
var ErrRole = errors.New("plugin does not have this role")

// LaunchError says why a plugin could not be started and what to do.
type LaunchError struct {
	Path   string
	Kind   error  // one of the sentinels above
	Reason string // one sentence
	Remedy string
}

func (e *LaunchError) Error() string {
	return fmt.Sprintf("start plugin %s: %s; %s", e.Path, e.Reason, e.Remedy)
}

// Unwrap is Kind.
func (e *LaunchError) Unwrap() error { return e.Kind }

// PluginExitedError is returned by every call on a plugin whose process is gone.
type PluginExitedError struct {
	Backend string // the binary's name without directory
	// Status is nil when the plugin was never waited for; see os.ProcessState.
	Status *os.ProcessState
	// Tail is the end of what the plugin wrote to stderr, at most tailLines lines: a panic or an assertion of a library.
	Tail string
}

func (e *PluginExitedError) Error() string {
	if e.Tail == "" {
		return fmt.Sprintf("plugin %s exited: %s", e.Backend, e.Status)
	}
	return fmt.Sprintf("plugin %s exited: %s: %s", e.Backend, e.Status, e.Tail)
}
