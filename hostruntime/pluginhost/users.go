package pluginhost

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/wavry/fleet/hostruntime/pluginhost/pluginbox"
)

// Users says as whom the plugins of a host run, and keeps what its encoders have in common. The zero value, and nil, run them as we
// do. Close it when no plugin runs any more.
type Users struct {
	// Capture is the desktop's user, Encode one that owns nothing else; nil: ours.
	Capture, Encode *Credential
	// TempDir is where the cache is made; empty: the system's.
	TempDir string

	mu    sync.Mutex // guards the following
	cache *TempDir
}

// of is the user of a role.
func (u *Users) of(role Role) *Credential {
	switch {
	case u == nil:
		return nil
	case role == RoleEncode:
		return u.Encode
	}
	return u.Capture
}

// cacheDir is where encoders of this host keep what is expensive to find out: GStreamer's registry (a scan takes as long as the rest of the
// start) and shaders. It is empty at the start of the host, and empty for a Users that is nil: then each process has its own.
func (u *Users) cacheDir() (string, error) {
	if u == nil {
		return "", nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cache == nil {
		d, err := newTempDir(u.TempDir, cachePrefix, u.Encode)
		if err != nil {
			return "", err
		}
		u.cache = d
	}
	return u.cache.Work, nil
}

// Gaps says what the box cannot take from plugins on this machine, and what to do; empty: nothing.
func (u *Users) Gaps() (gaps, remedy string) {
	var list, do []string
	if os.Geteuid() != 0 {
		list = append(list, fmt.Sprintf("the host runtime is not root, so plugins run as its own user (uid %d)", os.Geteuid()))
		do = append(do, "run `wavry host` as root with plugin_user and encode_user")
	}
	if pluginbox.Landlock() == 0 {
		list = append(list, "the kernel has no Landlock, so nothing but its user keeps an encoder from files")
		do = append(do, "boot with lsm=landlock,... (Linux 5.13 or newer)")
	}
	return strings.Join(list, "; "), strings.Join(do, "; ")
}

// Close removes the cache.
func (u *Users) Close() error {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cache == nil {
		return nil
	}
	d := u.cache
	u.cache = nil
	return d.Remove()
}
