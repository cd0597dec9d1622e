//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/hostruntime/streamwire"
	"github.com/wavry/fleet/test/rig"
)

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(pictureLimit)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for %s", pictureLimit, what)
		}
	}
}

// tempDir is short: unix sockets are made in it, and their addresses have 108 bytes.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wavryt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // plugins may be another user's
		t.Fatal(err)
	}
	return dir
}

// standalone starts a host of its own with a directory for temporary files, which also marks its processes.
func standalone(t *testing.T, temp string, environ []string, args ...string) *rig.Process {
	t.Helper()
	environ = append(environ, "TMPDIR="+temp)
	return rig.Start(t, environ, append([]string{"host", "-standalone", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir()}, args...)...)
}

// marked are the processes whose environment has the directory for temporary files, by their binary.
func marked(t *testing.T, temp string) map[int]string {
	t.Helper()
	found := map[int]string{}
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(environ, []byte("TMPDIR="+temp+"\x00")) {
			continue // it ended, or is not ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if exe, err := os.Readlink(filepath.Dir(path) + "/exe"); err == nil {
			found[pid] = filepath.Base(exe)
		}
	}
	return found
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// ofSessions are files without the cache that a host's encoders share while it lives.
func ofSessions(t *testing.T, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(files(t, dir), func(name string) bool { return strings.HasPrefix(name, "wavry-cache") })
}

// metric reads one value of a host's metrics.
func (c *client) metric(name string) float64 {
	c.t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(c.get("/metrics"))
	if m == nil {
		c.t.Fatalf("no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return v
}

// Sessions that end in every way, plugins killed in the middle of some, leave no process, descriptor, goroutine, temporary file or
// memory behind while the host lives; and nothing at all when it has ended.
func TestSessionsLeaveNothing(t *testing.T) {
	temp := tempDir(t)
	host := standalone(t, temp, nil, "-capture", "capture-test", "-encode", "encode-software", "-grace", "3s") // the first viewer must come within it too
	c := signIn(t, host.SignIn())
	kill := func(name string) func(*visit) {
		return func(v *visit) {
			if err := syscall.Kill(rig.Child(t, host.PID(), name), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			v.pictures(2)
			v.leave()
		}
	}
	ends := []func(*visit){
		(*visit).leave,
		func(v *visit) { v.Close() },
		kill("wavry-encode-software"),
		kill("wavry-capture-test"),
		(*visit).leave,
	}
	over := func() bool {
		return len(marked(t, temp)) == 1 && len(ofSessions(t, temp)) == 0 && strings.Contains(c.get("/v1/desktops"), `"free":1`)
	}
	run := func() {
		for i, end := range ends {
			v := c.connect()
			v.pictures(5)
			end(v)
			eventually(t, fmt.Sprintf("session %d to leave nothing", i), over)
		}
	}
	run() // caches and pools fill
	settle := func(name string, most float64) float64 {
		var now float64
		eventually(t, fmt.Sprintf("%s to be at most %g", name, most), func() bool { now = c.metric(name); return now <= most })
		return now
	}
	eventually(t, "the last connections to be forgotten", func() bool { return c.metric("go_goroutines") < 60 })
	fds, goroutines, memory := c.metric("process_open_fds"), c.metric("go_goroutines"), c.metric("process_resident_memory_bytes")
	run()
	settle("process_open_fds", fds)
	settle("go_goroutines", goroutines)
	settle("process_resident_memory_bytes", memory+32<<20)
	host.Stop()
	if left, names := marked(t, temp), files(t, temp); len(left) > 0 || len(names) > 0 {
		t.Errorf("left processes %v and files %v", left, names)
	}
}

// A host that is killed takes its plugins along, and the next host removes the files that it could not.
func TestKilledHostIsCleanedUpAfter(t *testing.T) {
	temp := tempDir(t)
	host := standalone(t, temp, nil, "-capture", "capture-test")
	signIn(t, host.SignIn()).connect().pictures(2)
	host.Kill()
	eventually(t, "the plugins to end", func() bool { return len(marked(t, temp)) == 0 })
	left := files(t, temp)
	if len(left) == 0 {
		t.Fatal("a host that was killed left nothing to remove")
	}
	for _, name := range left { // a fresh directory may belong to a host that is just starting
		then := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(temp, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	next := standalone(t, temp, nil, "-capture", "capture-test")
	v := signIn(t, next.SignIn()).connect()
	v.pictures(2)
	v.leave()
	eventually(t, "the files to go", func() bool { return len(ofSessions(t, temp)) == 0 && len(files(t, temp)) <= 1 })
}

// What cannot start says what to do, and leaves with code 1.
func TestStartRefused(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unknown := filepath.Join(t.TempDir(), "host.hcl")
	if err := os.WriteFile(unknown, []byte("slots = 1\ncolour = \"red\"\ntaste = \"sweet\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"port of viewers in use", []string{"-bind-addr", udp.LocalAddr().String()}, []string{udp.LocalAddr().String(), "in use", "-bind-addr"}},
		{"port of the page in use", []string{"-http-addr", tcp.Addr().String()}, []string{tcp.Addr().String(), "in use", "-http-addr"}},
		{"page for strangers without TLS", []string{"-http-addr", "0.0.0.0:0"}, []string{"https", "-tls-cert-file"}},
		{"unknown keys", []string{"-config", unknown}, []string{"host.hcl:2", "colour", "host.hcl:3", "taste"}},
		{"unknown plugin", []string{"-capture", "capture-dreams"}, []string{`capture = "capture-dreams"`, "install wavry-capture-dreams"}},
		{"state of somebody else", []string{"-state-dir", "/proc/1"}, []string{"/proc/1"}},
		{"unreachable address", []string{"-bind-addr", "0.0.0.0:0"}, []string{"advertise_addrs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			args := append([]string{"host", "-standalone", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir(), "-capture", "capture-test"}, c.args...)
			cmd := exec.CommandContext(ctx, rig.Bin(t, "wavry"), args...)
			out, _ := cmd.CombinedOutput() // its code is asked below
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// fakePlugins builds the plugin that misbehaves, once as a capture and once as an encoder.
func fakePlugins(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	capture := filepath.Join(dir, "wavry-capture-fake")
	build := exec.Command("go", "build", "-o", capture, "github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin/cmd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the fake plugin: %v\n%s", err, out)
	}
	if err := os.Link(capture, filepath.Join(dir, "wavry-encode-fake")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A session for which nothing works ends with a reason that says what to do, and leaves nothing behind.
func TestSessionRefused(t *testing.T) {
	fakes := fakePlugins(t)
	for _, c := range []struct {
		name string
		fake string
		args []string
		want []string
	}{
		{"no compositor", "", []string{"-capture", "capture-wayland"}, []string{"WAYLAND_DISPLAY", "host runtime inside the desktop's session"}},
		{"no encoder", "", []string{"-capture", "capture-test", "-encode", "encode-nvenc,encode-vaapi"}, []string{"encode-nvenc", "encode-vaapi", "encode-software"}},
		{"no such method", "", []string{"-capture", "capture-test/dreams"}, []string{"dreams"}},
		{"capture of another protocol version", "version=99", []string{"-plugin-dirs", fakes, "-capture", "capture-fake"}, []string{"capture-fake", "version"}},
		{"encoder of another protocol version", "version=99", []string{"-plugin-dirs", fakes, "-capture", "capture-test", "-encode", "encode-fake"}, []string{"encode-fake", "version"}},
		{"wrong descriptor", "wrong_fd", []string{"-plugin-dirs", fakes, "-capture", "capture-fake", "-encode", "encode-software"}, []string{"encode-software", "descriptor"}},
		{"garbage on the frame socket", "garbage", []string{"-plugin-dirs", fakes, "-capture", "capture-fake", "-encode", "encode-software"}, []string{"encode-software"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			temp := tempDir(t)
			environ := []string{"WAYLAND_DISPLAY=", "DBUS_SESSION_BUS_ADDRESS=", "XDG_RUNTIME_DIR="}
			if c.fake != "" {
				environ = append(environ, "WAVRY_FAKE="+c.fake)
			}
			host := standalone(t, temp, environ, c.args...)
			bye := signIn(t, host.SignIn()).connect().bye()
			t.Log(bye.Text)
			if bye.Code != streamwire.CodeHost {
				t.Errorf("code %v", bye.Code)
			}
			for _, want := range c.want {
				if !strings.Contains(bye.Text, want) {
					t.Errorf("no %q in %q", want, bye.Text)
				}
			}
			eventually(t, "the session to leave nothing", func() bool { return len(marked(t, temp)) == 1 && len(ofSessions(t, temp)) == 0 })
		})
	}
}

// A plugin that cannot be used gives way to the next one of the order inside the session.
func TestSessionFallsBack(t *testing.T) {
	fakes := fakePlugins(t)
	for _, fake := range []string{"version=99", "refuse", "handshake=exit", "garbage", "wrong_fd", "die_after=3"} {
		t.Run(fake, func(t *testing.T) {
			host := standalone(t, tempDir(t), []string{"WAVRY_FAKE=" + fake}, "-plugin-dirs", fakes,
				"-capture", "capture-fake,capture-test", "-encode", "encode-software")
			v := signIn(t, host.SignIn()).connect()
			for {
				m, err := v.messages.Next()
				if err != nil {
					t.Fatal(err)
				}
				if bye, ok := m.(*streamwire.Bye); ok {
					t.Fatal("the session ended:", bye.Text)
				}
				if s, ok := m.(*streamwire.Stats); ok && strings.Contains(s.Capture, "capture-test") {
					break
				}
			}
			v.leave()
		})
	}
}

// A compositor that dies and comes back is streamed again in the same session; one that stays away ends the session with a reason.
func TestCompositorDies(t *testing.T) {
	temp := tempDir(t)
	if err := os.Chmod(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	environ := filepath.Join(temp, "desktop.env")
	desktop := rig.Start(t, nil, "desktop", "run", "sway", "-env-file", environ)
	host := standalone(t, tempDir(t), nil, "-desktop-env-file", environ, "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland")
	v := signIn(t, host.SignIn()).connect()
	v.pictures(1)
	if err := syscall.Kill(rig.Child(t, desktop.PID(), "sway"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v.pictures(1)
	desktop.Stop()
	bye := v.bye()
	t.Log(bye.Text)
	if bye.Code != streamwire.CodeHost || !strings.Contains(bye.Text, "capture-wayland") {
		t.Errorf("bye %v %q", bye.Code, bye.Text)
	}
}
