package master

import (
	"fmt"
	"sync"
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
