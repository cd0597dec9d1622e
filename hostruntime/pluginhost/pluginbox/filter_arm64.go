package pluginbox

import "golang.org/x/sys/unix"

// auditArch is the machine whose numbers the filter compares.
const auditArch = unix.AUDIT_ARCH_AARCH64

// archDenied are calls that only this machine has.
var archDenied = []group{
	{"is an older name of a call above", unix.EPERM, []uint32{unix.SYS_KEXEC_FILE_LOAD}},
	{"is of kernels long gone", unix.ENOSYS, []uint32{unix.SYS_NFSSERVCTL}},
}
