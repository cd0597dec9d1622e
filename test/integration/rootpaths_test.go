//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/wavry/fleet/test/rig"
	"github.com/wavry/fleet/test/straced"
)

// traced runs wavry under strace, and returns what ends with it: the findings.
func traced(t *testing.T, environ []string, args ...string) (*rig.Process, func() straced.Finding) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "trace")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		found straced.Finding
		err   error
	}
	done := make(chan outcome, 1)
	go func() { // ends when strace does, which ends with the last process
		f, err := os.Open(fifo)
		if err != nil {
			done <- outcome{err: err}
			return
		}
		defer f.Close()
		found, err := straced.Check(f, straced.Foreign)
		done <- outcome{found, err}
	}()
	under := append(append([]string{"strace"}, straced.Args...), "-o", fifo)
	p := rig.StartUnder(t, under, environ, args...)
	return p, func() straced.Finding {
		t.Helper()
		p.Stop()
		o := <-done
		if o.err != nil {
			t.Fatal(o.err)
		}
		return o.found
	}
}

// report fails for each kind of call that broke the rule, and when the trace shows that nothing was looked at.
func report(t *testing.T, found straced.Finding) {
	t.Helper()
	t.Logf("%d paths of root's, %d of others", found.Root, found.Others)
	if found.Root < 100 || found.Others < 100 {
		t.Errorf("the trace saw %d paths of root's and %d of others", found.Root, found.Others)
	}
	for _, call := range slices.Compact(found.Bad) {
		t.Errorf("root used a path of somebody else's: %s", call)
	}
}

// The supervisor of a desktop, as root: no path through what its user can change, over a start, a crash of the compositor, a person, and
// the end.
func TestDesktopUsesNoPathOfTheUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the rule is root's")
	}
	d := &supervised{t: t, state: filepath.Join(tempDir(t), "desk")}
	var finish func() straced.Finding
	d.process, finish = traced(t, []string{"WAVRY_LOG_LEVEL=info"}, "desktop", "run", "sway", "-state-dir", d.state, "-env-file", d.envFile())
	d.readEnv()
	host := standalone(t, tempDir(t), nil, "-desktop-env-file", d.envFile(), "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland")
	c := signIn(t, host.SignIn())
	d.untilFree(c)
	v := c.connect()
	v.pictures(2)
	if err := syscall.Kill(rig.Child(t, d.process.PID(), "sway"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v.pictures(1)
	d.person(leave)
	v.leave()
	d.untilFree(c)
	host.Stop()
	report(t, finish())
}

// The host, as root: no path through what the desktop's user can change, over a session.
func TestHostUsesNoPathOfTheUsers(t *testing.T) {
	d := startSupervised(t)
	temp := tempDir(t)
	host, finish := traced(t, []string{"TMPDIR=" + temp}, "host", "-standalone", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir(),
		"-desktop-env-file", d.envFile(), "-plugin-dirs", visiblePlugins(t), "-capture", "capture-wayland")
	c := signIn(t, host.SignIn())
	d.untilFree(c)
	v := c.connect()
	v.pictures(5)
	v.leave()
	d.untilFree(c)
	report(t, finish())
}
