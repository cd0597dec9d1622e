//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/wavry/fleet/test/rig"
)

// supervised is a sway desktop in the care of `wavry desktop run`, in a place that root alone can change.
type supervised struct {
	t       *testing.T
	process *rig.Process
	state   string
	env     map[string]string
	uid     int
}

func startSupervised(t *testing.T, args ...string) *supervised {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a desktop a user of its own")
	}
	d := &supervised{t: t, state: filepath.Join(tempDir(t), "desk")}
	d.start(args...)
	return d
}

func (d *supervised) envFile() string { return filepath.Join(d.state, "desktop.env") }

// start runs the supervisor until the desktop is ready.
func (d *supervised) start(args ...string) {
	d.t.Helper()
	if err := os.Remove(d.envFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	args = append([]string{"desktop", "run", "sway", "-state-dir", d.state, "-env-file", d.envFile()}, args...)
	d.process = rig.Start(d.t, []string{"WAVRY_LOG_LEVEL=info"}, args...)
	d.readEnv()
}

// readEnv waits until the desktop is ready.
func (d *supervised) readEnv() {
	d.t.Helper()
	eventually(d.t, "the desktop to be ready", func() bool { _, err := os.Stat(d.envFile()); return err == nil })
	text, err := os.ReadFile(d.envFile())
	if err != nil {
		d.t.Fatal(err)
	}
	d.env = map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		d.env[key] = value
	}
	home, err := os.Stat(d.env["HOME"])
	if err != nil {
		d.t.Fatal(err)
	}
	d.uid = int(home.Sys().(*syscall.Stat_t).Uid)
}

// visiblePlugins are copies of the plugins where every user may run them: root's checkout is often private.
func visiblePlugins(t *testing.T) (dir string) {
	t.Helper()
	dir = tempDir(t)
	for _, name := range []string{"wavry-capture-wayland", "wavry-capture-test", "wavry-encode-software"} {
		if out, err := exec.Command("install", "-m", "755", rig.Bin(t, name), dir).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// as runs a shell script as the desktop's user, in its environment but not as its child.
func (d *supervised) as(script string) (string, error) {
	cmd := exec.Command("sh", "-c", script)
	for key, value := range d.env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(d.uid), Gid: uint32(d.uid)}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// person lets the compositor run a script, as a person's terminal would, and waits until it is through.
func (d *supervised) person(script string) {
	d.t.Helper()
	done := filepath.Join(d.env["HOME"], ".done")
	path := filepath.Join(filepath.Dir(d.state), "script") // quoting for sh and sway at once is no fun
	if err := os.WriteFile(path, []byte(script+"\ntouch "+done+"\n"), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if out, err := d.as("rm -f " + done + "; swaymsg exec 'sh " + path + "'"); err != nil {
		d.t.Fatalf("swaymsg: %v %s", err, out)
	}
	eventually(d.t, "the person's script", func() bool { _, err := os.Stat(done); return err == nil })
}

// leave is what the last person leaves. $$ makes names that nothing else has.
const leave = `
cd; echo secret > notes; echo 'mysql -psecret' > .bash_history
mkdir -p .config/chromium/Default; echo session > .config/chromium/Default/Cookies
mkdir closed; echo secret > closed/file; chmod 000 closed
ln -s /etc/passwd link
echo secret > /tmp/person-$$; mkdir -p /tmp/persondir-$$/deep; chmod 0 /tmp/persondir-$$; echo secret > /dev/shm/person-$$; echo secret > /var/tmp/person-$$
ipcmk -M 4096 >/dev/null; ipcmk -S 1 >/dev/null; ipcmk -Q >/dev/null
sleep 9876 &
env -i setsid sleep 9877 >/dev/null 2>&1 &
`

// traces lists what is left of a person who ran leave.
func (d *supervised) traces() (found []string) {
	for _, name := range []string{"notes", ".bash_history", ".config/chromium", "closed", "link", ".done"} {
		if _, err := os.Lstat(filepath.Join(d.env["HOME"], name)); err == nil {
			found = append(found, "~/"+name)
		}
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", filepath.Join(d.state, "old")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			d.t.Error(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) == d.uid && strings.HasPrefix(e.Name(), "person") {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
	}
	for _, kind := range []string{"shm", "sem", "msg"} {
		table, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil {
			d.t.Error(err)
		}
		if strings.Contains(string(table), fmt.Sprintf(" %d ", d.uid)) {
			found = append(found, "System V "+kind)
		}
	}
	for _, pid := range []string{"9876", "9877", "9878"} {
		if out, err := exec.Command("pgrep", "-u", strconv.Itoa(d.uid), "-f", "^sleep "+pid).Output(); err == nil {
			found = append(found, "sleep "+pid+" as process "+strings.TrimSpace(string(out)))
		}
	}
	return found
}

// untilFree waits until the host gives the desktop away, and looks in the same moment what is there.
func (d *supervised) untilFree(c *client) {
	d.t.Helper()
	eventually(d.t, "the desktop to be free", func() bool { return strings.Contains(c.get("/v1/desktops"), `"free":1`) })
	if left := d.traces(); len(left) > 0 {
		d.t.Errorf("the next person finds %q", left)
	}
}

// live is a person in a session who leaves traces.
func (d *supervised) live(c *client) *visit {
	d.t.Helper()
	v := c.connect()
	v.pictures(2)
	d.person(leave)
	if out, err := d.as("env -i setsid sleep 9878 >/dev/null 2>&1 &"); err != nil { // one that is no child of the desktop
		d.t.Fatal(err, out)
	}
	if left := d.traces(); len(left) < 14 {
		d.t.Fatalf("the test sees only %q of what was left", left)
	}
	return v
}

// The next person finds a desktop as nobody has used it, however the last one's session ended: by a goodbye, by the end of a host or of
// the supervisor that were killed. The slot is not free before.
func TestNextPersonFindsNothing(t *testing.T) {
	d := startSupervised(t)
	newHost := func() (*rig.Process, *client) {
		host := standalone(t, tempDir(t), nil, "-desktop-env-file", d.envFile(), "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland", "-grace", "30s")
		c := signIn(t, host.SignIn())
		d.untilFree(c)
		return host, c
	}
	host, c := newHost()
	v := d.live(c)
	v.leave()
	d.untilFree(c)

	v = d.live(c) // the same page and host: the second person
	host.Kill()
	v.Close()
	host, c = newHost()

	v = d.live(c)
	d.process.Kill()
	if strings.Contains(c.get("/v1/desktops"), `"free":1`) {
		t.Error("a session holds the slot, and it is free")
	}
	v.leave()
	eventually(t, "the session to be over", func() bool { return strings.Contains(c.get("/v1/desktops"), "supervisor") })
	if strings.Contains(c.get("/v1/desktops"), `"free":1`) {
		t.Error("a desktop without its supervisor is given away")
	}
	d.start()
	d.untilFree(c)
	v = c.connect()
	v.pictures(2)
	v.leave()
	d.untilFree(c)
	host.Stop()
	d.process.Stop()
	if left := d.traces(); len(left) > 0 {
		t.Errorf("the end left %q", left)
	}
}

// A desktop that is one person's keeps home and programs, and says so.
func TestKeptDesktop(t *testing.T) {
	d := startSupervised(t)
	host := standalone(t, tempDir(t), nil, "-desktop-env-file", d.envFile(), "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland", "-keep-desktop")
	c := signIn(t, host.SignIn())
	eventually(t, "the desktop to be free", func() bool { return strings.Contains(c.get("/v1/desktops"), `"free":1`) })
	v := c.connect()
	v.pictures(2)
	d.person("cd; echo mine > notes; sleep 9876 &")
	v.leave()
	eventually(t, "the desktop to be free again", func() bool { return strings.Contains(c.get("/v1/desktops"), `"free":1`) })
	if left := d.traces(); len(left) != 3 { // notes, .done and sleep
		t.Errorf("kept %q", left)
	}
	host.Stop()
	// Another host that does not keep it gets an empty one.
	host = standalone(t, tempDir(t), nil, "-desktop-env-file", d.envFile(), "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland")
	c = signIn(t, host.SignIn())
	d.untilFree(c)
}
