package pluginbox

import "golang.org/x/sys/unix"

// auditArch is the machine whose numbers the filter compares. The x32 numbers, which have a high bit, are beyond newestKnown.
const auditArch = unix.AUDIT_ARCH_X86_64

// archDenied are calls that only this machine has.
var archDenied = []group{
	{"is an older name of a call above", unix.EPERM, []uint32{unix.SYS_MKNOD, unix.SYS_KEXEC_FILE_LOAD}},
	{"makes a process", unix.EPERM, []uint32{unix.SYS_FORK, unix.SYS_VFORK}},
	{"touches ports and descriptor tables of the processor", unix.EPERM, []uint32{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT}},
	{"is of kernels long gone", unix.ENOSYS, []uint32{unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_SYSFS, unix.SYS__SYSCTL, unix.SYS_CREATE_MODULE,
		unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE, unix.SYS_NFSSERVCTL}},
}
