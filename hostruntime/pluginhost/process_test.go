package pluginhost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/fakeplugin"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

// TestDeath proves that the end of the process ends calls with its status and its last words.
func TestDeath(t *testing.T) {
	p := launch(t, fake(t, fakeplugin.Behaviour{Role: "capture", StderrFlood: 1}))
	if p.Err() != nil {
		t.Fatal("dead at once:", p.Err())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	source := filepath.Join(shortDir(t), "s")
	if _, err := p.Capture().Start(ctx, &pluginpb.StartCaptureRequest{SourcePath: source, Fps: 30}); err != nil {
		t.Fatal(err)
	}
	awaitTail(t, p, "line 0 of a flood")
	go func() { _ = unix.Kill(p.PID(), unix.SIGKILL) }()
	err := p.Capture().Watch(ctx, func(*pluginpb.CaptureEvent) error { return nil })
	var gone *PluginExitedError
	if !errors.As(err, &gone) || gone.Backend != p.Backend() || gone.Status.String() != "signal: killed" {
		t.Fatal(err)
	}
	<-p.Exited()
	if !errors.As(p.Err(), &gone) || !strings.Contains(gone.Tail, "line 0 of a flood") {
		t.Fatal(p.Err())
	}
	if err := p.Capture().SetFramerate(ctx, 1); !errors.As(err, &gone) {
		t.Fatal("later call:", err)
	}
}

// awaitTail waits until the plugin's stderr, which comes by gRPC, has arrived.
func awaitTail(t *testing.T, p *Process, says string) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.log.Tail(), says) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("stderr is %q, want %q", p.log.Tail(), says)
		}
	}
}

// TestKill proves that Kill ends the plugin and its children, asks first, insists after, and removes the directory.
func TestKill(t *testing.T) {
	for _, c := range []struct {
		name   string
		b      fakeplugin.Behaviour
		status string
	}{
		{"in order", fakeplugin.Behaviour{}, "exit status 0"},
		{"that will not leave", fakeplugin.Behaviour{IgnoreTerm: true}, "signal: killed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.b.Role = "encode"
			spec := fake(t, c.b)
			spec.StopGrace = 10 * time.Second // it should not be needed
			if c.b.IgnoreTerm {
				spec.StopGrace = 300 * time.Millisecond
			}
			p := launch(t, spec)
			pid := p.PID()
			p.Kill()
			p.Kill()
			var gone *PluginExitedError
			if !errors.As(p.Err(), &gone) || gone.Status.String() != c.status {
				t.Fatal(p.Err())
			}
			awaitNoGroup(t, pid)
			checkEmpty(t, spec.TempDir)
		})
	}
}

// TestFrozenProcess proves that a stopped process (SIGSTOP) is killed in time.
func TestFrozenProcess(t *testing.T) {
	spec := fake(t, fakeplugin.Behaviour{Role: "encode"})
	spec.StopGrace = 200 * time.Millisecond
	p := launch(t, spec)
	if err := unix.Kill(p.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	p.Kill()
	if took := time.Since(begin); took > 3*time.Second {
		t.Fatal("took", took)
	}
}

// awaitNoGroup waits until the process group is empty, zombies aside.
func awaitNoGroup(t *testing.T, pgid int) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if len(members(pgid)) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("still alive:", members(pgid))
		}
	}
}

// members lists the live processes of a group from /proc.
func members(pgid int) []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var list []string
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // state, ppid, pgrp, ...
		if fields[2] == strconv.Itoa(pgid) && fields[0] != "Z" && fields[0] != "X" {
			list = append(list, path)
		}
	}
	return list
}

const hostEnv = "WAVRY_TEST_HOST"

// hostMain is a host runtime that starts a plugin, prints its pid and waits to be killed.
func hostMain(dir string) {
	self, _ := os.Executable()
	b := fakeplugin.Behaviour{Role: "capture"}
	p, err := Launch(context.Background(), Spec{Path: self, Role: RoleCapture, Env: append(os.Environ(), b.Env()), TempDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Exited()
}

// TestHostKilled proves that a plugin does not survive a host runtime that is killed, and that the next one cleans up.
func TestHostKilled(t *testing.T) {
	dir := shortDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self)
	host.Env = append(os.Environ(), hostEnv+"="+dir)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || convErr != nil {
		t.Fatalf("host said %q: %v", line, err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	awaitNoGroup(t, pid)
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Fatal("a killed host should leave its directory:", left)
	}
	long := time.Now().Add(-sweepAge)
	if err := os.Chtimes(filepath.Join(dir, left[0].Name()), long, long); err != nil {
		t.Fatal(err)
	}
	d, err := NewTempDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != filepath.Base(d.Path) {
		t.Fatal("not swept:", left)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
}

// TestNoDescriptorLeak proves that a run gives back every descriptor.
func TestNoDescriptorLeak(t *testing.T) {
	cycle := func() {
		p, err := Launch(context.Background(), fake(t, fakeplugin.Behaviour{Role: "capture"}))
		if err != nil {
			t.Fatal(err)
		}
		p.Kill()
	}
	cycle() // opens what stays: epoll, /dev/null
	before := descriptors(t)
	for range 3 {
		cycle()
	}
	if after := descriptors(t); after > before {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestOtherUser proves that a plugin can run as another user, and that without root the error says why not.
func TestOtherUser(t *testing.T) {
	spec := fake(t, fakeplugin.Behaviour{Role: "capture"})
	spec.Users = &Users{Capture: &Credential{UID: 65534, GID: 65534, Groups: []uint32{}}}
	if os.Geteuid() != 0 {
		if _, err := Launch(context.Background(), spec); !errors.Is(err, ErrCredential) {
			t.Fatal(err)
		}
		return
	}
	if err := os.Chmod(spec.TempDir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := launch(t, spec) // its binary may lie where that user has no way to
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil || !strings.Contains(string(status), "Uid:\t65534\t65534") {
		t.Fatalf("%v\n%s", err, status)
	}
	if _, err := p.Capture().Probe(context.Background(), &pluginpb.ProbeRequest{}); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	checkEmpty(t, spec.TempDir)
}

// TestLogWriter proves that lines are cut, limited and counted, and that the end is kept.
func TestLogWriter(t *testing.T) {
	var buf lockedBuffer
	now := time.Unix(0, 0)
	log := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := newLogWriter(log, func() time.Time { return now })
	for i := range logBurst + 50 {
		fmt.Fprintf(w, "line %d\nha", i)
		fmt.Fprint(w, "lf ")
	}
	if n := strings.Count(buf.String(), "plugin stderr"); n != logBurst {
		t.Fatal(n, "lines, want", logBurst)
	}
	now = now.Add(time.Second)
	fmt.Fprintln(w, strings.Repeat("x", 3*tailBytes))
	if !strings.Contains(buf.String(), "suppressed=50") {
		t.Fatal("does not say how many lines are missing")
	}
	fmt.Fprintln(w, `time=now level=INFO msg="all is well"`)
	if tail := w.Tail(); len(tail) > tailBytes || !strings.HasSuffix(tail, "xxx") {
		t.Fatalf("tail %q", tail)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestDiscover proves which file names are plugins and which directory wins.
func TestDiscover(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for _, path := range []string{
		filepath.Join(first, "wavry-capture-test"), filepath.Join(first, "wavry"), filepath.Join(first, "wavry-encode-x.bak"),
		filepath.Join(second, "wavry-capture-test"), filepath.Join(second, "wavry-encode-software"), filepath.Join(second, "wavry-fake"),
	} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found, err := Discover(first, second, filepath.Join(first, "missing"))
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Error("missing directory not reported:", err)
	}
	want := []Binary{
		{"capture-test", RoleCapture, filepath.Join(first, "wavry-capture-test")},
		{"encode-software", RoleEncode, filepath.Join(second, "wavry-encode-software")},
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Fatalf("found %v, want %v", found, want)
	}
}
