package hostruntime

import "errors"

var (
	// ErrWrongHost is returned for a lease of another host.
	ErrWrongHost = errors.New("lease names another host")
	// ErrNoSession is returned when a watcher's lease names a session that does not run here.
	ErrNoSession = errors.New("session does not run on this host")
	// ErrDraining is returned while the host takes no new sessions; ask for another host.
	ErrDraining = errors.New("host is draining")
	// ErrFull is returned when every slot is taken, also by a desktop that is not ready (NotReadyError); ask for another host.
	ErrFull = errors.New("host has no free slot")
)
