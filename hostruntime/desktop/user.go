package desktop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/asroot"
)

// User is who the processes of a desktop run as. There are no supplementary groups.
type User struct{ UID, GID uint32 }

// String is ParseUser's form.
func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// ParseUser reads UID or UID:GID.
func ParseUser(s string) (User, error) {
	uid, gid, both := strings.Cut(s, ":")
	if !both {
		gid = uid
	}
	u, errU := strconv.ParseUint(uid, 10, 32)
	g, errG := strconv.ParseUint(gid, 10, 32)
	if errU != nil || errG != nil {
		return User{}, fmt.Errorf("user %q: must be UID or UID:GID, as numbers", s)
	}
	return User{UID: uint32(u), GID: uint32(g)}, nil
}

// Nobody is the user whose files and processes are of any service that needs no rights.
var Nobody = User{65534, 65534}

// The users that desktops of root get when nobody names one: a range that systemd and Debian leave alone (systemd's UIDS-GIDS.md),
// as many as a node has desktops at most.
const (
	firstUID = 60600
	maxUsers = 64
)

// userLocks holds a lock per user of a desktop: two desktops of one user could read each other's memory.
const userLocks = "/run/wavry-desktops"

// effectiveUser applies the defaults of Config.User for a process with the given ids; nil: to be chosen when the desktop starts.
func effectiveUser(want *User, euid, egid int) (*User, error) {
	switch {
	case want == nil && euid == 0:
		return nil, nil
	case want == nil:
		return &User{UID: uint32(euid), GID: uint32(egid)}, nil
	case want.UID == 0 || want.GID == 0:
		return want, ErrRoot
	case euid != 0 && want.UID != uint32(euid):
		return want, fmt.Errorf("run desktop as uid %d: only root can, and we are uid %d", want.UID, euid)
	}
	return want, nil
}

// chooseUser finds a user that no other desktop of this machine has, and says whether it is the desktop's alone.
func (d *Desktop) chooseUser() error {
	if os.Geteuid() != 0 {
		return d.name()
	}
	if err := asroot.CheckPath(userLocks); err != nil {
		return fmt.Errorf("lock the desktop's user: %w", err)
	}
	if err := os.MkdirAll(userLocks, 0o700); err != nil {
		return fmt.Errorf("lock the desktop's user: %w", err)
	}
	var err error
	if d.cfg.User == nil {
		d.cfg.User, d.places.uid, err = freeUser(d.places.home)
		d.alone = true
	} else {
		d.places.uid, err = lockUser(d.cfg.User.UID, true)
		d.alone = d.isOwn(*d.cfg.User)
	}
	if err != nil {
		return err
	}
	return d.name()
}

// freeUser prefers the one that the home belongs to: clients of an earlier desktop in the same place know it.
func freeUser(home string) (*User, *os.File, error) {
	if info, err := os.Lstat(home); err == nil && owner(info) >= firstUID && owner(info) < firstUID+maxUsers {
		lock, err := lockUser(owner(info), true)
		return &User{owner(info), owner(info)}, lock, err
	}
	for uid := uint32(firstUID); uid < firstUID+maxUsers; uid++ {
		lock, err := lockUser(uid, false)
		if errors.Is(err, ErrUserBusy) || err == nil && len(processesOf(uid)) > 0 {
			if lock != nil {
				_ = lock.Close()
			}
			continue
		}
		return &User{uid, uid}, lock, err
	}
	return nil, nil, fmt.Errorf("choose a user: all of %d to %d are taken: %w", firstUID, firstUID+maxUsers-1, ErrUserBusy)
}

func lockUser(uid uint32, patient bool) (*os.File, error) {
	patience := lockPatience
	if !patient {
		patience = 0
	}
	lock, err := lockFile(filepath.Join(userLocks, strconv.FormatUint(uint64(uid), 10)), patience)
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("uid %d: %w", uid, ErrUserBusy)
	}
	return lock, err
}

// isOwn says whether a user that was named is the desktop's alone, so that whatever it has on this machine may be ended and removed:
// it is not the one that all services share, no account of a person's, which has a shell, and nothing else runs as it.
func (d *Desktop) isOwn(u User) bool {
	entry, found := passwd(u.UID)
	shell := entry[strings.LastIndexByte(entry, ':')+1:]
	why := ""
	used, keep := d.places.wasUsed()
	switch {
	case u.UID == Nobody.UID:
		why = "it is the one that all services share"
	case found && !strings.HasSuffix(shell, "/nologin") && !strings.HasSuffix(shell, "/false"):
		why = "it is an account with a shell"
	case used && !keep: // it was found to be our own before, and what runs now may be what it is to be emptied of
	case len(processesOf(u.UID)) > 0:
		why = fmt.Sprintf("processes %v run as it", processesOf(u.UID))
	}
	if why != "" {
		d.log.Warn("the desktop is not emptied between people: its user is not its alone; name no user, or a service's", "uid", u.UID, "cause", why)
	}
	return why == ""
}

// passwd is the user's line in the machine's database, local or not.
func passwd(uid uint32) (entry string, found bool) {
	out, err := exec.Command("getent", "passwd", strconv.FormatUint(uint64(uid), 10)).Output()
	return strings.TrimSpace(string(out)), err == nil && len(out) > 0
}

// name prepares a name for a user without one in the database: dbus-daemon does not start without, and shells show it.
func (d *Desktop) name() error {
	if _, found := passwd(d.cfg.User.UID); found {
		return nil
	}
	libraries, err := filepath.Glob("/usr/lib/*/libnss_wrapper.so")
	if err != nil || len(libraries) == 0 {
		return fmt.Errorf("uid %d is not in the user database, and dbus-daemon needs it there: %w, or useradd it",
			d.cfg.User.UID, &MissingBinaryError{Binary: "libnss_wrapper.so", Package: "libnss-wrapper"})
	}
	d.nss = libraries[0]
	return nil
}

// names writes the database that has the user, and returns the environment that makes processes read it.
func (d *Desktop) names() ([]string, error) {
	if d.nss == "" {
		return nil, nil
	}
	u := *d.cfg.User
	known, err := readOptional("/etc/passwd")
	groups, err2 := readOptional("/etc/group")
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	people, err := d.write("passwd", known+fmt.Sprintf("desktop:x:%d:%d:Desktop:%s:%s\n", u.UID, u.GID, d.places.home, shell()))
	if err != nil {
		return nil, err
	}
	group, err := d.write("group", groups+fmt.Sprintf("desktop:x:%d:\n", u.GID))
	return []string{"LD_PRELOAD=" + d.nss, "NSS_WRAPPER_PASSWD=" + people, "NSS_WRAPPER_GROUP=" + group}, err
}

// limitUser sets limits that what this process starts inherits: no POSIX message queues, which outlive their makers where nobody
// sees them, and no core dumps, which systemd-coredump keeps for the user's eyes.
func limitUser() error {
	none := unix.Rlimit{}
	if err := errors.Join(unix.Setrlimit(unix.RLIMIT_MSGQUEUE, &none), unix.Setrlimit(unix.RLIMIT_CORE, &none)); err != nil {
		return fmt.Errorf("limit what the desktop's user can leave: %w", err)
	}
	return nil
}

// credential is nil when we are that user already: an unprivileged process may not set its groups.
func (u User) credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID}
}

// own gives a path in a directory of ours to the user; a no-op unless we are root.
func (u User) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(u.UID), int(u.GID))
}

// does runs f with the user's rights.
func (u User) does(f func() error) error { return asroot.AsUser(u.UID, u.GID, f) }
