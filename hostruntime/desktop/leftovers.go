package desktop

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/asroot"
)

// sharedDirs are the directories of a machine in which everybody may leave files.
var sharedDirs = []string{"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"}

// empty makes the desktop as nobody has used it: no process of the user's, an empty home, and nothing of the user's elsewhere. It
// is called between generations.
func (d *Desktop) empty() error {
	began := time.Now()
	if err := d.killUser(); err != nil {
		return err
	}
	p, u := d.places, *d.cfg.User
	err := errors.Join(p.discard(p.run), p.discard(p.home), sweep(u))
	if err == nil {
		err = errors.Join(p.makeHome(u), removeIfThere(p.used))
	}
	if err != nil {
		return fmt.Errorf("empty desktop: %w", err)
	}
	d.tenancy.change(func() { d.tenancy.used, d.tenancy.empty = false, false })
	d.log.Info("desktop emptied", "after", time.Since(began).Round(time.Millisecond))
	return nil
}

// killUser ends every process of the user's, also those that are no member of the desktop: the user is the desktop's alone.
func (d *Desktop) killUser() error {
	if !d.alone {
		return nil
	}
	adopt := func() {}
	if d.cfg.Exclusive {
		adopt = func() { reapOrphans(d.spawn, d.guardPID) }
	}
	return killEverythingOf(*d.cfg.User, adopt)
}

// killEverythingOf kills all processes of u at once, newcomers too: the kernel's kill(-1) leaves a fork no time.
func killEverythingOf(u User, adopt func()) error {
	for deadline := time.Now().Add(killGrace); ; time.Sleep(pollEvery) {
		err := asroot.AsUser(u.UID, u.GID, func() error { return unix.Kill(-1, unix.SIGKILL) })
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill the processes of uid %d: %w", u.UID, err)
		}
		adopt()
		left := processesOf(u.UID)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end desktop: processes %v of uid %d survive SIGKILL", left, u.UID)
		}
	}
}

// processesOf lists the living processes that have uid as any of their ids.
func processesOf(uid uint32) []int {
	var list []int
	for _, p := range processes() {
		if p.zombie {
			continue
		}
		status, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/status")
		if err != nil {
			continue // it ended
		}
		_, ids, _ := bytes.Cut(status, []byte("\nUid:"))
		ids, _, _ = bytes.Cut(ids, []byte("\n"))
		for id := range bytes.FieldsSeq(ids) {
			if string(id) == strconv.FormatUint(uint64(uid), 10) {
				list = append(list, p.pid)
				break
			}
		}
	}
	return list
}

// sweep removes what u, none of whose processes is left, has outside of its home: files in shared directories, System V memory,
// semaphores and queues, keys. POSIX queues it could not make (limitUser).
func sweep(u User) error {
	err := unmountOf(u)
	for _, dir := range sharedDirs {
		err = errors.Join(err, sweepDir(dir, u))
	}
	return errors.Join(err, sweepIPC(u), sweepKeys(u))
}

// sweepDir removes what is u's in a directory that nobody but root can rename things of others in.
func sweepDir(dir string, u User) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, infoErr := e.Info()
		switch {
		case errors.Is(infoErr, fs.ErrNotExist):
		case infoErr != nil:
			err = errors.Join(err, infoErr)
		case owner(info) == u.UID:
			err = errors.Join(err, os.RemoveAll(path))
		case owner(info) == 0 && info.IsDir() && info.Mode()&os.ModeSticky != 0: // such as /tmp/.X11-unix
			err = errors.Join(err, sweepDir(path, u))
		}
	}
	return err
}

// sweepIPC removes System V objects, as /proc/sysvipc lists them: key, id, and by name of the column the owner and creator.
func sweepIPC(u User) error {
	var problems []error
	for name, call := range map[string]uintptr{"shm": unix.SYS_SHMCTL, "sem": unix.SYS_SEMCTL, "msg": unix.SYS_MSGCTL} {
		text, err := os.ReadFile("/proc/sysvipc/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without
		}
		ids, err2 := ipcOf(string(text), u.UID)
		if err := errors.Join(err, err2); err != nil {
			problems = append(problems, err)
		}
		for _, id := range ids {
			args := [3]uintptr{uintptr(id), unix.IPC_RMID, 0}
			if call == unix.SYS_SEMCTL {
				args = [3]uintptr{uintptr(id), 0, unix.IPC_RMID}
			}
			if _, _, e := unix.Syscall(call, args[0], args[1], args[2]); e != 0 && e != unix.EINVAL && e != unix.EIDRM { // gone
				problems = append(problems, fmt.Errorf("remove System V %s %d: %w", name, id, e))
			}
		}
	}
	return errors.Join(problems...)
}

func ipcOf(table string, uid uint32) (ids []int, err error) {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	column := map[string]int{}
	for i, name := range strings.Fields(lines[0]) {
		column[name] = i
	}
	want := strconv.FormatUint(uint64(uid), 10)
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) < len(column) {
			return ids, fmt.Errorf("list System V objects: line %q", line)
		}
		if f[column["uid"]] != want && f[column["cuid"]] != want {
			continue
		}
		id, err := strconv.Atoi(f[1])
		if err != nil {
			return ids, fmt.Errorf("list System V objects: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// sweepKeys empties the user's keyrings; the session's is new with each generation (freshKeys).
func sweepKeys(u User) error {
	return asroot.AsUser(u.UID, u.GID, func() error {
		rings := []int{unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING}
		// The one that outlives all sessions for days is found by linking it, here to the keyring of this thread, which ends soon.
		const ours = -1
		if ring, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, ours, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err == nil {
			rings = append(rings, ring)
		} else if !withoutKeys(err) {
			return fmt.Errorf("find the persistent keyring: %w", err)
		}
		for _, ring := range rings {
			if _, err := unix.KeyctlInt(unix.KEYCTL_CLEAR, ring, 0, 0, 0); err != nil && !withoutKeys(err) {
				return fmt.Errorf("empty keyrings: %w", err)
			}
		}
		return nil
	})
}

// freshKeys gives the calling thread, and what it starts, a session keyring of its own.
func freshKeys() error {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !withoutKeys(err) {
		return fmt.Errorf("make session keyring: %w", err)
	}
	return nil
}

// withoutKeys recognises a kernel, or a container, in which nobody has keyrings.
func withoutKeys(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)
}

// mount is a line of /proc/self/mountinfo.
type mount struct{ id, path, kind, options string }

func mounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []mount
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		f, super := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(super) < 1 {
			continue
		}
		list = append(list, mount{id: f[0], path: unescape.Replace(f[4]), kind: super[0], options: super[len(super)-1]})
	}
	return list, nil
}

// unmountBelow detaches what a user has mounted by way of fusermount below a directory that only root can enter.
func unmountBelow(dir string) error {
	list, err := mounts()
	for _, m := range list {
		if strings.HasPrefix(m.path, dir+"/") {
			err = errors.Join(err, m.detach())
		}
	}
	return err
}

// unmountOf detaches every FUSE file system of u's.
func unmountOf(u User) error {
	list, err := mounts()
	for _, m := range list {
		if strings.HasPrefix(m.kind, "fuse") && strings.Contains(","+m.options+",", fmt.Sprintf(",user_id=%d,", u.UID)) {
			err = errors.Join(err, m.detach())
		}
	}
	return err
}

// detach holds the mount by a descriptor that no link led to, makes sure that it is the one, and unmounts what it holds.
func (m mount) detach() error {
	fd, err := unix.Openat2(unix.AT_FDCWD, m.path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return fmt.Errorf("unmount %s: %w", m.path, err)
	}
	defer unix.Close(fd)
	held := "/proc/self/fd/" + strconv.Itoa(fd)
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil || !strings.Contains(string(info), "mnt_id:\t"+m.id+"\n") {
		return errors.Join(err, fmt.Errorf("unmount %s: something else is there now", m.path))
	}
	if err := unix.Unmount(held, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", m.path, err)
	}
	return nil
}
