package pluginbox

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// enter turns this process into the plugin and returns only when it could not. The order matters: what needs rights comes first, what
// takes them last, and nothing of the plugin runs before all of it.
func enter(text string) error {
	runtime.LockOSThread() // no_new_privs, seccomp and Landlock are the thread's; the others end with execve
	var s Spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return step("read the box", err)
	}
	plugin, err := unix.Open(s.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return step(StepExec, err)
	}
	rules, err := s.landlock(plugin)
	if err != nil {
		return step("landlock", err)
	}
	for _, f := range []struct {
		name string
		do   func() error
	}{
		{"namespaces", s.separate},
		{"limits", limit},
		{"descriptors", func() error { return unix.CloseRange(firstClosed, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) }},
		{"user", s.become},
		{StepDir, func() error { return unix.Chdir(s.Dir) }},
		{"capabilities", dropCapabilities},
		{"end with the host runtime", s.tie},
		{"no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"landlock", rules.restrict},
		{"seccomp", func() error { return load(s.filter(uint32(os.Getpid()))) }},
		{StepExec, func() error { return execute(plugin, s.Path) }}, // last: it does not return
	} {
		if err := f.do(); err != nil {
			return step(f.name, err)
		}
	}
	return nil
}

// separate takes the network away from an encoder, abstract sockets included. It needs root and may be forbidden in a container; seccomp
// and Landlock do not let a plugin use the network either.
func (s Spec) separate() error {
	if s.Kind != Encode || os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWIPC); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

func limit() error {
	unix.Umask(umask)
	for _, r := range zeroLimits {
		if err := unix.Setrlimit(r, &unix.Rlimit{}); err != nil {
			return err
		}
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	n := min(files.Max, maxFiles)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n})
}

func (s Spec) become() error {
	if s.User == nil {
		return nil
	}
	groups := make([]int, len(s.User.Groups))
	for i, g := range s.User.Groups {
		groups[i] = int(g)
	}
	uid, gid := int(s.User.UID), int(s.User.GID)
	return errors.Join(syscall.Setgroups(groups), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid))
}

// dropCapabilities leaves nothing to inherit; with no_new_privs not even root gets them back by execve.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

// tie makes the kernel kill the plugin when the thread that started it ends. A change of user undoes an earlier wish, and the host
// runtime may have gone before this one.
func (s Spec) tie() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != s.Parent {
		return errors.New("the host runtime is gone")
	}
	return nil
}

// execute runs the file that was opened with our rights. A script keeps its descriptor, since its interpreter opens it.
func execute(fd int, path string) error {
	var begin [2]byte
	if n, _ := unix.Pread(fd, begin[:], 0); n == 2 && string(begin[:]) == "#!" {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	empty, argv0, err := [1]byte{}, (*byte)(nil), error(nil)
	if argv0, err = unix.BytePtrFromString(path); err != nil {
		return err
	}
	argv := []*byte{argv0, nil}
	envv, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}
