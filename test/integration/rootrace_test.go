//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/test/rig"
)

// vault is what only root may touch: a directory 0700 with a file 0600, and a socket that counts who comes.
type vault struct {
	t      *testing.T
	dir    string
	before string
	came   atomic.Int64
}

const vaultFile = "50-wavry-desktop.conf" // the name that the supervisor would write

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, dir: filepath.Join(tempDir(t), "vault")}
	if err := errors.Join(os.Mkdir(v.dir, 0o700), os.WriteFile(filepath.Join(v.dir, vaultFile), []byte("root's"), 0o600)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(v.dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with l
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			v.came.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	v.before = v.state()
	return v
}

// state is everything about the vault that an attack could change.
func (v *vault) state() string {
	v.t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(v.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&text, "%s %v %d:%d %d\n", path, info.Mode(), st.Uid, st.Gid, st.Nlink)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&text, "%s\n", content)
			return err
		}
		return nil
	})
	if err != nil {
		v.t.Error(err)
	}
	return text.String()
}

func (v *vault) check() {
	v.t.Helper()
	if now := v.state(); now != v.before {
		v.t.Errorf("root was led into the vault:\n%s\nbefore:\n%s", now, v.before)
	}
	if n := v.came.Load(); n > 0 {
		v.t.Errorf("root was led to a socket of root's %d times", n)
	}
}

// restart lets the compositor end, as the desktop's user may, and waits until the desktop is ready again. A supervisor that gave up, since
// its user let nothing work, is started again.
func (d *supervised) restart() {
	d.t.Helper()
	count := func(what string) int { return strings.Count(d.process.Output(), what) }
	ready, died := count("desktop ready"), count("desktop died")
	again := false
	eventually(d.t, "the desktop to start again", func() bool {
		select {
		case <-d.process.Done():
			again = true
			return true
		default:
		}
		if count("desktop died") == died {
			_, _ = d.as("swaymsg exit") // fails while another socket is there
		}
		return count("desktop ready") > ready
	})
	if again {
		d.start()
	}
}

// The desktop's user leads root into a directory and to a file of root's with links in the home: root does not come.
func TestLinksInTheHomeLeadNowhere(t *testing.T) {
	d := startSupervised(t)
	for _, link := range []string{".config/pipewire/pipewire.conf.d", ".config/pipewire", ".config", ".config/xdg-desktop-portal-wlr", ".config/xdg-desktop-portal"} {
		t.Run(link, func(t *testing.T) {
			v := newVault(t)
			out, err := d.as(fmt.Sprintf("cd; rm -rf %[1]s; mkdir -p $(dirname %[1]s); ln -s %[2]s %[1]s", link, v.dir))
			if err != nil {
				t.Fatal(err, out)
			}
			d.restart()
			v.check()
			if out, err := d.as("cd; rm -rf " + link); err != nil {
				t.Fatal(err, out)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		v := newVault(t)
		out, err := d.as("cd; mkdir -p .config/pipewire/pipewire.conf.d; ln -sf " + filepath.Join(v.dir, vaultFile) + " .config/pipewire/pipewire.conf.d/" + vaultFile)
		if err != nil {
			t.Fatal(err, out)
		}
		d.restart()
		v.check()
	})
}

// Variables of the process that races.
const (
	racerHome, racerRun, racerVault = "WAVRY_RACER_HOME", "WAVRY_RACER_RUN", "WAVRY_RACER_VAULT"
	// racerStarts is how often a desktop starts while it is raced; `make soak-root` sets it.
	racerStarts = "WAVRY_RACER_STARTS"
)

// TestRacer is the process of the desktop's user: it exchanges directories and sockets for links into the vault and back, as fast as it
// can.
func TestRacer(t *testing.T) {
	home, run, vault := os.Getenv(racerHome), os.Getenv(racerRun), os.Getenv(racerVault)
	if home == "" {
		t.Skip("it is run by TestRacerWinsNoStart")
	}
	spare := filepath.Join(home, "spare-"+strconv.Itoa(os.Getpid()))
	prizes := map[string]string{
		filepath.Join(run, "bus"): "socket", filepath.Join(run, "wayland-1"): "socket", filepath.Join(run, "pipewire-0"): "socket",
		filepath.Join(home, ".config/pipewire/pipewire.conf.d"): "", filepath.Join(home, ".config/pipewire/pipewire.conf.d", vaultFile): vaultFile,
		filepath.Join(home, ".config/pipewire"): "", filepath.Join(home, ".config"): "", filepath.Join(run, "wavry"): "", filepath.Join(home, ".local"): "",
		filepath.Join(run, "wavry/sway.conf"): vaultFile, filepath.Join(run, "wavry/portals"): "",
	}
	for i := 0; ; i++ {
		for path, prize := range prizes {
			_ = os.Symlink(filepath.Join(vault, prize), spare) // there already, or home is being made
			exchange := func() error { return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, spare, unix.RENAME_EXCHANGE) }
			info, err := os.Lstat(path)
			switch {
			case errors.Is(err, fs.ErrNotExist) && prize != "socket":
				_ = os.MkdirAll(filepath.Dir(path), 0o700)
				_ = os.Rename(spare, path)
			case err != nil:
			case info.Mode()&os.ModeSymlink != 0:
				_ = os.Remove(path)
			default:
				if exchange() == nil {
					_ = exchange()
				}
			}
		}
	}
}

// race keeps two racers running, whom the supervisor kills when it empties the desktop, until the result is called.
func (d *supervised) race(v *vault) (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	exe := filepath.Join(tempDir(d.t), "racer") // root's own is in a private directory
	if out, err := exec.Command("install", "-m", "755", "/proc/self/exe", exe).CombinedOutput(); err != nil {
		d.t.Fatalf("copy this test: %v\n%s", err, out)
	}
	done := make(chan struct{})
	const racers = 2
	for range racers {
		go func() { // ends with ctx
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				cmd := exec.CommandContext(ctx, exe, "-test.run", "^TestRacer$")
				cmd.Env = []string{racerHome + "=" + d.env["HOME"], racerRun + "=" + d.env["XDG_RUNTIME_DIR"], racerVault + "=" + v.dir, "HOME=/"}
				cmd.Dir = "/"
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(d.uid), Gid: uint32(d.uid)}, Pdeathsig: syscall.SIGKILL}
				_ = cmd.Run() // it ends by being killed
			}
		}()
	}
	return func() {
		cancel()
		for range racers {
			<-done
		}
	}
}

// The desktop's user races root at every start of the desktop, with links into what is root's for directories and sockets: root is never
// led there. Every tenth start is that for another person, with a host that looks and connects as root.
func TestRacerWinsNoStart(t *testing.T) {
	starts := 60
	if s := os.Getenv(racerStarts); s != "" {
		var err error
		if starts, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	d := startSupervised(t)
	v := newVault(t)
	stop := d.race(v)
	began := time.Now()
	for i := range starts {
		d.restart()
		if i%10 == 9 {
			host := rig.Start(t, []string{"TMPDIR=" + tempDir(t)}, "host", "-standalone", "-http-addr", "127.0.0.1:0", "-state-dir", t.TempDir(),
				"-desktop-env-file", d.envFile(), "-capture", "capture-wayland")
			c := signIn(t, host.SignIn())
			eventually(t, "the desktop to be free", func() bool { return strings.Contains(c.get("/v1/desktops"), `"free":1`) })
			host.Stop()
			v.check()
		}
	}
	stop()
	v.check()
	t.Logf("%d starts in %v", starts, time.Since(began).Round(time.Second))
}
