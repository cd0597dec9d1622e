package desktop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// killAll ends every process of the desktop: SIGTERM, a grace, SIGKILL, and an error if something outlives even that.
func (d *Desktop) killAll() error {
	adopt := func() {}
	if d.cfg.Exclusive {
		adopt = func() { reapOrphans(d.spawn, d.guardPID) }
	}
	return killMarked(d.id, termGrace, d.roots, adopt)
}

// roots are the children that belong to the desktop, marked or not: those started for it and, if we are there for nothing else,
// those that fell to us.
func (d *Desktop) roots() []int {
	if !d.cfg.Exclusive {
		return d.spawn.children()
	}
	self := os.Getpid()
	var pids []int
	for _, p := range processes() {
		if p.parent == self && p.pid != d.guardPID {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// killMarked ends all members of desktop id. adopt is called between looks, to reap what fell to us.
func killMarked(id string, grace time.Duration, roots func() []int, adopt func()) error {
	if killWithin(unix.SIGTERM, grace, id, roots, adopt) || killWithin(unix.SIGKILL, killGrace, id, roots, adopt) {
		return nil
	}
	return fmt.Errorf("end desktop: processes %v survive SIGKILL", members(id, roots()))
}

// killWithin signals each member once, newcomers too, and says whether all were gone in time.
func killWithin(sig unix.Signal, within time.Duration, id string, roots func() []int, adopt func()) bool {
	sent := map[int]bool{}
	for deadline := time.Now().Add(within); ; time.Sleep(pollEvery) {
		adopt()
		left := members(id, roots())
		if len(left) == 0 {
			return true
		}
		for _, pid := range left {
			if !sent[pid] {
				sent[pid] = true
				signalMember(pid, sig)
			}
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// signalMember holds the process by a pidfd, so that a reused pid is never hit. Failing means that it is gone.
func signalMember(pid int, sig unix.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	_ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0) // a stopped process takes SIGTERM only after it continues
}

// members lists the living processes that carry the mark or descend from one that does or from roots.
func members(id string, roots []int) []int {
	procs := processes()
	in := map[int]bool{}
	for _, pid := range roots {
		in[pid] = true
	}
	mark := []byte(markerVar + "=" + id)
	for _, p := range procs {
		if hasMark(p.pid, mark) {
			in[p.pid] = true
		}
	}
	for grew := true; grew; { // parents may come after children in the list
		grew = false
		for _, p := range procs {
			if in[p.parent] && !in[p.pid] {
				in[p.pid], grew = true, true
			}
		}
	}
	var living []int
	for _, p := range procs {
		if in[p.pid] && !p.zombie && p.pid != os.Getpid() {
			living = append(living, p.pid)
		}
	}
	return living
}

func hasMark(pid int, mark []byte) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false // gone, or another user's: not ours
	}
	return slices.ContainsFunc(bytes.Split(env, []byte{0}), func(kv []byte) bool { return bytes.Equal(kv, mark) })
}

type procEntry struct {
	pid, parent int
	zombie      bool
}

func processes() []procEntry {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var list []procEntry
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := procStat(pid); ok {
			list = append(list, p)
		}
	}
	return list
}

// procStat reads state and parent from /proc/PID/stat; the name before them may contain anything, so look behind its last ')'.
func procStat(pid int) (procEntry, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procEntry{}, false
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 2 {
		return procEntry{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return procEntry{pid: pid, parent: parent, zombie: fields[0][0] == 'Z'}, err == nil
}

// becomeSubreaper makes orphaned descendants our children.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// reapOrphans collects dead children that s did not start: processes of the desktop whose parents died. It leaves except alone.
func reapOrphans(s *spawner, except int) {
	self := os.Getpid()
	for _, p := range processes() {
		if p.parent == self && p.zombie && p.pid != except && !s.has(p.pid) {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil) // whatever it says, the next look finds what is left
		}
	}
}

// reapMeanwhile reaps orphans while the desktop runs, if they fall to us, until the returned function was called.
func (d *Desktop) reapMeanwhile() (stop func()) {
	if !d.cfg.Exclusive {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for sleep(ctx, reapEvery) {
			reapOrphans(d.spawn, d.guardPID)
		}
	}()
	return func() { cancel(); <-done }
}
