package pluginbox

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// group is what a plugin has no business with, and why.
type group struct {
	why   string
	errno unix.Errno
	calls []uint32
}

// denied are the groups of every box. It is a list of what is forbidden, not of what is allowed: GPU drivers are many and not ours to test, and one
// that breaks for a harmless call costs more than it brings. What the kernel gets later is forbidden by newestKnown.
var denied = append([]group{
	{"looks into other processes", unix.EPERM, []uint32{unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE}},
	{"signals processes whose number cannot be compared", unix.EPERM, []uint32{unix.SYS_TKILL, unix.SYS_PIDFD_SEND_SIGNAL}},
	{"makes or joins namespaces", unix.EPERM, []uint32{unix.SYS_UNSHARE, unix.SYS_SETNS}},
	{"hides the flags of clone, which are checked", unix.ENOSYS, []uint32{unix.SYS_CLONE3}},
	{"changes the file system's tree", unix.EPERM, []uint32{unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR,
		unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_ACCT, unix.SYS_MKNODAT}},
	{"opens files without a path", unix.EPERM, []uint32{unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
		unix.SYS_FANOTIFY_MARK}},
	{"runs code in the kernel", unix.EPERM, []uint32{unix.SYS_BPF, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
		unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT}},
	{"has been the way into the kernel too often", unix.EPERM, []uint32{unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_LOOKUP_DCOOKIE,
		unix.SYS_VHANGUP, unix.SYS_SYSLOG}},
	{"does other calls past this filter", unix.ENOSYS, []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER}},
	{"keeps secrets of the session", unix.EPERM, []uint32{unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY}},
	{"changes the machine", unix.EPERM, []uint32{unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME}},
	{"moves memory of others", unix.EPERM, []uint32{unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY}},
}, archDenied...)

// ioctls that write into a terminal as if a person typed.
const (
	tiocsti   = 0x5412
	tioclinux = 0x541c
)

// filter is the program for a process with number self. Arguments are compared by their lower half: the kernel takes these as int.
func (s Spec) filter(self uint32) []unix.SockFilter {
	p := program{}
	p.begin()
	for _, g := range denied {
		for _, nr := range g.calls {
			p.deny(nr, g.errno)
		}
	}
	p.onlyProcesses(self)
	p.onlyThreads()
	p.sockets(s.Kind)
	p.refuse(unix.SYS_IOCTL, 1, unix.EPERM, tiocsti, tioclinux)
	p.refuse(unix.SYS_PRCTL, 0, unix.EPERM, unix.PR_SET_PDEATHSIG) // else it outlives the host runtime
	p.only(unix.SYS_PERSONALITY, 0, unix.EPERM, 0, 0xffffffff)     // 0xffffffff only asks
	return append(p, ret(unix.SECCOMP_RET_ALLOW))
}

// onlyProcesses leaves a plugin itself to signal and to limit.
func (p *program) onlyProcesses(self uint32) {
	for _, nr := range []uint32{unix.SYS_KILL, unix.SYS_TGKILL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO} {
		p.only(nr, 0, unix.EPERM, self)
	}
	p.only(unix.SYS_PRLIMIT64, 0, unix.EPERM, 0, self)
}

// onlyThreads makes a plugin one process: nothing of it can be left when the host runtime kills it.
func (p *program) onlyThreads() {
	*p = append(*p, jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4), load32(argument(0)),
		jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0), fail(unix.EPERM), ret(unix.SECCOMP_RET_ALLOW))
}

// sockets leaves unix sockets; to an encoder only those that cannot send to an address, and no way to connect them: it is handed
// connections, and reaches no daemon of the machine.
func (p *program) sockets(kind Kind) {
	p.only(unix.SYS_SOCKET, 0, unix.EAFNOSUPPORT, unix.AF_UNIX)
	p.only(unix.SYS_SOCKETPAIR, 0, unix.EAFNOSUPPORT, unix.AF_UNIX)
	if kind != Encode {
		return
	}
	for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		p.block(nr, load32(argument(1)), alu(unix.BPF_AND, 0xf), // the type without SOCK_CLOEXEC and SOCK_NONBLOCK
			jump(unix.BPF_JEQ, unix.SOCK_STREAM, 2, 0), jump(unix.BPF_JEQ, unix.SOCK_SEQPACKET, 1, 0), fail(unix.EPROTONOSUPPORT))
	}
	p.deny(unix.SYS_CONNECT, unix.EPERM)
}

// program is made of blocks that begin with the system call's number in the accumulator, and end with it or return.
type program []unix.SockFilter

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

func argument(n uint32) uint32 { return offArgs + 8*n } // its lower half: little-endian

// begin ends a process that speaks another machine's language, whose numbers mean other calls, and knows no call that came later.
func (p *program) begin() {
	*p = append(*p, load32(offArch), jump(unix.BPF_JEQ, auditArch, 1, 0), ret(unix.SECCOMP_RET_KILL_PROCESS),
		load32(offNumber), jump(unix.BPF_JGT, newestKnown, 0, 1), fail(unix.ENOSYS))
}

func (p *program) deny(nr uint32, errno unix.Errno) {
	*p = append(*p, jump(unix.BPF_JEQ, nr, 0, 1), fail(errno))
}

// only fails a call whose argument n is none of values.
func (p *program) only(nr, n uint32, errno unix.Errno, values ...uint32) {
	block := []unix.SockFilter{load32(argument(n))}
	for i, v := range values {
		block = append(block, jump(unix.BPF_JEQ, v, uint8(len(values)-i), 0))
	}
	p.block(nr, append(block, fail(errno))...)
}

// refuse fails a call whose argument n is one of values.
func (p *program) refuse(nr, n uint32, errno unix.Errno, values ...uint32) {
	block := []unix.SockFilter{load32(argument(n))}
	for _, v := range values {
		block = append(block, jump(unix.BPF_JEQ, v, 0, 1), fail(errno))
	}
	p.block(nr, block...)
}

// block is for one call; whoever falls out of its end goes on with the next block.
func (p *program) block(nr uint32, block ...unix.SockFilter) {
	*p = append(*p, jump(unix.BPF_JEQ, nr, 0, uint8(len(block)+1)))
	*p = append(*p, block...)
	*p = append(*p, load32(offNumber))
}

func load32(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func alu(op uint16, k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | op | unix.BPF_K, K: k}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

func fail(errno unix.Errno) unix.SockFilter { return ret(unix.SECCOMP_RET_ERRNO | uint32(errno)) }

// load binds this thread, and what it executes, to the filter.
func load(filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}
