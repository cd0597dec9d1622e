package desktop

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lastPerson is a user of these tests alone.
var lastPerson = User{60990, 60990}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root empties a desktop")
	}
}

// TestIPCTable proves that the kernel's table is read by the names of its columns, and that an odd line is an error.
func TestIPCTable(t *testing.T) {
	const table = `       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid
         0          3   644           0          0     0     0 60990 60990     0     0
         0          4   644           0          0     0     0     0     0 60990 60990
         0      60990   644           0          0     0     0     0     0     0     0
`
	ids, err := ipcOf(table, lastPerson.UID)
	if err != nil || !slices.Equal(ids, []int{3, 4}) {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := ipcOf(table+"1 2 3\n", lastPerson.UID); err == nil {
		t.Error("a short line was taken")
	}
}

// TestSweepKeys proves that the user's keyrings are empty afterwards, also the one that outlives sessions.
func TestSweepKeys(t *testing.T) {
	needRoot(t)
	persistent := 0
	err := lastPerson.does(func() error {
		_, err := unix.AddKey("user", "wavry-test", []byte("secret"), unix.KEY_SPEC_USER_KEYRING)
		if err != nil {
			return err
		}
		if persistent, err = unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, -1, unix.KEY_SPEC_THREAD_KEYRING, 0, 0); err != nil {
			return err
		}
		_, err = unix.AddKey("user", "wavry-test", []byte("secret"), persistent)
		return err
	})
	if err != nil {
		t.Skipf("no keyrings here: %v", err)
	}
	if err := sweepKeys(lastPerson); err != nil {
		t.Fatal(err)
	}
	err = lastPerson.does(func() error {
		if id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", "wavry-test", 0); !errors.Is(err, unix.ENOKEY) {
			t.Errorf("key %d is still there, %v", id, err)
		}
		ring, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, -1, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		if err != nil {
			return err
		}
		if id, err := unix.KeyctlSearch(ring, "user", "wavry-test", 0); !errors.Is(err, unix.ENOKEY) {
			t.Errorf("key %d is still there for days, %v", id, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKillEverything proves that processes without any mark end with their user, those that fork as fast as they can too.
func TestKillEverything(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("sh", "-c", "f() { f & f & sleep 600; }; ulimit -u 200; f")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: lastPerson.credential(), Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it is killed
	wantProcesses(t, 50)
	if err := killEverythingOf(lastPerson, func() {}); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func wantProcesses(t *testing.T, n int) {
	t.Helper()
	for range 1000 {
		if len(processesOf(lastPerson.UID)) >= n {
			return
		}
	}
	t.Fatalf("%d processes", len(processesOf(lastPerson.UID)))
}

// TestDiscardFollowsNothing proves that a home is removed with whatever modes and links its user left, and nothing else.
func TestDiscardFollowsNothing(t *testing.T) {
	state := t.TempDir()
	p := placesIn(state)
	outside := filepath.Join(state, "outside")
	deep := filepath.Join(p.home, "a", "b")
	err := errors.Join(
		os.MkdirAll(deep, 0o700), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "file"), nil, 0o600),
		os.Symlink(outside, filepath.Join(deep, "link")), os.Chmod(deep, 0o500), os.Symlink("/", filepath.Join(p.home, "root")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // else the modes do not hold
		if err := os.Chmod(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.discard(p.home); err != nil {
		t.Fatal(err)
	}
	if err := p.discard(p.home); err != nil {
		t.Errorf("one that is not there: %v", err)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 || entries[0].Name() != "outside" {
		t.Errorf("left %v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
}

// TestUserIsLocked proves that two desktops of one machine never have the same user, and that one gets its own again.
func TestUserIsLocked(t *testing.T) {
	needRoot(t)
	if err := os.MkdirAll(userLocks, 0o700); err != nil {
		t.Fatal(err)
	}
	first, lock, err := freeUser("/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lockUser(first.UID, false); !errors.Is(err, ErrUserBusy) {
		t.Errorf("the same user: %v", err)
	}
	second, lock2, err := freeUser("/nowhere")
	if err != nil || *second == *first {
		t.Fatalf("%v and %v, %v", first, second, err)
	}
	home := t.TempDir()
	if err := errors.Join(second.own(home), lock2.Close()); err != nil {
		t.Fatal(err)
	}
	again, lock3, err := freeUser(home)
	if err != nil || *again != *second {
		t.Fatalf("%v, %v; want the home's %v", again, err, second)
	}
	lock3.Close()
}
