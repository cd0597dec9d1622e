package pluginhost

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/wavry/fleet/hostruntime/pluginhost/pluginbox"
)

// Credential is the user that a plugin runs as.
type Credential struct {
	UID, GID uint32
	// Groups are the supplementary groups; nil: what opens a GPU (gpuGroupsOf, renderGroups) and nothing else.
	Groups []uint32
}

// box is c as the box takes it; nil when the plugin runs as we do.
func (c *Credential) box(role Role) (*pluginbox.User, error) {
	if c == nil {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		if int(c.UID) == os.Geteuid() && int(c.GID) == os.Getegid() {
			return nil, nil
		}
		return nil, fmt.Errorf("the host runtime runs as uid %d and only root can start a process as uid %d", os.Geteuid(), c.UID)
	}
	groups := c.Groups
	switch {
	case groups == nil && role == RoleEncode:
		groups = renderGroups()
	case groups == nil:
		groups = gpuGroupsOf(c.UID)
	}
	return &pluginbox.User{UID: c.UID, GID: c.GID, Groups: groups}, nil
}

// gpuGroups are the names of the groups that Linux distributions give a GPU's devices.
var gpuGroups = []string{"render", "video"}

// gpuGroupsOf is what the user database says of a desktop's user; empty for one that it does not know, as in a container.
func gpuGroupsOf(uid uint32) []uint32 {
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
		g, err := user.LookupGroupId(id)
		if err != nil || !slices.Contains(gpuGroups, g.Name) {
			continue
		}
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

// renderGroups are the groups that may use the GPUs of this machine, by number, since a container's database may lack their names.
func renderGroups() []uint32 {
	nodes, _ := filepath.Glob("/dev/dri/renderD*") // the pattern is good
	groups := []uint32{}
	for _, path := range nodes {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		g := info.Sys().(*syscall.Stat_t).Gid
		if g != 0 && info.Mode().Perm()&0o060 == 0o060 && !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return groups
}
