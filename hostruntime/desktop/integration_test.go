//go:build integration

package desktop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func init() { runDesktop = serveDesktop }

// serveDesktop is what cmd/wavry does: one desktop in the foreground, its environment on stdout when ready.
func serveDesktop(args []string) error {
	d, err := New(Config{
		Kind: Kind(args[0]), StateDir: args[1], Apps: appsOf(args[2:]), Guard: []string{"/proc/self/exe", "guard"}, Exclusive: true,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-d.Ready()
		fmt.Println(strings.Join(d.Environ(), "\n") + "\nREADY")
	}()
	return d.Run(ctx)
}

// appsOf is the one application whose words are args; none: the default.
func appsOf(args []string) [][]string {
	if len(args) == 0 {
		return nil
	}
	return [][]string{args}
}

// running is a desktop process of a test.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	state string
	env   map[string]string
	ended chan error
}

// launch starts a desktop of that kind and waits until it is ready.
func launch(t *testing.T, kind Kind, app ...string) *running {
	t.Helper()
	if _, err := New(Config{Kind: kind}); err != nil {
		t.Skipf("no %s here: %v", kind, err)
	}
	state, err := os.MkdirTemp("", "wavry-desktop-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(state) })
	r := &running{t: t, state: state, env: map[string]string{}, ended: make(chan error, 1)}
	r.cmd = exec.Command("/proc/self/exe", append([]string{"desktop", string(kind), state}, app...)...)
	var log bytes.Buffer
	r.cmd.Stderr = &log
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); t.Logf("desktop's log:\n%s", log.String()) })
	r.readEnvironment(out)
	go func() { r.ended <- r.cmd.Wait() }()
	return r
}

func (r *running) readEnvironment(out interface{ Read([]byte) (int, error) }) {
	r.t.Helper()
	deadline := time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() })
	defer deadline.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "READY" {
			return
		}
		k, v, _ := strings.Cut(lines.Text(), "=")
		r.env[k] = v
	}
	r.t.Fatal("the desktop ended before it was ready")
}

// answers asks compositor, bus and PipeWire.
func (r *running) answers() error {
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	run := r.env["XDG_RUNTIME_DIR"]
	info, err := os.Stat(run)
	if err != nil {
		return err
	}
	return User{owner(info), owner(info)}.does(func() error {
		return errors.Join(
			waylandRoundtrip(ctx, filepath.Join(run, r.env["WAYLAND_DISPLAY"])),
			busAnswers(ctx, strings.TrimPrefix(r.env["DBUS_SESSION_BUS_ADDRESS"], "unix:path=")),
			accepts(ctx, filepath.Join(run, "pipewire-0")),
		)
	})
}

func (r *running) members() []int { return members(r.env[markerVar], nil) }

// find returns the pid of the desktop's process of that name.
func (r *running) find(name string) (int, error) {
	for _, pid := range r.members() {
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && strings.TrimSpace(string(comm)) == name {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no process %s", name)
}

// wantNothingLeft proves that neither a process nor a file of the run remains.
func (r *running) wantNothingLeft() {
	r.t.Helper()
	eventually(r.t, "nothing is left", func() error {
		if left := r.members(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		if _, err := os.Stat(filepath.Join(r.state, "run")); !os.IsNotExist(err) {
			return fmt.Errorf("runtime directory: %v", err)
		}
		return nil
	})
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("wait until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

var compositors = map[Kind]string{Sway: "sway", GNOME: "gnome-shell", KDE: "kwin_wayland"}

// TestDesktopsLiveAndLeaveNothing proves for each kind: it comes up and answers, a killed PipeWire and a killed compositor come back
// under the same names, a second desktop in its place is refused, and SIGTERM ends it within seconds with nothing left.
func TestDesktopsLiveAndLeaveNothing(t *testing.T) {
	for kind, compositor := range compositors {
		t.Run(string(kind), func(t *testing.T) {
			r := launch(t, kind)
			if err := r.answers(); err != nil {
				t.Fatalf("ready, but: %v", err)
			}
			second := exec.Command("/proc/self/exe", "desktop", string(kind), r.state)
			if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), ErrBusy.Error()) {
				t.Errorf("second desktop: %v, %s", err, out)
			}
			r.killAndSeeItBack("pipewire")
			r.killAndSeeItBack(compositor)
			began := time.Now()
			if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-r.ended:
				if err != nil {
					t.Errorf("ended with %v", err)
				}
			case <-time.After(8 * time.Second):
				t.Error("SIGTERM did not end it")
			}
			t.Logf("ended %v after SIGTERM", time.Since(began).Round(time.Millisecond))
			r.wantNothingLeft()
			if _, err := os.Stat(filepath.Join(r.state, "home")); err != nil {
				t.Errorf("the user's files are gone: %v", err)
			}
		})
	}
}

func (r *running) killAndSeeItBack(name string) {
	r.t.Helper()
	var old int
	eventually(r.t, name+" is there", func() (err error) { old, err = r.find(name); return err })
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	began := time.Now()
	eventually(r.t, name+" is back", func() error {
		pid, err := r.find(name)
		if err == nil && pid == old {
			err = errors.New("it is still dying")
		}
		return errors.Join(err, r.answers())
	})
	r.t.Logf("%s back after %v", name, time.Since(began).Round(time.Millisecond))
}

// TestKilledDesktopLeavesNothing proves that even SIGKILL of the supervising process leaves neither processes nor files.
func TestKilledDesktopLeavesNothing(t *testing.T) {
	r := launch(t, Sway)
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	r.wantNothingLeft()
}

// TestEscapedApplicationIsFound proves that a daemon which left its parent, session and environment ends with the desktop.
func TestEscapedApplicationIsFound(t *testing.T) {
	const marker = "wavry-escaped-" // its argument, by which the test finds it
	name := marker + strconv.Itoa(os.Getpid())
	r := launch(t, Sway, "sh", "-c", "(env -i setsid sh -c 'sleep 600; : "+name+"' &); sleep 600")
	escaped := func() bool {
		out, err := exec.Command("pgrep", "-f", name).Output()
		return err == nil && len(bytes.Fields(out)) > 0
	}
	eventually(t, "the application has escaped", func() error {
		if !escaped() {
			return errors.New("not seen")
		}
		return nil
	})
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if escaped() {
		t.Error("the escaped application is still there")
	}
	r.wantNothingLeft()
}
