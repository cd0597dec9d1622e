package masterclient

import (
	"context"
	"runtime"
	"sync"

	"github.com/wavry/fleet/master/masterapi"
)

// issuer joins the calls of many goroutines: while one call is on its way, what arrives meanwhile waits and goes with the next one. A single caller never
// waits for others.
type issuer struct {
	client *Client

	mu      sync.Mutex // guards the following
	flying  int
	waiting []*pendingIssue
}

type pendingIssue struct {
	request *masterapi.AdmitRequest
	done    chan struct{}
	issued  *masterapi.IssueResponse
	err     error
}

// maxIssueCalls is how many calls one client has on their way: with one the batches are largest, which is worth more than the time it waits.
const maxIssueCalls = 1

// Issue issues one lease; it is LeaseService.Issue, joined with the calls of other goroutines when there are many. When ctx ends the lease may still
// be issued; a retry with the same request id finds it.
func (c *Client) Issue(ctx context.Context, r *masterapi.AdmitRequest) (*masterapi.IssueResponse, error) {
	p := &pendingIssue{request: r, done: make(chan struct{})}
	switch batch := c.issuer.add(p); {
	case len(batch) == 1:
		c.issuer.send(ctx, batch)
		// Whoever came meanwhile goes on without this caller; run ends by itself, since each of its calls is bounded.
		if next := c.issuer.next(); len(next) > 0 {
			go c.issuer.run(context.WithoutCancel(ctx), next)
		}
		return p.issued, p.err
	case len(batch) > 1:
		go c.issuer.run(context.WithoutCancel(ctx), batch) // as above
	}
	select {
	case <-p.done:
		return p.issued, p.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// add queues p, or returns a batch that the caller must run now.
func (i *issuer) add(p *pendingIssue) []*pendingIssue {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting = append(i.waiting, p)
	if i.flying >= maxIssueCalls {
		return nil
	}
	i.flying++
	return i.takeLocked()
}

func (i *issuer) takeLocked() []*pendingIssue {
	n := min(len(i.waiting), masterapi.MaxIssueBatch)
	batch := i.waiting[:n:n]
	i.waiting = i.waiting[n:]
	return batch
}

// run sends batches until nobody waits.
func (i *issuer) run(ctx context.Context, batch []*pendingIssue) {
	for len(batch) > 0 {
		i.send(ctx, batch)
		// Who was just answered often asks again at once: letting them join makes larger batches (measured: a tenth less processor time).
		runtime.Gosched()
		batch = i.next()
	}
}

// next returns the batch that goes after the one that has ended, or none and gives its place back.
func (i *issuer) next() []*pendingIssue {
	i.mu.Lock()
	defer i.mu.Unlock()
	batch := i.takeLocked()
	if len(batch) == 0 {
		i.flying--
	}
	return batch
}

func (i *issuer) send(ctx context.Context, batch []*pendingIssue) {
	ctx = withDirect(ctx, true) // a lease may be asked for twice
	if len(batch) == 1 {
		batch[0].issued, batch[0].err = i.client.leases.Issue(ctx, batch[0].request)
		close(batch[0].done)
		return
	}
	request := &masterapi.IssueBatchRequest{Requests: make([]*masterapi.AdmitRequest, len(batch))}
	for k, p := range batch {
		request.Requests[k] = p.request
	}
	response, err := i.client.leases.IssueBatch(ctx, request)
	for k, p := range batch {
		switch {
		case err != nil:
			p.err = err
		case k >= len(response.GetOutcomes()):
			p.err = masterapi.Refuse(masterapi.Reason_REASON_NOT_READY, "the answer lacks this request")
		default:
			p.issued, p.err = response.GetOutcomes()[k].GetIssued(), response.GetOutcomes()[k].GetRefusal().Err()
		}
		close(p.done)
	}
}
