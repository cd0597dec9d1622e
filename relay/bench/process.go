//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is a program in a namespace, on one CPU. Those of ours talk JSON lines; closing their stdin ends them.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// start runs a program in namespace ns on a CPU, with priority over the rest of the machine.
func (l *lab) start(ctx context.Context, ns int, cpu, program string, args ...string) (*process, error) {
	full := append([]string{"netns", "exec", l.ns[ns], "nice", "-n", "-20", "taskset", "-c", cpu, program}, args...)
	p := &process{cmd: exec.CommandContext(ctx, "ip", full...)}
	if program != "turnserver" { // it complains about protocols it is not asked for
		p.cmd.Stderr = os.Stderr
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(stdout)
	p.out.Buffer(nil, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// role starts this program again in a role.
func (l *lab) role(ctx context.Context, ns int, cpu, role string, args any) (*process, error) {
	b, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	return l.start(ctx, ns, cpu, l.self, role, string(b))
}

// read waits for the next line of a role and decodes it.
func (p *process) read(v any) error {
	if !p.out.Scan() {
		return fmt.Errorf("%s ended without an answer", p.cmd.Args[len(p.cmd.Args)-2])
	}
	return json.Unmarshal(p.out.Bytes(), v)
}

func (p *process) tell(v any) error { return json.NewEncoder(p.stdin).Encode(v) }

func (p *process) end() {
	p.stdin.Close()
	done := make(chan struct{})
	go func() { p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		p.cmd.Process.Kill()
		<-done
	}
}

// kill ends a program that does not listen to its stdin.
func (p *process) kill() { p.cmd.Process.Kill(); p.end() }

// cpuTime is what a process has used, its kernel work and the softirqs that ran on its back included, plus what the kernel's softirq
// thread of the relay's CPU did for it.
func (p *process) cpuTime() (time.Duration, error) {
	sum, err := schedRuntime(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	soft, err := softirqThread()
	if err != nil {
		return 0, err
	}
	extra, err := schedRuntime(soft)
	return sum + extra, err
}

func schedRuntime(pid int) (sum time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("no tasks of process %d (%v)", pid, err)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that just ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

var softirqPID int

// softirqThread finds ksoftirqd of the relay's CPU.
func softirqThread() (int, error) {
	if softirqPID != 0 {
		return softirqPID, nil
	}
	all, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && string(b) == "ksoftirqd/"+relayCPU+"\n" {
			softirqPID, err = strconv.Atoi(strings.Split(path, "/")[2])
			return softirqPID, err
		}
	}
	return 0, fmt.Errorf("no ksoftirqd/%s", relayCPU)
}

// received counts the datagrams that have arrived at the sink. A segmented packet that crosses veth whole counts as what it carries.
func (l *lab) received() (uint64, error) {
	bytes, err := l.sinkCounter("rx_bytes")
	if err != nil {
		return 0, err
	}
	packets, err := l.sinkCounter("rx_packets")
	return (bytes - packets*headers) / payload, err
}

const headers = 14 + 20 + 8

func (l *lab) sinkCounter(name string) (uint64, error) {
	out, err := exec.Command("ip", "netns", "exec", l.ns[2], "cat", "/sys/class/net/e0/statistics/"+name).Output()
	if err != nil {
		return 0, fmt.Errorf("read counter of the sink: %w", err)
	}
	return strconv.ParseUint(strings.TrimSpace(string(out)), 10, 64)
}
