package pluginbox

import "golang.org/x/sys/unix"

const (
	// maxFiles is RLIMIT_NOFILE. A plugin has its sockets, at most 8 buffers of pictures, and what its drivers open: some dozens.
	maxFiles = 1024
	// firstClosed is the lowest descriptor that a plugin does not get: 0 to 2 are /dev/null and its output, 3 its inbox.
	firstClosed = 4
	// reportFD is where a box says why it failed; it closes when the plugin is executed.
	reportFD = 4
	// maxReport bounds what is read from there.
	maxReport = 4 << 10
	// newestKnown is the newest system call that the filter was written for (mseal, Linux 6.10). What came later has no rule, so it does
	// not exist for plugins; libraries ask for new calls and take ENOSYS for an old kernel.
	newestKnown = 462
	// umask: what a plugin creates is its own.
	umask = 0o077
)

// zeroLimits are always zero: a core dump would hold pictures.
var zeroLimits = []int{unix.RLIMIT_CORE}
