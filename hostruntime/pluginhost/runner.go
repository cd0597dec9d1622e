package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginhost/pluginbox"
)

// runner is go-plugin's view of the process. Unlike go-plugin's own it kills the group, ties the process to our life, and knows
// of its end by waiting for it rather than for its pipes, which a grandchild could hold open.
type runner struct {
	cmd            *exec.Cmd // set before the start
	name           string    // the plugin's path; cmd is its box
	startErr       error     // of the box; set by Start, which go-plugin calls once
	stdout, stderr *os.File  // our ends
	head           headWriter
	exited         chan struct{}

	mu     sync.Mutex // guards the following
	pid    int        // 0 before the start and after the process was reaped: the number is free then
	id     string     // pid as text, kept
	status *os.ProcessState
	// aborted before or after the start; the process must not live.
	aborted bool
}

func newRunner() *runner { return &runner{exited: make(chan struct{})} }

// Start runs the process on a thread that lives as long as it: PR_SET_PDEATHSIG fires when the starting thread ends.
func (r *runner) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make plugin's stdout: %w", err)
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make plugin's stderr: %w", err), outR.Close(), outW.Close())
	}
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("make the pipe of a plugin's box: %w", err), outR.Close(), outW.Close(), errR.Close(), errW.Close())
	}
	defer reportR.Close()
	r.stdout, r.stderr = outR, errR
	r.cmd.Stdout, r.cmd.Stderr = outW, errW
	r.cmd.ExtraFiles = append(r.cmd.ExtraFiles, reportW)
	started := make(chan error)
	go r.own(started) // ends with the process; whoever kills it waits for exited
	r.startErr = <-started
	_, _, _ = outW.Close(), errW.Close(), reportW.Close() // the child has its copies
	if r.startErr == nil {
		r.startErr = pluginbox.Wait(reportR)
	}
	if r.startErr != nil {
		_, _ = outR.Close(), errR.Close()
	}
	return r.startErr
}

func (r *runner) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := r.cmd.Start(); err != nil {
		started <- err
		return
	}
	r.mu.Lock()
	r.pid = r.cmd.Process.Pid
	r.id = strconv.Itoa(r.pid)
	if r.aborted {
		_ = unix.Kill(-r.pid, unix.SIGKILL)
	}
	r.mu.Unlock()
	started <- nil
	r.reap()
	// Someone who left the group may hold the pipes open: their end must not wait for him.
	deadline := time.Now().Add(pipeGrace)
	_, _ = r.stdout.SetReadDeadline(deadline), r.stderr.SetReadDeadline(deadline)
	close(r.exited)
}

// reap waits for the process, ends what is left of its group while the group's number is still taken, and frees the number.
func (r *runner) reap() {
	for {
		err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = unix.Kill(-r.pid, unix.SIGKILL) // ESRCH: nobody is left, as usual
	_ = r.cmd.Wait()                    // its error repeats the state
	r.status = r.cmd.ProcessState
	r.pid = 0
}

// signal sends sig to the whole group, if it still exists.
func (r *runner) signal(sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid == 0 {
		return os.ErrProcessDone
	}
	return unix.Kill(-r.pid, sig)
}

func (r *runner) state() *os.ProcessState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// abort ends a start that takes too long or is no longer wanted.
func (r *runner) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.aborted = true
	if r.pid != 0 {
		_ = unix.Kill(-r.pid, unix.SIGKILL)
	}
}

func (r *runner) wasAborted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aborted
}

// Wait is for go-plugin, which has read both pipes to their end.
func (r *runner) Wait(context.Context) error {
	<-r.exited
	return errors.Join(r.stdout.Close(), r.stderr.Close())
}

// Kill is for go-plugin, when the handshake fails.
func (r *runner) Kill(context.Context) error {
	if err := r.signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stdout is the handshake, of which the head is kept.
func (r *runner) Stdout() io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r.stdout, &r.head), r.stdout}
}

// Stderr is what the plugin logs.
func (r *runner) Stderr() io.ReadCloser { return r.stderr }

// Name is the binary's path.
func (r *runner) Name() string { return r.name }

// ID is empty before the start.
func (r *runner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

// Diagnose has nothing to add: Launch explains failures itself.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost forgets the address that the plugin named, see Process.dial.
func (r *runner) PluginToHost(string, string) (string, string, error) {
	return "unix", inbox.Handed, nil
}

// HostToPlugin is the identity.
func (r *runner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
