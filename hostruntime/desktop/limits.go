package desktop

import "time"

// Limits.
const (
	// MaxStateDir in bytes: the longest socket below it is run/system_bus.socket with sway's IPC name as long, and sun_path has 108.
	MaxStateDir = 72
	// tailLines of each process are kept for the error that reports its death.
	tailLines = 12
	// maxLine of a process's output; longer lines are cut.
	maxLine = 4096
	// maxStartFailures in a row end Run, so that whoever supervises us (a person, Nomad) learns that waiting does not help.
	maxStartFailures = 5
	// socketTimeout is how long buses, compositor and PipeWire may take to answer: gnome-shell takes 3 s on two idle cores without
	// a GPU, and ten times that when they are busy.
	socketTimeout = 30 * time.Second
	// portalTimeout bounds the first call to the portal, which starts it and its backend. A desktop without a portal is still one.
	portalTimeout = 10 * time.Second
	// overviewTimeout is how long gnome-shell may take from its bus name to its overview; 0.2 to 1 s were seen.
	overviewTimeout = 5 * time.Second
	// pollEvery is how often a thing that gives no signal is looked at while starting or stopping.
	pollEvery = 25 * time.Millisecond
	// pingEvery and pingTimeout find a compositor that lives but does not answer; it must fail maxPings times in a row, for a
	// machine under load stalls too.
	pingEvery   = 5 * time.Second
	pingTimeout = 10 * time.Second
	maxPings    = 2
	// termGrace is what processes get between SIGTERM and SIGKILL; killGrace is how long a killed process may take to disappear.
	termGrace = 2 * time.Second
	killGrace = 5 * time.Second
	// reapEvery bounds how many zombies lie around: a desktop's orphans end rarely.
	reapEvery = 2 * time.Second
	// guardGrace is termGrace after our own violent death, when there is nothing to save.
	guardGrace = 500 * time.Millisecond
	// lockPatience lets a guard of a killed predecessor finish before the state directory counts as busy.
	lockPatience = 2 * time.Second
	// firstRetry doubles up to maxRetry for restarts of the stack and of single processes.
	firstRetry = 250 * time.Millisecond
	maxRetry   = 15 * time.Second
	// steadyAfter a process has run this long its next death is a new story and is answered quickly again.
	steadyAfter = 10 * time.Second
)

// The sizes of an output that all three compositors take.
var (
	MinSize = Size{320, 240}
	MaxSize = Size{7680, 4320}
)
