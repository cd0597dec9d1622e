// Package asroot is what a process of uid 0 observes where other users have a say: it acts on what is theirs with their rights, not
// with its own, and trusts a path only when nobody else can change what it leads to. In a process of another uid both are no-ops.
package asroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// AsUser runs f with the user's rights and nothing of root's: on a thread that has the user's ids, no groups and no capabilities, and
// that ends with f. f may connect, open and signal, but start no goroutine that does so for it: that one would be root again.
func AsUser(uid, gid uint32, f func() error) error {
	if os.Geteuid() != 0 {
		return f()
	}
	if uid == 0 {
		return errors.New("act as a user: that is root")
	}
	result := make(chan error, 1)
	go onOwnThread(func() {
		if err := become(uid, gid); err != nil {
			result <- fmt.Errorf("act as uid %d: %w", uid, err)
			return
		}
		result <- f()
	})
	return <-result
}

// onOwnThread runs f on a thread that ends with it. It is never the main thread, whose parent-death signal a change of ids would clear.
func onOwnThread(f func()) {
	runtime.LockOSThread() // never unlocked when f ran here: the thread ends with the goroutine
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// become changes the ids of this thread alone, for good: raw calls, for those of package syscall change every thread.
func become(uid, gid uint32) error {
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return e
	}
	if got, _, _ := unix.RawSyscall(unix.SYS_GETEUID, 0, 0, 0); got != uintptr(uid) {
		return fmt.Errorf("the thread has uid %d", got)
	}
	return nil
}

// UntrustedPathError names a directory on the way to a path in which somebody else decides what the path leads to.
type UntrustedPathError struct{ Path, Directory, Why string }

func (e *UntrustedPathError) Error() string {
	return fmt.Sprintf("%s: root must not use a path that others can change, and %s %s; choose another place, or chown root and chmod go-w it", e.Path, e.Directory, e.Why)
}

// CheckPath makes sure that only root decides what a path leads to: every directory on the way, through links too, is root's and
// writable for nobody else, unless it is sticky as /tmp is. The last element need not exist, and if it does it must be root's. Errors are
// *UntrustedPathError, or say what could not be looked at.
func CheckPath(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	for at := path; ; at = filepath.Dir(at) {
		if err := checkOne(path, at); err != nil {
			return err
		}
		if at == "/" {
			return nil
		}
	}
}

// ReadFile reads a file that only root can have written, when we are root.
func ReadFile(path string) ([]byte, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO made in a sticky directory since we looked must not hold us
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 0 && os.Geteuid() == 0 { // made in a sticky directory since we looked
		return nil, &UntrustedPathError{path, path, fmt.Sprintf("belongs to uid %d", uid)}
	}
	return io.ReadAll(f)
}

func checkOne(path, at string) error {
	info, err := os.Lstat(at)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	mode, st := info.Mode(), info.Sys().(*syscall.Stat_t)
	switch {
	case st.Uid != 0:
		return &UntrustedPathError{path, at, fmt.Sprintf("belongs to uid %d", st.Uid)}
	case mode&os.ModeSymlink != 0:
		return checkTarget(path, at)
	case mode&os.ModeSticky != 0 && mode.IsDir():
		return nil
	case mode&0o002 != 0, mode&0o020 != 0 && st.Gid != 0:
		return &UntrustedPathError{path, at, fmt.Sprintf("has mode %04o", mode.Perm())}
	case mode&0o020 != 0 && hasACL(at):
		return &UntrustedPathError{path, at, "has an access list that lets others write (setfacl -b removes it)"}
	}
	return nil
}

// hasACL says whether users or groups are named beside owner and group. Then the group's bits are the most that any of them has.
func hasACL(path string) bool {
	n, err := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}

func checkTarget(path, link string) error {
	target, err := filepath.EvalSymlinks(link)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return CheckPath(target)
}
