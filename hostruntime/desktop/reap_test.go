package desktop

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stubborn ignores SIGTERM, and has an orphan and a child that cleaned its environment.
const stubborn = `trap '' TERM; (sleep 600 &) ; env -i sleep 600 & echo up; wait`

func startMarked(t *testing.T, id, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), markerVar+"="+id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.ReadAtLeast(out, make([]byte, 3), 3); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// wantMembers waits until that many processes are found; a shell forks after it has spoken.
func wantMembers(t *testing.T, id string, want int) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got := members(id, nil)
		if len(got) >= want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("members %v, want %d", got, want)
		}
	}
}

// TestKillMarkedEndsAllGenerations proves that processes are found by their mark and by descent, and that SIGTERM is not the last word.
func TestKillMarkedEndsAllGenerations(t *testing.T) {
	id := newID()
	cmd := startMarked(t, id, `trap '' TERM; sh -c 'sleep 600 & wait' & echo up; wait`)
	none := func() []int { return nil }
	wantMembers(t, id, 3)
	reaped := make(chan error, 1)
	go func() { reaped <- cmd.Wait() }()
	if err := killMarked(id, 100*time.Millisecond, none, func() {}); err != nil {
		t.Fatal(err)
	}
	<-reaped
	if got := members(id, none()); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestGuardCleansUpAfterAViolentEnd proves the guard's whole work: it waits, kills what is marked, and removes the directory; and that it
// touches nothing when it was dismissed.
func TestGuardCleansUpAfterAViolentEnd(t *testing.T) {
	id := newID()
	cmd := startMarked(t, id, stubborn)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	run := filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(filepath.Join(run, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, id, 3)
	if err := Guard(strings.NewReader(orderly), id, run, "0:0"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(run); err != nil || len(members(id, nil)) == 0 {
		t.Fatalf("a dismissed guard did something: %v", err)
	}
	if err := Guard(bytes.NewReader(nil), id, run, "0:0"); err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := os.Stat(run); !os.IsNotExist(err) {
		t.Errorf("directory is still there: %v", err)
	}
	if got := members(id, nil); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestGuardRefusesStrangeArguments proves that the guard removes nothing but what a desktop made.
func TestGuardRefusesStrangeArguments(t *testing.T) {
	for _, args := range [][2]string{{"", "/x/run"}, {"xyz", "/x/run"}, {strings.Repeat("g", 16), "/x/run"}, {newID(), "/home"}, {newID(), "/"}} {
		if err := Guard(strings.NewReader(""), args[0], args[1], "0:0"); err == nil {
			t.Errorf("Guard(%q) accepted", args)
		}
	}
}
