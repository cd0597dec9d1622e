package pluginhost

import "time"

const (
	// defaultStartTimeout bounds exec to handshake. A GStreamer plugin scans its registry on the very first run (1-2 s); later
	// starts take 50-150 ms.
	defaultStartTimeout = 10 * time.Second
	// defaultStopGrace is how long Kill leaves a plugin between SIGTERM and SIGKILL: enough to close a portal session, short
	// enough that a fallback fits its 2 s.
	defaultStopGrace = 500 * time.Millisecond
	// exitedGrace is how long a call that lost its connection waits to learn that the process is gone. The kernel closes sockets
	// before it reports the exit, microseconds apart.
	exitedGrace = 250 * time.Millisecond
	// pipeGrace is how long output of a dead plugin is still read.
	pipeGrace = 100 * time.Millisecond
	// maxMessage bounds a gRPC message, as on the plugin's side.
	maxMessage = 16 << 20
	// window is HTTP/2's flow-control window, per stream and connection. A keyframe must fit at once: with the default of 64 kB
	// it waits for window updates. Sized for several large keyframes; memory is used only when they are in flight.
	window = 8 << 20
	// ioBuffer of the connection's reader and writer: a typical access unit in one system call.
	ioBuffer = 256 << 10
	// unitBuffer lets a typical access unit and its header arrive with one read; of a larger one the rest is read in place.
	unitBuffer = 64 << 10
	// logLinesPerSecond and logBurst bound what one plugin may write to our log; a library in a loop must not fill a disk. More
	// lines are counted and summed up in one line.
	logLinesPerSecond = 20
	logBurst          = 100
	// tailLines and tailBytes of stderr are kept for PluginExitedError.
	tailLines = 12
	tailBytes = 2 << 10
	// handshakeBytes of stdout are kept to explain a failed handshake.
	handshakeBytes = 1 << 10
	// maxTempPath leaves room for go-plugin's own directory and socket in the 108 bytes of a unix socket's address.
	maxTempPath = 50
)
