package desktop

import (
	"fmt"
	"os"
	"syscall"
)

// User is who the processes of a desktop run as. There are no supplementary groups.
type User struct{ UID, GID uint32 }

// Nobody is the default when we are root: it exists everywhere and owns nothing.
var Nobody = User{65534, 65534}

// effectiveUser applies the defaults of Config.User for a process with the given ids.
func effectiveUser(want *User, euid, egid int) (*User, error) {
	switch {
	case want == nil && euid == 0:
		u := Nobody
		return &u, nil
	case want == nil:
		return &User{UID: uint32(euid), GID: uint32(egid)}, nil
	case want.UID == 0 || want.GID == 0:
		return want, ErrRoot
	case euid != 0 && want.UID != uint32(euid):
		return want, fmt.Errorf("run desktop as uid %d: only root can, and we are uid %d", want.UID, euid)
	}
	return want, nil
}

// credential is nil when we are that user already: an unprivileged process may not set its groups.
func (u User) credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID}
}

// own gives path to the user; a no-op unless we are root.
func (u User) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(u.UID), int(u.GID))
}
