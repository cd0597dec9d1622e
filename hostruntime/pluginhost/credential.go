package pluginhost

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// Credential is the user that a plugin runs as.
type Credential struct {
	UID, GID uint32
	// Groups are the supplementary groups; nil: those of the user database (video and render open the GPU).
	Groups []uint32
}

// system turns c into the kernel's form; nil when the plugin runs as we do.
func (c *Credential) system() (*syscall.Credential, error) {
	if c == nil || (int(c.UID) == os.Geteuid() && int(c.GID) == os.Getegid() && c.Groups == nil) {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("the host runtime runs as uid %d and only root can start a process as uid %d", os.Geteuid(), c.UID)
	}
	groups := c.Groups
	if groups == nil {
		groups = groupsOf(c.UID)
	}
	return &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: groups}, nil
}

// groupsOf is empty for a user the database does not know, as in a container.
func groupsOf(uid uint32) []uint32 {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var groups []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}
