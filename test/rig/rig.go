// Package rig starts the project's real binaries for integration tests and ends them with the test, leaving nothing behind.
package rig

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startLimit is how long a process may take to print what a test waits for: a cold GNOME on two busy cores needs about 10 s.
const startLimit = 60 * time.Second

// stopLimit is how long it may take to end in order.
const stopLimit = 20 * time.Second

// Bin returns the path of a built binary, from WAVRY_BIN or the checkout's bin directory.
func Bin(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("WAVRY_BIN")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "..", "..", "bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	return path
}

// Process is a running wavry command.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex // guards the following
	output strings.Builder
	grown  chan struct{} // closed and replaced when output grows
}

// Start runs a wavry command with extra environment. The test ends it with SIGTERM, and fails if it then takes too long or
// complains.
func Start(t testing.TB, environ []string, args ...string) *Process {
	t.Helper()
	return StartUnder(t, nil, environ, args...)
}

// StartUnder is Start under another command, which runs wavry as its own process.
func StartUnder(t testing.TB, under []string, environ []string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, done: make(chan struct{}), grown: make(chan struct{})}
	argv := slices.Concat(under, []string{Bin(t, "wavry")}, args)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), environ...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	// The parent-death signal follows the thread, so a locked one starts the process and stays.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the status is read from ProcessState
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	w.Close()
	go p.read(r) // ends when the process and its children closed their output
	t.Cleanup(p.Stop)
	return p
}

func (p *Process) read(r *os.File) {
	defer r.Close()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		p.output.WriteString(line)
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.t.Log("output:", err)
			}
			return
		}
	}
}

// Output is everything printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// WaitFor returns the first submatch of pattern in the output, waiting for it.
func (p *Process) WaitFor(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	for {
		p.mu.Lock()
		m, grown := re.FindStringSubmatch(p.output.String()), p.grown
		p.mu.Unlock()
		if m != nil {
			return m[len(m)-1]
		}
		select {
		case <-grown:
		case <-p.done:
			p.t.Fatalf("process ended (%v) before it printed %q:\n%s", p.cmd.ProcessState, pattern, p.Output())
		case <-deadline.C:
			p.t.Fatalf("process did not print %q:\n%s", pattern, p.Output())
		}
	}
}

// SignIn waits for the sign-in link.
func (p *Process) SignIn() string {
	p.t.Helper()
	return p.WaitFor(`(https?://\S+#link=\S+)`)
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process with SIGKILL.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// Stop ends the process with SIGTERM, once.
func (p *Process) Stop() {
	p.t.Helper()
	select {
	case <-p.done:
		p.logIfFailed()
		return
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error("stop:", err)
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
		if !p.cmd.ProcessState.Success() {
			p.t.Errorf("process ended with %v", p.cmd.ProcessState)
		}
	case <-timer.C:
		p.t.Errorf("process did not end within %v after SIGTERM", stopLimit)
		p.Kill()
	}
	p.logIfFailed()
}

func (p *Process) logIfFailed() {
	if p.t.Failed() {
		p.t.Logf("output of %v:\n%s", p.cmd.Args[1:], p.Output())
	}
}

// Child finds the one descendant of a process that runs the named binary, waiting for it to start.
func Child(t testing.TB, pid int, name string) int {
	t.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := descendant(pid, name); found != 0 {
			return found
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("process %d never had a child %s", pid, name)
		}
	}
}

// descendant searches the process tree; 0: not there.
func descendant(pid int, name string) int {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, path := range tasks {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // the thread ended meanwhile
		}
		for child := range strings.FieldsSeq(string(raw)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				continue
			}
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n)); err == nil && filepath.Base(exe) == name {
				return n
			}
			if found := descendant(n, name); found != 0 {
				return found
			}
		}
	}
	return 0
}
