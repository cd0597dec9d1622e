package pluginbox

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights to files by the version of Landlock that knows them.
const (
	fsRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	fsExec  = unix.LANDLOCK_ACCESS_FS_EXECUTE
	fsNodes = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	fsFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV // what a rule on a file may say
	fsFirst = 1<<13 - 1 // version 1: all but REFER, TRUNCATE, IOCTL_DEV
)

// system is what an encoder reads: programs, libraries, drivers, their configuration, and what the kernel says of the machine.
var system = []string{"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/nix", "/gnu", "/run/opengl-driver", "/sys", "/proc"}

// devices are what an encoder uses: GPUs, and those that belong to no one.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/dri", "/dev/kfd", "/dev/dma_heap",
	"/dev/udmabuf", "/dev/nvidia*"}

// Landlock is the version of Landlock that the kernel has; 0: none, or it is switched off.
func Landlock() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// ruleset is a Landlock ruleset; -1: there is no Landlock.
type ruleset int

// landlock makes the rules of s; plugin is the open binary. Any domain keeps a plugin from looking into processes outside it (ptrace,
// /proc/PID/mem); the newer ones also keep it from signalling them. An encoder's domain also bounds files and abstract sockets.
func (s Spec) landlock(plugin int) (ruleset, error) {
	version := Landlock()
	if version == 0 {
		return -1, nil
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: fsNodes}
	if s.Kind == Encode {
		attr.Handled_access_fs = handled(version)
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_SIGNAL
		if s.Kind == Encode {
			attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		}
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, errno
	}
	r := ruleset(fd)
	if s.Kind != Encode {
		return r, nil
	}
	return r, s.allow(r, attr.Handled_access_fs, plugin)
}

// handled are the rights that a version can take away.
func handled(version int) uint64 {
	h := uint64(fsFirst)
	if version >= 2 {
		h |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		h |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 5 {
		h |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return h
}

func (s Spec) allow(r ruleset, handled uint64, plugin int) error {
	problems := []error{r.add(plugin, handled&(fsExec|unix.LANDLOCK_ACCESS_FS_READ_FILE))}
	for _, paths := range []struct {
		list   []string
		rights uint64
	}{
		{system, fsRead | fsExec},
		{s.Readable, fsRead | fsExec},
		{devices, fsRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
		{s.Writable, handled &^ (fsNodes | fsExec)},
	} {
		for _, pattern := range paths.list {
			found, err := filepath.Glob(pattern)
			problems = append(problems, err)
			for _, path := range found {
				problems = append(problems, r.addPath(path, handled&paths.rights))
			}
		}
	}
	return errors.Join(problems...)
}

// addPath lets what cannot be opened be out of reach.
func (r ruleset) addPath(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return r.add(fd, rights)
}

func (r ruleset) add(fd int, rights uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fsFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}

// restrict binds this thread, and what it executes.
func (r ruleset) restrict() error {
	if r < 0 {
		return nil
	}
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
