package fingerprint

import "time"

const (
	// defaultFrames of a functional trial: enough to see that pictures differ and to have a median; half a second at 60 fps.
	defaultFrames = 30
	// probeTimeout bounds one plugin: a few methods that each time out after 10 s inside it, as a wedged portal does.
	probeTimeout = 45 * time.Second
	// jointTimeout bounds the joint trial.
	jointTimeout = 15 * time.Second
	// commandTimeout bounds a tool such as gst-inspect-1.0: its very first run scans all plugins.
	commandTimeout = 10 * time.Second
	// busTimeout bounds a call on the session bus: the bus answers in microseconds, a portal that has to be started in a second.
	busTimeout = 3 * time.Second
	// waylandTimeout bounds the list of globals, a round trip to the compositor.
	waylandTimeout = 2 * time.Second
	// lookEvery is how soon changed plugin files are seen, and how soon a node on which nothing works is tried again: its desktop may
	// still be starting, or somebody may have put back what was missing.
	lookEvery = 5 * time.Second
	// maxGlobals bounds what a compositor may announce; real ones have 30 to 60.
	maxGlobals = 1000
	// wantedSocketBuffer is what QUIC wants for receiving and sending at high rates (quic-go's own figure of 7 MiB).
	wantedSocketBuffer = 7 << 20
)
