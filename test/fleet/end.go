package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endLimit is how long jobs may take to stop in order.
const endLimit = 30 * time.Second

// Close stops the jobs, then the servers, and removes everything: what would outlive them is ended by force.
func (f *Fleet) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	err := f.stopJobs(ctx)
	for _, name := range append(append([]string{}, Nodes...), "nomad", "consul1", "consul2", "consul3") {
		f.stop(name)
	}
	if left := f.sweep(); left > 0 && err == nil {
		err = fmt.Errorf("%d processes of the fleet had to be killed", left)
	}
	return errors.Join(err, f.unmount(), os.RemoveAll(f.dir))
}

// stopJobs asks Nomad to stop everything, and waits for it.
func (f *Fleet) stopJobs(ctx context.Context) error {
	if f.Nomad == nil {
		return nil
	}
	jobs, _, err := f.Nomad.Jobs().List(nil)
	if err != nil {
		return fmt.Errorf("stop jobs: %w", err)
	}
	for _, j := range jobs {
		if _, _, err := f.Nomad.Jobs().Deregister(j.ID, false, nil); err != nil {
			return fmt.Errorf("stop %s: %w", j.ID, err)
		}
	}
	return f.Wait(ctx, "all allocations end", func() bool {
		allocations, _, err := f.Nomad.Allocations().List(nil)
		for _, a := range allocations {
			if a.ClientStatus == "running" || a.ClientStatus == "pending" {
				return false
			}
		}
		return err == nil
	})
}

func (f *Fleet) stop(name string) {
	s := f.servers[name]
	if s == nil {
		return
	}
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		f.Kill(name)
	}
}

// sweep kills what is left of the fleet and returns how many processes that were. The log collectors of an agent that was killed
// outlive it by Nomad's design, so that a restarted agent finds them again; nobody else ends them.
func (f *Fleet) sweep() (left int) {
	for _, words := range killAll(f.dir) {
		if strings.HasSuffix(strings.TrimSpace(words), " logmon") {
			continue
		}
		f.say("killed %s", words)
		left++
	}
	return left
}

// killAll kills every process that was started in a folder, or with it in its arguments or environment, and returns their arguments.
func killAll(folder string) (killed []string) {
	list, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	mark := []byte(folder + "/")
	for _, p := range list {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() {
			continue
		}
		words, _ := os.ReadFile(filepath.Join(p, "cmdline")) //nolint:errcheck // it may have ended
		environ, _ := os.ReadFile(filepath.Join(p, "environ"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if bytes.Contains(words, mark) || bytes.Contains(environ, mark) || cwd == folder {
			_ = syscall.Kill(pid, syscall.SIGKILL) // likewise
			killed = append(killed, string(bytes.ReplaceAll(words, []byte{0}, []byte{' '})))
		}
	}
	return killed
}

// unmount takes away the memory file systems that Nomad made for secrets.
func (f *Fleet) unmount() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], f.dir+"/") {
			err = errors.Join(err, syscall.Unmount(fields[1], syscall.MNT_DETACH))
		}
	}
	return err
}

// ShowLogs tells what failed: the last lines of each agent, and of each task.
func (f *Fleet) ShowLogs() {
	logs, err := filepath.Glob(filepath.Join(f.dir, "logs", "*.log"))
	if err != nil {
		panic(err) // the pattern is a constant
	}
	tasks, err := filepath.Glob(filepath.Join(f.dir, "node-*", "n", "alloc", "*", "alloc", "logs", "*.std*.0")) // beside them are FIFOs, whose reader would wait for ever
	if err != nil {
		panic(err)
	}
	for _, path := range append(logs, tasks...) {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		f.say("== %s\n%s", strings.TrimPrefix(path, f.dir), strings.Join(lines[max(0, len(lines)-logTail):], "\n"))
	}
}

// logTail is how many lines of each log are shown.
const logTail = 8

// Lose ends a node at once: its agent and every task on it.
func (f *Fleet) Lose(node string) {
	f.Kill(node)
	killAll(filepath.Join(f.dir, node))
}
