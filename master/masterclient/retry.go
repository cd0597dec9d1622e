package masterclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// retrier repeats a unary call at another server until it is answered or refused for a reason that another server would give as well. Every call
// of the API except Rotate may be repeated without harm.
type retrier struct{ client *Client }

// WrapUnary implements connect.Interceptor.
func (r *retrier) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		deadline := time.Now().Add(r.client.cfg.RetryFor)
		pause := backoff{most: maxRetryPause}
		for {
			response, target, err := r.attempt(ctx, next, request)
			if err == nil {
				return response, nil
			}
			err = masterapiconnect.FromError(err)
			if !r.again(ctx, request.Spec().Procedure, err) || time.Now().After(deadline) {
				return nil, err
			}
			r.client.targets.failed(target)
			r.client.resolve(ctx)
			if r.client.pause(ctx, &pause, target, err) != nil {
				return nil, err
			}
		}
	}
}

func (r *retrier) attempt(ctx context.Context, next connect.UnaryFunc, request connect.AnyRequest) (connect.AnyResponse, string, error) {
	if r.client.targets.size() == 0 {
		r.client.resolve(ctx)
	}
	target, pinned := ctx.Value(targetKey{}).(string)
	if !pinned {
		target = r.client.targets.pick()
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, targetKey{}, target), attemptTimeout)
	defer cancel()
	response, err := next(ctx, request)
	return response, target, err
}

// again reports whether another attempt makes sense.
func (r *retrier) again(ctx context.Context, procedure string, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if _, pinned := ctx.Value(targetKey{}).(string); pinned {
		return false
	}
	var refused *masterapi.RefusedError
	if errors.As(err, &refused) {
		return refused.Reason == masterapi.Reason_REASON_NOT_READY || refused.Reason == masterapi.Reason_REASON_HOST_UNREACHABLE
	}
	if procedure == masterapiconnect.KeyServiceRotateProcedure {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeAborted, connect.CodeCanceled:
		return true // the transport failed, or the server went away while answering
	default:
		return false
	}
}

// WrapStreamingClient implements connect.Interceptor: streams are kept alive by their owners, here they only get a target.
func (r *retrier) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor; this is a client.
func (r *retrier) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// resolve asks for further addresses; a resolver that fails leaves the known ones.
func (c *Client) resolve(ctx context.Context) {
	if c.cfg.Resolve == nil {
		return
	}
	addresses, err := c.cfg.Resolve(ctx)
	if err != nil {
		c.log.Debug("look for masters", "err", err)
		return
	}
	c.targets.add(addresses...)
}

// withTarget fixes the target of a stream.
func (c *Client) withTarget(ctx context.Context) (context.Context, error) {
	if _, pinned := ctx.Value(targetKey{}).(string); pinned {
		return ctx, nil
	}
	if c.targets.size() == 0 {
		c.resolve(ctx)
	}
	target := c.targets.pick()
	if target == "" {
		return nil, ErrNoAddress
	}
	return context.WithValue(ctx, targetKey{}, target), nil
}

// leaderTarget asks who leads before a stream whose first bytes may not be lost.
func (c *Client) leaderTarget(ctx context.Context) (context.Context, error) {
	if _, err := c.operator.ListPeers(ctx, &masterapi.ListPeersRequest{}); err != nil {
		return nil, err
	}
	return c.withTarget(ctx)
}

// At pins every call made with the returned context to one server; such calls are not repeated.
func At(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, targetKey{}, address)
}

// backoff doubles from firstBackoff to most (0: maxBackoff) with jitter between half and all of it.
type backoff struct {
	step, most time.Duration
	tried      []string // since the latest pause
}

func (b *backoff) next() time.Duration {
	if b.step == 0 {
		b.step = firstBackoff
	} else {
		most := b.most
		if most == 0 {
			most = maxBackoff
		}
		b.step = min(2*b.step, most)
	}
	return b.step/2 + rand.N(b.step/2)
}

// wait pauses; it returns ctx's error when that ends first.
func (b *backoff) wait(ctx context.Context) error {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// pause waits after target failed, unless there is a server that was not tried since the latest pause: it may lead, and a dead server should cost nobody
// the wait. A server that refused is there, and asks for the wait.
func (c *Client) pause(ctx context.Context, b *backoff, target string, err error) error {
	var refused *masterapi.RefusedError
	b.tried = append(b.tried, target)
	if !errors.As(err, &refused) && !slices.Contains(b.tried, c.targets.pick()) {
		return ctx.Err()
	}
	b.tried = nil
	return b.wait(ctx)
}

func (b *backoff) reset() { b.step, b.tried = 0, nil }
