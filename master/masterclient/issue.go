package masterclient

import (
	"context"
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

// maxIssueCalls is how many calls one client has on their way: the second fills the server's time while the first one's answer travels.
const maxIssueCalls = 2

// Issue issues one lease; it is LeaseService.Issue, joined with the calls of other goroutines when there are many. When ctx ends the lease may still
// be issued; a retry with the same request id finds it.
func (c *Client) Issue(ctx context.Context, r *masterapi.AdmitRequest) (*masterapi.IssueResponse, error) {
	p := &pendingIssue{request: r, done: make(chan struct{})}
	if batch := c.issuer.add(p); batch != nil {
		// The calls of others travel with this one, so its end must not depend on this caller alone.
		go c.issuer.run(context.WithoutCancel(ctx), batch) // ends by itself: each call is bounded
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
		i.mu.Lock()
		if batch = i.takeLocked(); len(batch) == 0 {
			i.flying--
		}
		i.mu.Unlock()
	}
}

func (i *issuer) send(ctx context.Context, batch []*pendingIssue) {
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
