package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/wavry/fleet/hostruntime/asroot"
	"github.com/wavry/fleet/hostruntime/pluginhost"
)

// Names of checks that code refers to; the others are written once.
const (
	checkCompositor = "compositor"
	checkGStreamer  = "gstreamer"
)

// node is the machine as the plugins see it. Tests replace its parts.
type node struct {
	env map[string]string
	uid int // of the desktop's plugins
	// encode is the encoders' user; nil: uid.
	encode *pluginhost.Credential
	root   string // of the file system: "/" but in tests
	// output runs a tool and returns what it printed.
	output func(ctx context.Context, name string, args ...string) (string, error)
	dial   func(network, address string) (net.Conn, error)
	// as runs f with the rights of the session's user, who decides what the paths of its sockets lead to.
	as func(f func() error) error
	// box says how well plugins are boxed; nil: not asked.
	box func() Check
}

func newNode(environ []string, users *pluginhost.Users) *node {
	n := &node{env: map[string]string{}, uid: os.Geteuid(), root: "/", as: func(f func() error) error { return f() }}
	n.dial = func(network, address string) (c net.Conn, err error) {
		err = n.as(func() (err error) { c, err = net.Dial(network, address); return err })
		return c, err
	}
	for _, kv := range pluginhost.Environ(pluginhost.RoleCapture, environ) {
		key, value, _ := strings.Cut(kv, "=")
		n.env[key] = value
	}
	if users == nil {
		users = &pluginhost.Users{}
	}
	owner := users.Capture
	n.encode = users.Encode
	n.box = func() Check { return plugins(users) }
	n.output = func(ctx context.Context, name string, args ...string) (string, error) {
		return n.run(ctx, owner, name, args...)
	}
	if owner != nil && owner.UID == 0 {
		n.uid = 0
	} else if owner != nil {
		n.uid = int(owner.UID)
		n.as = func(f func() error) error { return asroot.AsUser(owner.UID, owner.GID, f) }
	} else if info, err := os.Lstat(n.env["XDG_RUNTIME_DIR"]); err == nil && os.Geteuid() == 0 {
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 0 { // root looks at somebody's session
			n.as = func(f func() error) error { return asroot.AsUser(st.Uid, st.Gid, f) }
		}
	}
	return n
}

// run starts a tool as the plugins' user, in their environment, so that it sees their session.
func (n *node) run(ctx context.Context, owner *pluginhost.Credential, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = nil
	for k, v := range n.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if owner != nil && int(owner.UID) != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.UID, Gid: owner.GID}}
	}
	out, err := cmd.Output()
	return string(out), err
}

func (n *node) path(p string) string { return filepath.Join(n.root, p) }

// check runs every check in the order in which problems build on each other.
func (n *node) check(ctx context.Context, r *Result) {
	for _, f := range []func(context.Context, *Result) Check{
		n.user, n.runtimeDir, n.compositor, n.bus, n.portal, n.pipewire, n.gstreamer, n.elements, n.drm, n.nvidia, n.udpBuffers,
	} {
		r.Checks = append(r.Checks, f(ctx, r))
	}
	if n.box != nil {
		r.Checks = append(r.Checks, n.box())
	}
	n.packages(ctx, r)
}

// plugins: what a plugin could do beyond its work.
func plugins(users *pluginhost.Users) Check {
	const name = "plugin_box"
	if gaps, remedy := users.Gaps(); gaps != "" {
		return warn(name, remedy, "seccomp holds, but %s", gaps)
	}
	if users.Encode == nil {
		return warn(name, "set encode_user", "seccomp and Landlock hold, but encoders run as root")
	}
	return ok(name, "seccomp, Landlock; encoders run as uid %d", users.Encode.UID)
}

func ok(name, format string, args ...any) Check {
	return Check{Name: name, Verdict: OK, Detail: fmt.Sprintf(format, args...)}
}

func warn(name, remedy, format string, args ...any) Check {
	return Check{Name: name, Verdict: Warn, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(name, remedy, format string, args ...any) Check {
	return Check{Name: name, Verdict: Fail, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// user: compositors and PipeWire belong to an ordinary user, and root is not one.
func (n *node) user(context.Context, *Result) Check {
	if n.uid == 0 {
		return warn("user", "run as the desktop's user, or set plugin_user", "plugins run as root, whom sway, PipeWire and most session buses refuse")
	}
	return ok("user", "plugins run as uid %d", n.uid)
}

func (n *node) runtimeDir(context.Context, *Result) Check {
	const name = "runtime_dir"
	remedy := fmt.Sprintf("log the user in (systemd makes /run/user/%d), or make a directory of that user with mode 0700 and export XDG_RUNTIME_DIR", n.uid)
	dir := n.env["XDG_RUNTIME_DIR"]
	if dir == "" {
		return fail(name, remedy, "XDG_RUNTIME_DIR is not set: no socket of the session can be found")
	}
	info, err := os.Stat(n.path(dir))
	switch {
	case err != nil:
		return fail(name, remedy, "%v", err)
	case !info.IsDir():
		return fail(name, remedy, "%s is no directory", dir)
	case info.Mode().Perm()&0o077 != 0:
		return fail(name, "chmod 0700 "+dir, "%s has mode %04o, others could use the session", dir, info.Mode().Perm())
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != n.uid {
		return fail(name, "run the plugins as that user (plugin_user)", "%s belongs to uid %d, the plugins run as %d", dir, st.Uid, n.uid)
	}
	return ok(name, "%s, mode 0700", dir)
}

// drm: without a render node there is no VA-API and no DMA-BUF.
func (n *node) drm(context.Context, *Result) Check {
	const name = "drm"
	nodes, err := filepath.Glob(n.path("/dev/dri/renderD*"))
	if err != nil || len(nodes) == 0 {
		return warn(name, "give the machine or container its GPU (/dev/dri) and load the driver; encode-software works without",
			"no DRM render node under /dev/dri: no VA-API, no DMA-BUF")
	}
	var usable, locked []string
	for _, path := range nodes {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			locked = append(locked, filepath.Base(path))
			continue
		}
		_ = f.Close()
		if !n.encodersMay(path) {
			locked = append(locked, filepath.Base(path))
			continue
		}
		usable = append(usable, filepath.Base(path)+n.driver(path))
	}
	if len(usable) == 0 {
		return warn(name, "add the user to the group of the device (render or video); encoders get it by encode_groups", "%s cannot be opened", strings.Join(locked, ", "))
	}
	return ok(name, "%s", strings.Join(usable, ", "))
}

// encodersMay reports whether the encoders' user may use a device; we may, as root, in any case.
func (n *node) encodersMay(path string) bool {
	if n.encode == nil {
		return true
	}
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	st, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case mode&0o006 == 0o006:
		return true
	case mode&0o060 == 0o060:
		return n.encode.Groups == nil && st.Gid != 0 || st.Gid == n.encode.GID || slices.Contains(n.encode.Groups, st.Gid)
	}
	return st.Uid == n.encode.UID
}

// driver is the kernel driver of a render node, as sysfs names it.
func (n *node) driver(path string) string {
	target, err := os.Readlink(n.path("/sys/class/drm/" + filepath.Base(path) + "/device/driver"))
	if err != nil {
		return ""
	}
	return " (" + filepath.Base(target) + ")"
}

func (n *node) nvidia(_ context.Context, r *Result) Check {
	const name = "nvidia"
	version, err := os.ReadFile(n.path("/proc/driver/nvidia/version"))
	if errors.Is(err, fs.ErrNotExist) {
		return ok(name, "no NVIDIA driver is loaded; encode-nvenc will not be used")
	}
	if err != nil {
		return warn(name, "make /proc/driver/nvidia readable", "%v", err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	r.Versions["nvidia"] = line
	for _, dev := range []string{"/dev/nvidiactl", "/dev/nvidia0"} {
		f, err := os.OpenFile(n.path(dev), os.O_RDWR, 0)
		if err != nil {
			return warn(name, "give the container the GPU's device nodes (NVIDIA Container Toolkit, or Nomad's device plugin)", "%s, but %v", line, err)
		}
		_ = f.Close()
	}
	return ok(name, "%s", line)
}

// udpBuffers: the kernel's limit for socket buffers, too small by default for a fast path.
func (n *node) udpBuffers(context.Context, *Result) Check {
	const name = "udp_buffers"
	var small []string
	for _, key := range []string{"rmem_max", "wmem_max"} {
		b, err := os.ReadFile(n.path("/proc/sys/net/core/" + key))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a network namespace does not show it
		}
		v, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
		if err := errors.Join(err, convErr); err != nil {
			return warn(name, "look at sysctl net.core."+key, "%v", err)
		}
		if v < wantedSocketBuffer {
			small = append(small, fmt.Sprintf("net.core.%s = %d", key, v))
		}
	}
	if len(small) > 0 {
		return warn(name, fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", wantedSocketBuffer, wantedSocketBuffer),
			"%s; QUIC wants %d", strings.Join(small, ", "), wantedSocketBuffer)
	}
	return ok(name, "at least %d bytes", wantedSocketBuffer)
}

// pinned are the packages whose versions decide what works.
var pinned = []string{
	"gnome-shell", "gstreamer1.0-libav", "gstreamer1.0-pipewire", "gstreamer1.0-plugins-bad", "gstreamer1.0-plugins-base",
	"gstreamer1.0-plugins-good", "gstreamer1.0-plugins-ugly", "intel-media-va-driver", "kwin-wayland", "libgstreamer1.0-0", "libpipewire-0.3-0",
	"libva2", "mesa-va-drivers", "mutter", "pipewire", "sway", "wireplumber", "xdg-desktop-portal", "xdg-desktop-portal-gnome",
	"xdg-desktop-portal-kde", "xdg-desktop-portal-wlr",
}

// packages adds Debian's versions, where there is a dpkg.
func (n *node) packages(ctx context.Context, r *Result) {
	out, err := n.output(ctx, "dpkg-query", append([]string{"-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"}, pinned...)...)
	if out == "" && err != nil {
		return // no dpkg here
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "installed" && slices.Contains(pinned, f[1]) {
			r.Versions["package/"+f[1]] = f[2]
		}
	}
}
