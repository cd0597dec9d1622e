package desktop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// command is a process to start.
type command struct {
	name string // for people
	argv []string
	env  []string
	dir  string
	user *syscall.Credential
	// stdin is inherited; nil is /dev/null.
	stdin *os.File
}

// process is a started command. It ends by itself or by Desktop.killAll, never by its handle.
type process struct {
	name string
	pid  int
	done chan struct{} // closed when it has ended and was reaped
	err  error         // valid after done
	tail *tail
}

// wait blocks until the process ends (a *ProcessExitedError) or ctx does (its error).
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.exit()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *process) exit() error {
	return &ProcessExitedError{Name: p.name, Err: p.err, Tail: p.tail.lines()}
}

// spawner starts processes from one thread that lives as long as itself: the kernel sends the parent-death signal when the
// *thread* that forked ends, and Go's threads come and go.
type spawner struct {
	jobs chan func()
	done chan struct{}

	mu   sync.Mutex // guards pids
	pids map[int]bool
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), done: make(chan struct{}), pids: map[int]bool{}}
	go s.loop() // ends with close
	return s
}

func (s *spawner) loop() {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for job := range s.jobs {
		job()
	}
}

// close ends the thread, which kills every direct child that still runs.
func (s *spawner) close() {
	close(s.jobs)
	<-s.done
}

// children are the started processes that were not reaped yet.
func (s *spawner) children() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := make([]int, 0, len(s.pids))
	for pid := range s.pids {
		pids = append(pids, pid)
	}
	return pids
}

func (s *spawner) has(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[pid]
}

// start runs c in a session of its own, so that a terminal's Ctrl-C reaches only us. Its output goes line by line to log at debug.
func (s *spawner) start(c command, log *slog.Logger) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.env, c.dir, w, w
	if c.stdin != nil {
		cmd.Stdin = c.stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: c.user}
	err = s.fork(cmd)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	p := &process{name: c.name, pid: cmd.Process.Pid, done: make(chan struct{}), tail: &tail{}}
	go p.read(r, log.With("process", c.name)) // ends when every holder of the pipe is dead
	go s.reap(cmd, p)                         // ends with the process
	return p, nil
}

// do runs f on the thread that starts processes.
func (s *spawner) do(f func() error) error {
	result := make(chan error)
	s.jobs <- func() { result <- f() }
	return <-result
}

func (s *spawner) fork(cmd *exec.Cmd) error {
	result := make(chan error)
	s.jobs <- func() {
		s.mu.Lock() // held over the fork, so that nobody sees a child of ours that is not in pids
		defer s.mu.Unlock()
		err := cmd.Start()
		if err == nil {
			s.pids[cmd.Process.Pid] = true
		}
		result <- err
	}
	return <-result
}

func (s *spawner) reap(cmd *exec.Cmd, p *process) {
	p.err = cmd.Wait()
	s.mu.Lock()
	delete(s.pids, p.pid)
	s.mu.Unlock()
	close(p.done)
}

func (p *process) read(r *os.File, log *slog.Logger) {
	defer r.Close()
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, long, err := lines.ReadLine()
		for long && err == nil { // the rest of an overlong line is dropped
			_, long, err = lines.ReadLine()
		}
		if len(line) > 0 {
			p.tail.add(string(line))
			log.Debug(string(line))
		}
		if err != nil {
			if err != io.EOF {
				log.Debug("output ended", "err", err)
			}
			return
		}
	}
}

// tail keeps the last lines of a process.
type tail struct {
	mu   sync.Mutex // guards kept
	kept []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == tailLines {
		t.kept = slices.Delete(t.kept, 0, 1)
	}
	t.kept = append(t.kept, line)
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.kept)
}
