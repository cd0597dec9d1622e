package relay

import "errors"

var (
	// ErrNoKeys is why a relay is not ready before it has any signing key to verify leases with.
	ErrNoKeys = errors.New("no signing keys yet")
	// ErrDraining is why a relay that is leaving is not ready.
	ErrDraining = errors.New("draining")
	// ErrFull is why a relay at its limit of circuits or bandwidth is not ready.
	ErrFull = errors.New("at capacity")
	// ErrNotRunning is why a relay is not ready before Run has opened its sockets and after it has closed them.
	ErrNotRunning = errors.New("not running")
	// ErrHandedOver is returned by Run after a successor took over sockets and circuits; the process should exit cleanly.
	ErrHandedOver = errors.New("handed over to the successor")
	// ErrUnsupported is returned where this platform lacks what the configuration demands.
	ErrUnsupported = errors.New("not supported on this platform")
)
