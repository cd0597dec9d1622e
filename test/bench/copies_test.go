//go:build latency

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wavry/fleet/test/browser"
	"github.com/wavry/fleet/test/rig"
)

// copies tells how much data each process of ours moved while pictures were streamed.
type copies struct {
	frame     int     // bytes of a raw picture
	fps       float64 // while strace watched
	processes []traffic
	heap      float64 // bytes that the host runtime allocated per picture
	pictures  int     // that heap was measured over
}

// traffic of one process by its system calls that carry data.
type traffic struct {
	name     string
	calls    int
	bytes    float64 // per second
	largest  int     // bytes in one call
	by       string  // the call that was largest
	mappings int     // of shared memory, at least a picture large
	mapCalls int     // during the measurement, at least a picture large
}

const (
	traced = 6 * time.Second
	// heapTime is long because what is seen comes in whole megabytes.
	heapTime = 12 * time.Second
)

func measureCopies(t *testing.T) copies {
	l := lanes[0]
	// The collector reports whole megabytes, so it is made to run often.
	dev := l.start(t, "GODEBUG=gctrace=1", "GOGC=10")
	p := browser.New(t, l.width, l.height)
	p.Open(dev.SignIn())
	p.Live()
	steer(p, l, settle)
	c := copies{frame: 4 * l.width * l.height}
	before, mark := p.Snapshot(), len(dev.Output())
	steer(p, l, heapTime)
	c.pictures = p.Snapshot().Received - before.Received
	c.heap = allocated(dev.Output()[mark:]) / max(1, float64(c.pictures))

	before = p.Snapshot()
	began := time.Now()
	pids := map[string]int{"host runtime (wavry)": dev.PID()}
	names := []string{"host runtime (wavry)"}
	for _, name := range []string{"wavry-capture-wayland", "wavry-encode-software"} {
		pids[name] = rig.Child(t, dev.PID(), name)
		names = append(names, name)
	}
	c.processes = trace(t, names, pids, c.frame, func() { steer(p, l, traced) })
	c.fps = float64(p.Snapshot().Received-before.Received) / time.Since(began).Seconds()
	return c
}

var collection = regexp.MustCompile(`(?m)^gc \d+ @.* (\d+)->(\d+)->(\d+) MB`)

// allocated sums what was put on the heap between garbage collections, in bytes, from their reports.
func allocated(log string) float64 {
	total, live := 0.0, -1.0
	for _, m := range collection.FindAllStringSubmatch(log, -1) {
		start, marked := number(m[1]), number(m[3])
		if live >= 0 {
			total += max(0, start-live)
		}
		live = marked
	}
	return total * 1e6
}

// dataCalls are the system calls that carry data from or to a process, and those that map memory.
const dataCalls = "read,readv,pread64,preadv,write,writev,pwrite64,pwritev,recvfrom,recvmsg,recvmmsg,sendto,sendmsg,sendmmsg," +
	"splice,tee,vmsplice,sendfile,copy_file_range,process_vm_readv,process_vm_writev,mmap,mremap"

// trace watches processes with strace while during runs.
func trace(t *testing.T, names []string, pids map[string]int, frame int, during func()) []traffic {
	t.Helper()
	path := filepath.Join(t.TempDir(), "strace")
	args := []string{"-f", "-q", "-s", "0", "-e", "trace=" + dataCalls, "-e", "signal=none", "-o", path}
	for _, name := range names {
		args = append(args, "-p", strconv.Itoa(pids[name]))
	}
	c := exec.Command("strace", args...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	during()
	owners := map[string]int{} // thread to index in names
	for i, name := range names {
		for _, tid := range threads(t, pids[name]) {
			owners[tid] = i
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // strace ends with the signal it got
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]traffic, len(names))
	for i, name := range names {
		out[i].name, out[i].mappings = name, sharedMappings(t, pids[name], frame)
	}
	for line := range strings.Lines(string(raw)) {
		tid, call, _ := strings.Cut(line, " ")
		if i, known := owners[tid]; known {
			out[i].add(strings.TrimSpace(call), frame)
		}
	}
	for i := range out {
		out[i].bytes /= traced.Seconds()
	}
	return out
}

func threads(t *testing.T, pid int) []string {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// sharedMappings counts mappings of shared memory that could hold a picture.
func sharedMappings(t *testing.T, pid, frame int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[1], "s") && to-from >= uint64(frame) {
			n++
		}
	}
	return n
}

var (
	callName = regexp.MustCompile(`^(?:<\.\.\. )?([a-z0-9_]+)`)
	returned = regexp.MustCompile(`= (\d+)\s*(?:\(.*\))?$`)
	sizes    = regexp.MustCompile(`msg_len=(\d+)`)
	mapSize  = regexp.MustCompile(`^mmap\([^,]+, (\d+), [^,]+, [^,]+, (-?\d+)`)
)

// add counts one line of strace. A call that was interrupted by another thread's line has its result in the second half.
func (tr *traffic) add(line string, frame int) {
	name := callName.FindStringSubmatch(line)
	if name == nil || strings.HasSuffix(line, "<unfinished ...>") {
		return
	}
	if name[1] == "mmap" || name[1] == "mremap" {
		if m := mapSize.FindStringSubmatch(line); m != nil && m[2] != "-1" && number(m[1]) >= float64(frame) {
			tr.mapCalls++
		}
		return
	}
	n := 0
	if m := returned.FindStringSubmatch(line); m != nil {
		n = int(number(m[1]))
	}
	if strings.HasSuffix(name[1], "mmsg") { // returns how many messages
		n = 0
		for _, m := range sizes.FindAllStringSubmatch(line, -1) {
			n += int(number(m[1]))
		}
	}
	tr.calls++
	tr.bytes += float64(n)
	if n > tr.largest {
		tr.largest, tr.by = n, name[1]
	}
}
