package pluginhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
)

// evilEnv makes this binary a plugin that first tries to escape; its value is what it attacks, as JSON.
const evilEnv = "WAVRY_TEST_EVIL"

// target is what an evil plugin knows of the machine.
type target struct {
	Host     int    // the host runtime's process
	Neighbor int    // another process of the plugin's own user
	Secret   string // a file of the host runtime's
	Home     string // a directory of the desktop's user
	Abstract string // the name of an abstract socket of the host's
	TCP      string // a TCP server on loopback
	Leak     int    // a descriptor that the host runtime forgot to close
	Results  string // file for what came of it, in the plugin's private directory
}

// attempt is one way out of the box. It returns nil when it worked.
type attempt struct {
	name string
	want []unix.Errno // any of them is the refusal that is meant
	// capture and encode say whose box closes it; most are both's.
	encodeOnly bool
	do         func(t target) error
}

// attempts are what an evil plugin tries before it serves.
func attempts() []attempt {
	both := func(name string, do func(t target) error, want ...unix.Errno) attempt {
		return attempt{name: name, want: want, do: do}
	}
	encode := func(name string, do func(t target) error, want ...unix.Errno) attempt {
		return attempt{name: name, want: want, do: do, encodeOnly: true}
	}
	return slices.Concat([]attempt{
		both("ptrace the host", func(t target) error { return call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(t.Host)) }, unix.EPERM),
		both("ptrace a neighbor of the same user", func(t target) error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(t.Neighbor)) }, unix.EPERM),
		both("read the host's memory", func(t target) error { return open(fmt.Sprintf("/proc/%d/mem", t.Host), unix.O_RDONLY) }, unix.EACCES, unix.EPERM),
		both("write a neighbor's memory", func(t target) error { return open(fmt.Sprintf("/proc/%d/mem", t.Neighbor), unix.O_RDWR) }, unix.EACCES, unix.EPERM),
		both("read the host's environment", func(t target) error { return open(fmt.Sprintf("/proc/%d/environ", t.Host), unix.O_RDONLY) }, unix.EACCES, unix.EPERM),
		both("open the host's files through /proc", func(t target) error { return open(fmt.Sprintf("/proc/%d/fd/0", t.Host), unix.O_RDONLY) }, unix.EACCES, unix.EPERM),
		both("process_vm_readv", func(t target) error { return call(unix.SYS_PROCESS_VM_READV, uintptr(t.Host), 0, 0, 0, 0, 0) }, unix.EPERM),
		both("process_vm_writev", func(t target) error { return call(unix.SYS_PROCESS_VM_WRITEV, uintptr(t.Host), 0, 0, 0, 0, 0) }, unix.EPERM),
		both("pidfd_open and pidfd_getfd", func(t target) error { return call(unix.SYS_PIDFD_OPEN, uintptr(t.Host), 0) }, unix.EPERM),
		both("signal the host", func(t target) error { return unix.Kill(t.Host, 0) }, unix.EPERM),
		both("signal a neighbor of the same user", func(t target) error { return unix.Kill(t.Neighbor, 0) }, unix.EPERM),
		both("signal everybody", func(target) error { return unix.Kill(-1, unix.SIGCONT) }, unix.EPERM),
		both("tgkill the host", func(t target) error { return call(unix.SYS_TGKILL, uintptr(t.Host), uintptr(t.Host), 0) }, unix.EPERM),
		both("limit the host", func(t target) error { return unix.Prlimit(t.Host, unix.RLIMIT_NOFILE, &unix.Rlimit{}, nil) }, unix.EPERM),
		both("limit a neighbor", func(t target) error { return unix.Prlimit(t.Neighbor, unix.RLIMIT_CPU, nil, &unix.Rlimit{}) }, unix.EPERM),
		both("schedule the host", func(t target) error { return unix.Setpriority(unix.PRIO_PROCESS, t.Host, 19) }, unix.EPERM, unix.EACCES),
		both("raise its own limits", func(target) error {
			return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 30, Max: 1 << 30})
		}, unix.EPERM),
		both("open the host's key", func(t target) error { return open(t.Secret, unix.O_RDONLY) }, unix.EACCES, unix.EPERM),
		both("use a descriptor that the host left open", func(t target) error {
			_, err := unix.FcntlInt(uintptr(t.Leak), unix.F_GETFD, 0)
			return err
		}, unix.EBADF),
	}, sockets(both, encode), kernel(both), []attempt{
		encode("list the desktop user's home", func(t target) error { return open(t.Home, unix.O_RDONLY|unix.O_DIRECTORY) }, unix.EACCES, unix.EPERM),
		encode("read a file there", func(t target) error { return open(filepath.Join(t.Home, "letter"), unix.O_RDONLY) }, unix.EACCES, unix.EPERM),
		encode("write to /tmp", func(target) error { return open(fmt.Sprintf("/tmp/evil-%d", os.Getpid()), unix.O_CREAT|unix.O_WRONLY) }, unix.EACCES),
		encode("write to /dev/shm", func(target) error {
			return open(fmt.Sprintf("/dev/shm/evil-%d", os.Getpid()), unix.O_CREAT|unix.O_WRONLY)
		}, unix.EACCES),
		encode("find the desktop in the environment", func(target) error {
			for _, name := range []string{"WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "CONSUL_HTTP_TOKEN", "NOMAD_TOKEN"} {
				if os.Getenv(name) != "" {
					return nil
				}
			}
			return unix.ENOENT
		}, unix.ENOENT),
		both("find a token in the environment", func(target) error {
			if os.Getenv("CONSUL_HTTP_TOKEN") != "" {
				return nil
			}
			return unix.ENOENT
		}, unix.ENOENT),
	})
}

// sockets are ways to the network and to daemons of the machine.
func sockets(both, encode func(string, func(target) error, ...unix.Errno) attempt) []attempt {
	socket := func(domain, typ, proto int) func(target) error {
		return func(target) error {
			_, err := unix.Socket(domain, typ, proto)
			return err
		}
	}
	return []attempt{
		both("TCP to loopback", func(t target) error { _, err := net.Dial("tcp", t.TCP); return err }, unix.EAFNOSUPPORT),
		both("UDP", socket(unix.AF_INET, unix.SOCK_DGRAM, 0), unix.EAFNOSUPPORT),
		both("IPv6", socket(unix.AF_INET6, unix.SOCK_STREAM, 0), unix.EAFNOSUPPORT),
		both("raw IP", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), unix.EAFNOSUPPORT),
		both("packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0), unix.EAFNOSUPPORT),
		both("netlink", socket(unix.AF_NETLINK, unix.SOCK_RAW, 0), unix.EAFNOSUPPORT),
		both("vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), unix.EAFNOSUPPORT),
		both("kernel crypto", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), unix.EAFNOSUPPORT),
		both("bluetooth", socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 0), unix.EAFNOSUPPORT),
		encode("abstract socket of the host", func(t target) error { _, err := net.Dial("unix", "@"+t.Abstract); return err }, unix.EPERM),
		encode("a daemon of the machine", func(target) error { _, err := net.Dial("unix", "/run/dbus/system_bus_socket"); return err }, unix.EPERM),
		encode("the system's log", socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), unix.EPROTONOSUPPORT),
		encode("a pair that can send anywhere", func(target) error {
			_, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
			return err
		}, unix.EPROTONOSUPPORT),
	}
}

// kernel are ways to more rights on this machine.
func kernel(both func(string, func(target) error, ...unix.Errno) attempt) []attempt {
	simple := func(nr uintptr, args ...uintptr) func(target) error {
		return func(target) error { return call(nr, args...) }
	}
	return []attempt{
		both("mount", func(target) error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") }, unix.EPERM),
		both("the new mount calls", simple(unix.SYS_FSOPEN, 0, 0), unix.EPERM),
		both("unshare a user namespace", simple(unix.SYS_UNSHARE, unix.CLONE_NEWUSER), unix.EPERM),
		both("clone into a user namespace", simple(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)), unix.EPERM),
		both("clone3", simple(unix.SYS_CLONE3, 0, 0), unix.ENOSYS),
		both("fork", simple(unix.SYS_CLONE, uintptr(unix.SIGCHLD)), unix.EPERM),
		both("run su, which is root's and setuid", func(target) error { return exec.Command("/usr/bin/su", "-c", "id").Run() }, unix.EPERM),
		both("become root", func(target) error {
			if err := syscall.Setuid(0); err != nil {
				return err
			}
			return open("/etc/shadow", unix.O_RDWR) // of a test that is root
		}, unix.EPERM, unix.EACCES),
		both("chroot", simple(unix.SYS_CHROOT, str("/")), unix.EPERM),
		both("open by handle", simple(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0), unix.EPERM),
		both("keyring", simple(unix.SYS_KEYCTL, 0, 0), unix.EPERM),
		both("bpf", simple(unix.SYS_BPF, 0, 0, 0), unix.EPERM),
		both("perf_event_open", simple(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0), unix.EPERM),
		both("userfaultfd", simple(unix.SYS_USERFAULTFD, 0), unix.EPERM),
		both("io_uring", simple(unix.SYS_IO_URING_SETUP, 1, 0), unix.ENOSYS),
		both("kexec", simple(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0), unix.EPERM),
		both("load a module", simple(unix.SYS_FINIT_MODULE, 0, str(""), 0), unix.EPERM),
		both("set the clock", simple(unix.SYS_CLOCK_SETTIME, 0, 0), unix.EPERM),
		both("personality", simple(unix.SYS_PERSONALITY, 0x0040000), unix.EPERM),
		both("a call newer than the filter", simple(newestKnownInTest+1), unix.ENOSYS),
		both("an x32 call", simple(0x40000000+unix.SYS_GETPID), unix.ENOSYS),
		both("outlive the host", simple(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0), unix.EPERM),
		both("type into the terminal", simple(unix.SYS_IOCTL, 0, 0x5412, str("x")), unix.EPERM),
		both("open the terminal", func(target) error { return open("/dev/tty", unix.O_RDWR) }, unix.ENXIO, unix.EACCES),
		both("core pattern", func(target) error { return open("/proc/sys/kernel/core_pattern", unix.O_WRONLY) }, unix.EACCES),
		both("make a device", func(target) error { return unix.Mknod("null", unix.S_IFCHR|0o666, 0x103) }, unix.EPERM),
		both("watch all files", simple(unix.SYS_FANOTIFY_INIT, 0, 0), unix.EPERM),
		both("kernel log", simple(unix.SYS_SYSLOG, 10, 0, 0), unix.EPERM),
	}
}

// newestKnownInTest repeats the box's number: the last call it knows.
const newestKnownInTest = 462

func call(nr uintptr, args ...uintptr) error {
	args = append(args, make([]uintptr, 6-len(args))...)
	_, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno != 0 {
		return errno
	}
	return nil
}

func str(s string) uintptr {
	b := append([]byte(s), 0)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

var kept [][]byte // what the kernel is shown by address

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags, 0o600)
	if err == nil {
		return unix.Close(fd)
	}
	return err
}

// result is what came of an attempt.
type result struct {
	Name  string
	Errno unix.Errno // 0: it worked
	Text  string
}

// evilMain tries everything and writes down what came of it, then serves as the fake.
func evilMain(text string) {
	var t target
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	b, err := fakeplugin.Parse(os.Getenv(fakeplugin.EnvName))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var results []result
	for _, a := range attempts() {
		if a.encodeOnly && b.Role != string(RoleEncode) {
			continue
		}
		r := result{Name: a.name}
		if err := a.do(t); err != nil {
			r.Text = err.Error()
			if !errors.As(err, &r.Errno) {
				r.Errno = 1 << 20 // refused, but not by the kernel
			}
		}
		results = append(results, r)
	}
	out, err := json.Marshal(results)
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Getenv("TMPDIR"), "results"), out, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fakeplugin.Main()
}

// machine is what the evil plugin finds: a host with secrets, servers, and a forgotten descriptor.
func machine(t *testing.T, user *Credential) target {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	secret, home := filepath.Join(dir, "host-identity.pem"), filepath.Join(dir, "home")
	err := errors.Join(os.WriteFile(secret, []byte("key"), 0o600), os.Mkdir(home, 0o700), os.WriteFile(filepath.Join(home, "letter"), []byte("dear"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	abstract := fmt.Sprintf("wavry-test-%d", os.Getpid())
	unixListener, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	leak, err := unix.FcntlInt(uintptr(leakedFile(t).Fd()), unix.F_DUPFD, 200) // without close-on-exec, as a parent of ours may leave one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = tcp.Close(), unixListener.Close(), unix.Close(leak) })
	t.Setenv("CONSUL_HTTP_TOKEN", "secret")
	t.Setenv("WAYLAND_DISPLAY", "wayland-1")
	return target{Host: os.Getpid(), Neighbor: neighbor(t, user), Secret: secret, Home: home, Abstract: abstract, TCP: tcp.Addr().String(), Leak: leak}
}

func leakedFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// neighbor is a process of the plugin's user outside the box.
func neighbor(t *testing.T, user *Credential) int {
	t.Helper()
	c := exec.Command("/bin/sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if user != nil && os.Geteuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: user.UID, Gid: user.GID}
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c.Process.Pid
}

// TestEvilPlugin proves that a plugin which is evil from its first instruction gets none of what it tries, and what it is told instead:
// both roles, as a user of its own (where only root can) and as the host runtime's own user.
func TestEvilPlugin(t *testing.T) {
	nobody := &Credential{UID: 66000, GID: 66000, Groups: []uint32{}}
	for _, c := range []struct {
		name string
		role Role
		own  bool
	}{
		{"encoder of its own user", RoleEncode, true},
		{"capture of its own user", RoleCapture, true},
		{"encoder of the host's user", RoleEncode, false},
		{"capture of the host's user", RoleCapture, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.own && os.Geteuid() != 0 {
				t.Skip("only root starts plugins as another user")
			}
			spec := fake(t, fakeplugin.Behaviour{Role: string(c.role)})
			var user *Credential
			if c.own {
				user = nobody
				users := &Users{Capture: user, Encode: user, TempDir: spec.TempDir}
				t.Cleanup(func() { _ = users.Close() })
				spec.Users = users
				if err := os.Chmod(spec.TempDir, 0o711); err != nil {
					t.Fatal(err)
				}
			}
			want := machine(t, user)
			text, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			spec.Env = append(Environ(c.role, nil), fakeplugin.Behaviour{Role: string(c.role)}.Env(), evilEnv+"="+string(text))
			p := launch(t, spec)
			judge(t, c.role, c.own, filepath.Join(p.dir.Work, "results"))
			checkStatus(t, p.PID())
		})
	}
}

// sameUser are what only the user keeps a plugin from; see Users.Gaps. Everything else holds without root too.
var sameUser = []string{"open the host's key", "schedule the host", "core pattern", "become root"}

func judge(t *testing.T, role Role, own bool, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	var results []result
	if err = errors.Join(err, json.Unmarshal(raw, &results)); err != nil {
		t.Fatal(err)
	}
	byName := map[string]result{}
	for _, r := range results {
		byName[r.Name] = r
	}
	tried := 0
	for _, a := range attempts() {
		if a.encodeOnly && role != RoleEncode || !own && slices.Contains(sameUser, a.name) {
			continue
		}
		r, done := byName[a.name]
		switch {
		case !done:
			t.Errorf("%s: not tried", a.name)
		case r.Errno == 0:
			t.Errorf("%s: it worked", a.name)
		case !slices.Contains(a.want, r.Errno):
			t.Errorf("%s: %s, want one of %v", a.name, r.Text, a.want)
		}
		tried++
	}
	t.Log(tried, "ways out tried")
	if tried < 30 {
		t.Errorf("only %d attempts", tried)
	}
}

// checkStatus reads from outside what the kernel says of the box.
func checkStatus(t *testing.T, pid int) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapInh:\t0000000000000000"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %q in\n%s", want, raw)
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()))
		if err != nil {
			continue // it just closed it
		}
		ours := strings.HasPrefix(to, "/sys/fs/cgroup/") /* opened by Go's runtime */ || to == "/dev/null" || strings.HasPrefix(to, "pipe:") || strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:")
		if !ours {
			t.Errorf("descriptor %s of the plugin is %s", f.Name(), to)
		}
	}
}

// TestPluginGetsItsOwnDirectoryOnly proves who owns what of a plugin's private directory.
func TestPluginGetsItsOwnDirectoryOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts plugins as another user")
	}
	spec := fake(t, fakeplugin.Behaviour{Role: "encode"})
	if err := os.Chmod(spec.TempDir, 0o711); err != nil {
		t.Fatal(err)
	}
	spec.Users = &Users{Encode: &Credential{UID: 66000, GID: 66000, Groups: []uint32{}}, TempDir: spec.TempDir}
	t.Cleanup(func() { _ = spec.Users.Close() })
	p := launch(t, spec)
	for path, want := range map[string]struct {
		uid  uint32
		mode os.FileMode
	}{p.dir.Path: {0, 0o711}, p.dir.Work: {66000, 0o700}, filepath.Join(p.dir.Path, lockName): {0, 0o600}} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != want.uid || info.Mode().Perm() != want.mode {
			t.Errorf("%s: uid %d mode %o, want %d and %o", path, uid, info.Mode().Perm(), want.uid, want.mode)
		}
	}
}

const racerEnv = "WAVRY_TEST_RACER"

// racerMain is a process of a plugin's user that, for as long as it lives, exchanges names in every private directory that it can write to:
// it moves what it finds away and puts a link to the victim in its place.
func racerMain(text string) {
	base, victim, _ := strings.Cut(text, ":")
	fmt.Println("racing")
	for {
		dirs, _ := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
		for _, dir := range slices.Concat(dirs, globAll(dirs)) {
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				name := filepath.Join(dir, e.Name())
				link := filepath.Join(dir, "link"+strconv.Itoa(os.Getpid()))
				if os.Symlink(victim, link) == nil {
					_ = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
					_ = os.Remove(link)
				}
			}
			_ = os.Symlink(victim, filepath.Join(dir, "units1")) // a name that earlier host runtimes used
		}
	}
}

// globAll are the directories within dirs, which a plugin's user knows by the name of its working directory even where it cannot list.
func globAll(dirs []string) []string {
	var out []string
	for _, d := range dirs {
		inner, _ := filepath.Glob(filepath.Join(d, "*"))
		out = append(out, append(inner, filepath.Join(d, workName))...)
	}
	return out
}

// TestRacer proves that no process of a plugin's user makes the host runtime, as root, change anything outside its own directories: racers
// exchange names while plugins start, watch and end. WAVRY_RACES says how often, for a long run.
func TestRacer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("without root there is nothing to win")
	}
	races := 20
	if s := os.Getenv("WAVRY_RACES"); s != "" {
		var err error
		if races, err = strconv.Atoi(s); err != nil {
			t.Fatal("WAVRY_RACES:", err)
		}
	}
	base, victims := shortDir(t), shortDir(t)
	if err := os.Chmod(base, 0o755); err != nil { // so that the racers see what begins
		t.Fatal(err)
	}
	victim := filepath.Join(victims, "shadow")
	if err := os.WriteFile(victim, []byte("root only"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := lookAll(t, victims)
	nobody := &Credential{UID: 66000, GID: 66000, Groups: []uint32{}}
	startRacers(t, nobody, base+":"+victim, base+":"+victims)
	users := &Users{Encode: nobody, TempDir: base}
	t.Cleanup(func() { _ = users.Close() })
	for i := range races {
		spec := selfSpec(t, fakeplugin.Behaviour{Role: "encode"})
		spec.TempDir, spec.Users = base, users
		race(t, spec)
		if after := lookAll(t, victims); after != before {
			t.Fatalf("won at start %d:\n%s\nwas\n%s", i+1, after, before)
		}
	}
}

// race is one life of a plugin. It may fail: the racers spoil what is theirs to spoil.
func race(t *testing.T, spec Spec) {
	ctx, cancel := contextFor(t, 5*time.Second)
	defer cancel()
	p, err := Launch(ctx, spec)
	if err != nil {
		return
	}
	defer p.Kill()
	watching, stop := contextFor(t, 20*time.Millisecond)
	defer stop()
	_ = p.Encoder().Watch(watching, ignore)
}

func startRacers(t *testing.T, user *Credential, jobs ...string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for _, job := range jobs {
		c := exec.Command("/proc/self/fd/3") // the test's binary may lie where that user has no way to
		c.ExtraFiles = []*os.File{self}
		c.Env = append(os.Environ(), racerEnv+"="+job)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Credential: &syscall.Credential{Uid: user.UID, Gid: user.GID}}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		t.Cleanup(func() { once.Do(func() { _ = c.Process.Kill(); _ = c.Wait() }) })
		if _, err := out.Read(make([]byte, 8)); err != nil {
			t.Fatal("a racer does not run:", err)
		}
	}
}

// lookAll describes a directory and all that is in it.
func lookAll(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %v %d:%d %d %d\n", path, info.Mode(), st.Uid, st.Gid, st.Size, st.Ctim.Nano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
