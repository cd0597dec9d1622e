//go:build integration

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// One lease, as a client may see it: it is issued once, lives, and ends once.
type leaseOp struct {
	kind string // issue, get, release
	key  string
}

type leaseState int

const (
	absent leaseState = iota
	live
	ended
)

// outcome of an operation; unknown means that nobody knows whether it took effect.
type outcome string

const (
	sawLive, sawEnded, sawAbsent, unknown outcome = "live", "ended", "absent", "unknown"
)

// leaseModel says what a sequential master would answer.
var leaseModel = porcupine.NondeterministicModel{
	Init: func() []any { return []any{absent} },
	Step: func(state, input, output any) []any {
		s, op, out := state.(leaseState), input.(leaseOp), output.(outcome)
		next, answer := s, map[leaseState]outcome{absent: sawAbsent, live: sawLive, ended: sawEnded}[s]
		switch op.kind {
		case "issue":
			if s == absent {
				next, answer = live, sawLive
			}
		case "release":
			if s == live {
				next = ended
			}
			if s != absent {
				answer = sawEnded
			}
		}
		if out == unknown {
			return []any{s, next}
		}
		if out == answer {
			return []any{next}
		}
		return nil
	},
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, op := range history {
			key := op.Input.(leaseOp).key
			byKey[key] = append(byKey[key], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
}

// TestLeaderKilledUnderLoad kills the leader with SIGKILL again and again while leases are issued, read and released, and proves with a linearizability
// checker that no acknowledged lease is lost or doubled, and by counting that no host slot is given twice.
func TestLeaderKilledUnderLoad(t *testing.T) {
	s := start(t, 3, nil)
	s.leader()
	s.healthy()
	const hosts, slots, workers = 3, 2000, 12
	for i := range hosts {
		s.link(fmt.Sprintf("h%d", i), slots)
	}
	h := &history{begin: time.Now(), leases: map[string]string{}, t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for w := range workers {
		gw := s.client("gateway")
		wait.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for ctx.Err() == nil {
				// Two workers share a range of keys, so that the same request arrives twice at once.
				key := fmt.Sprintf("q%d-%d", w/2, int(h.turn.Add(1))/40+r.IntN(6))
				h.do(gw, w, leaseOp{[]string{"issue", "issue", "get", "release"}[r.IntN(4)], key})
			}
		})
	}
	var gaps []time.Duration
	for range 4 {
		count := h.done.Load()
		eventually(t, 60*time.Second, "load", func() bool { return h.done.Load() > count+300 })
		leader := s.leader()
		at, before := time.Now(), h.done.Load()
		s.kill(leader)
		eventually(t, 30*time.Second, "answers after the kill", func() bool { return h.done.Load() > before+2*workers })
		gaps = append(gaps, time.Since(at).Round(time.Millisecond))
		s.start(leader)
		s.healthy()
	}
	cancel()
	wait.Wait()
	t.Logf("%d operations, %d unknown, answers %v after each kill", h.done.Load(), h.unknown.Load(), gaps)
	if result := porcupine.CheckOperationsTimeout(leaseModel.ToModel(), h.operations(), time.Minute); result != porcupine.Ok {
		t.Fatalf("the history is not linearizable: %s", result)
	}
	checkSlots(t, s, slots)
}

// history records operations for the checker.
type history struct {
	t             *testing.T
	begin         time.Time
	turn          atomic.Int64
	done, unknown atomic.Int64

	mu     sync.Mutex // guards the following
	list   []porcupine.Operation
	leases map[string]string // the id each request was given
}

func (h *history) do(gw interface {
	Sessions() masterapiconnect.SessionServiceClient
	Leases() masterapiconnect.LeaseServiceClient
}, client int, op leaseOp) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	h.mu.Lock()
	id := h.leases[op.key]
	h.mu.Unlock()
	if op.kind != "issue" && id == "" {
		return // nobody was told of it yet
	}
	called := time.Since(h.begin).Nanoseconds()
	var err error
	out := sawLive
	switch op.kind {
	case "issue":
		var r *masterapi.Grant
		if r, err = gw.Sessions().Admit(ctx, &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: op.key, Login: "ada"}); err == nil {
			h.remember(op.key, r.GetLeaseId())
		}
	case "get":
		var l *masterapi.Lease
		if l, err = gw.Leases().Get(ctx, &masterapi.GetLeaseRequest{LeaseId: id}); err == nil && l.GetEnded() != nil {
			out = sawEnded
		}
	case "release":
		out = sawEnded
		_, err = gw.Leases().Release(ctx, &masterapi.ReleaseRequest{LeaseId: id})
	}
	if err != nil {
		out = h.failed(err)
	}
	returned := time.Since(h.begin).Nanoseconds()
	if out == unknown {
		if op.kind == "get" {
			return
		}
		h.unknown.Add(1)
		returned = int64(time.Hour) // it may take effect at any time
	}
	h.done.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, porcupine.Operation{ClientId: client, Input: op, Call: called, Output: out, Return: returned})
}

func (h *history) failed(err error) outcome {
	switch reason, _ := masterapi.ReasonOf(err); reason {
	case masterapi.Reason_REASON_LEASE_ENDED, masterapi.Reason_REASON_SESSION_ENDED:
		return sawEnded
	case masterapi.Reason_REASON_LEASE_UNKNOWN:
		return sawAbsent
	default:
		return unknown
	}
}

// remember notes the id of a request; a second one would be a doubled lease.
func (h *history) remember(key, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.leases[key]; old != "" && old != id {
		h.t.Errorf("request %s was given leases %s and %s", key, old, id)
	}
	h.leases[key] = id
}

func (h *history) operations() []porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.list {
		h.list[i].ClientId = i // an operation without an end may overlap the next one of its client
	}
	return h.list
}

// checkSlots compares what each host has in use with the live leases, which hold one slot each.
func checkSlots(t *testing.T, s *servers, slots uint32) {
	t.Helper()
	op := s.client("operator")
	hosts, err := op.Fleet().ListHosts(testContext(t), &masterapi.ListHostsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	total := uint32(0)
	for _, h := range hosts.GetHosts() {
		leases, err := op.Leases().List(testContext(t), &masterapi.ListLeasesRequest{HostId: h.GetHostId(), Limit: masterapi.MaxPage})
		if err != nil {
			t.Fatal(err)
		}
		if uint32(len(leases.GetLeases())) != h.GetSlotsUsed() || h.GetSlotsUsed() > slots {
			t.Errorf("host %s: %d live leases, %d slots in use of %d", h.GetHostId(), len(leases.GetLeases()), h.GetSlotsUsed(), slots)
		}
		total += h.GetSlotsUsed()
	}
	t.Logf("%d slots in use at the end", total)
}

// TestMajorityKilled proves that a lone server is not ready, and that the cluster recovers with every lease.
func TestMajorityKilled(t *testing.T) {
	s := start(t, 3, nil)
	s.leader()
	s.healthy()
	s.link("h1", 100)
	gw := s.client("gateway")
	var ids []string
	for i := range 20 {
		r, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: fmt.Sprint("q", i), Login: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.GetLeaseId())
	}
	s.kill("m1")
	s.kill("m2")
	eventually(t, 15*time.Second, "the last server is not ready", func() bool { return !s.ready("m3") })
	s.start("m1")
	s.start("m2")
	eventually(t, 30*time.Second, "ready again", func() bool { return s.ready("m1") && s.ready("m2") && s.ready("m3") })
	for _, id := range ids {
		if l, err := gw.Leases().Get(testContext(t), &masterapi.GetLeaseRequest{LeaseId: id}); err != nil || l.GetEnded() != nil {
			t.Errorf("lease %s after recovery: %v, %v", id, l, err)
		}
	}
}

// TestLeaderFrozen proves that callers leave a leader that stopped without closing anything, and that it follows when it goes on.
func TestLeaderFrozen(t *testing.T) {
	s := start(t, 3, nil)
	leader := s.leader()
	s.healthy()
	s.link("h1", 10)
	gw := s.client("gateway")
	issue := func(id string) string {
		r, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: id, Login: "ada"})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetLeaseId()
	}
	before := issue("before")
	s.signal(leader, syscall.SIGSTOP)
	began := time.Now()
	if again := issue("before"); again != before {
		t.Errorf("lease %s instead of %s after the leader froze", again, before)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a frozen leader cost %s", took)
	} else {
		t.Logf("answered %s after the leader froze", took.Round(time.Millisecond))
	}
	eventually(t, 20*time.Second, "the host is linked to the new leader", func() bool {
		_, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "after", Login: "ada"})
		return err == nil
	})
	s.signal(leader, syscall.SIGCONT)
	s.healthy()
	if issue("before") != before {
		t.Error("another lease after the frozen leader went on")
	}
}

// TestKeysUnderLoad proves that no lease is rejected while keys rotate, and that after a revocation the old tokens are rejected for one clean reason.
func TestKeysUnderLoad(t *testing.T) {
	s := start(t, 3, nil)
	s.leader()
	s.healthy()
	keys := s.link("h1", 100_000)
	gw, op := s.client("gateway"), s.client("operator")
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	var issued, rejected atomic.Int64
	var last atomic.Value
	for w := range 8 {
		wait.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				r, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: fmt.Sprintf("w%d-%d", w, i), Login: "ada"})
				if err != nil {
					t.Errorf("issue: %v", err)
					return
				}
				if _, reason := keys.VerifyViewer(r.GetViewerToken(), time.Now()); reason != 0 {
					rejected.Add(1)
					t.Errorf("rejected: %s", reason.Slug())
				}
				issued.Add(1)
				last.Store(r.GetViewerToken())
			}
		})
	}
	rotations := 0
	for rotations < 5 {
		count := issued.Load()
		eventually(t, 30*time.Second, "load", func() bool { return issued.Load() > count+200 })
		eventually(t, 30*time.Second, "rotation", func() bool {
			_, err := op.Keys().Rotate(testContext(t), &masterapi.RotateKeyRequest{})
			return err == nil
		})
		rotations++
	}
	cancel()
	wait.Wait()
	t.Logf("%d leases over %d rotations, %d rejected", issued.Load(), rotations, rejected.Load())
	list, err := op.Keys().ListKeys(testContext(t), &masterapi.ListKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list.GetKeys() {
		if k.GetState() == masterapi.KeyState_KEY_STATE_SIGNING {
			if _, err := op.Keys().Revoke(testContext(t), &masterapi.RevokeKeyRequest{KeyId: k.GetKeyId()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, 10*time.Second, "revoked key refused", func() bool {
		_, reason := keys.VerifyViewer(last.Load().(string), time.Now())
		return reason == masterapi.Reason_REASON_UNKNOWN_KEY
	})
	r, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "after", Login: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if _, reason := keys.VerifyViewer(r.GetViewerToken(), time.Now()); reason != 0 {
		t.Errorf("a lease of after the revocation: %s", reason.Slug())
	}
}

// TestDiskFull proves that a leader whose log cannot be written steps down with a clear error, and that the others go on.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	s := start(t, 3, func(c *childConfig) {
		c.Segment = 1 << 20
		if c.ID == "m1" {
			c.Dir = small + "/m1"
		}
	})
	s.leader()
	s.healthy()
	op := s.client("operator")
	eventually(t, 60*time.Second, "the small disk leads", func() bool {
		if s.leader() == "m1" {
			return true
		}
		_, _ = op.Operator().TransferLeadership(testContext(t), &masterapi.TransferLeadershipRequest{}) // until it hits
		return false
	})
	s.link("h1", 1_000_000)
	s.mu.Lock()
	first := s.running["m1"]
	s.mu.Unlock()
	gone := make(chan error, 1)
	go func() { gone <- first.Wait() }()
	gw, ctx := s.client("gateway"), testContext(t)
	var wait sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	for w := range 64 {
		wait.Go(func() {
			for i := 0; running.Err() == nil; i++ {
				_, _ = gw.Sessions().Admit(running, &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: fmt.Sprintf("w%d-%d", w, i), Login: strings.Repeat("x", 60)}) // some fail on the way
			}
		})
	}
	select {
	case err := <-gone:
		var exit *exec.ExitError
		if err == nil {
			t.Error("the server ended without an error")
		} else if !asExit(err, &exit) {
			t.Errorf("the server ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the server with the full disk goes on")
	}
	stop()
	wait.Wait()
	log, err := os.ReadFile(s.logPath("m1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"steps down", "no space left on device"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("its log does not say %q; it ends with %s", want, tail(string(log)))
		}
	}
	if strings.Contains(string(log), "goroutine ") {
		t.Error("it panicked")
	}
	if _, err := gw.Sessions().Admit(testContext(t), &masterapi.AdmitRequest{ViewerKey: viewerKey, RequestId: "after", Login: "ada"}); err != nil {
		t.Errorf("the other servers: %v", err)
	}
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

func tail(s string) string { return s[max(0, len(s)-2000):] }
