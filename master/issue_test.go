package master

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wavry/fleet/master/masterapi"
)

// TestIssueJoins proves that calls of many goroutines through one client, which travel together, each get their own answer: a lease of their own, the
// same one for the same request, or a refusal of their own.
func TestIssueJoins(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	c.leader()
	c.host("h1", 50, nil)
	c.settle()
	gw, ctx := c.client("t-gateway"), testContext(t)
	var mu sync.Mutex
	leases, refused := map[string]int{}, map[masterapi.Reason]int{}
	var wait sync.WaitGroup
	for i := range 150 {
		wait.Go(func() {
			r := request(fmt.Sprint("q", i%75)) // each request twice
			if i%75 >= 70 {
				r.Login = ""
			}
			got, err := gw.Issue(ctx, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				reason, _ := masterapi.ReasonOf(err)
				refused[reason]++
				return
			}
			leases[got.GetLease().GetLeaseId()]++
		})
	}
	wait.Wait()
	if len(leases) != 50 || refused[masterapi.Reason_REASON_INVALID_REQUEST] != 10 || refused[masterapi.Reason_REASON_NO_FREE_HOST] == 0 || len(refused) != 2 {
		t.Errorf("%d leases of 50 slots, refused %v", len(leases), refused)
	}
	for id, n := range leases {
		if n > 2 {
			t.Errorf("lease %s was given %d times", id, n)
		}
	}
}

// TestIssueWaitsForLeader proves that joined calls that meet a change of leader wait for the next one and succeed, as single ones do, and that each
// request has one lease.
func TestIssueWaitsForLeader(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	c.leader()
	c.host("h1", 1<<20, nil)
	c.settle()
	gw, ctx := c.client("t-gateway"), testContext(t)
	var stopped atomic.Bool
	var issued atomic.Int64
	var wait sync.WaitGroup
	for w := range 64 {
		wait.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				if _, err := gw.Issue(ctx, request(fmt.Sprint("w", w, "-", i))); err != nil {
					t.Errorf("caller %d, call %d: %v", w, i, err)
					return
				}
				issued.Add(1)
			}
		})
	}
	for range 4 { // calls that are on their way fail there with every transfer
		before := issued.Load()
		eventually(t, "calls are answered", func() bool { return issued.Load() > before+500 })
		if err := c.servers[c.leader()].node.Raft().LeadershipTransfer().Error(); err != nil {
			t.Fatal(err)
		}
	}
	stopped.Store(true)
	wait.Wait()
	hosts, err := gw.Fleet().ListHosts(ctx, &masterapi.ListHostsRequest{})
	if err != nil || int64(hosts.GetHosts()[0].GetSlotsUsed()) != issued.Load() {
		t.Errorf("%d calls were answered, %v, %v", issued.Load(), hosts, err)
	}
}
