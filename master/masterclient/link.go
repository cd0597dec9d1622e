package masterclient

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"github.com/wavry/fleet/master/masterapi"
	"github.com/wavry/fleet/master/masterapi/masterapiconnect"
)

// Link keeps one stream to the leader alive: R goes up, C comes down.
//
// On each connection it first sends what Hello returns at that moment; the master answers with a welcome, which carries the key set and the
// revocations. Commands are given to Command one after the other, on the link's goroutine: it must not block for long.
type Link[R, C any] struct {
	client  *Client
	open    func(context.Context) (*connect.BidiStreamForClientSimple[R, C], error)
	hello   func() *R
	command func(*C)

	queue  chan *R
	linked atomic.Bool
}

// HostLink is the link of a host.
type HostLink = Link[masterapi.HostReport, masterapi.HostCommand]

// RelayLink is the link of a relay.
type RelayLink = Link[masterapi.RelayReport, masterapi.RelayCommand]

// NewHostLink returns the link of a host. hello is called for each connection and lists the sessions running at that moment.
func (c *Client) NewHostLink(hello func() *masterapi.HostHello, command func(*masterapi.HostCommand)) *HostLink {
	report := func() *masterapi.HostReport {
		return &masterapi.HostReport{Report: &masterapi.HostReport_Hello{Hello: hello()}}
	}
	return &HostLink{client: c, open: c.links.HostLink, hello: report, command: command, queue: make(chan *masterapi.HostReport, linkQueue)}
}

// NewRelayLink returns the link of a relay.
func (c *Client) NewRelayLink(hello func() *masterapi.RelayHello, command func(*masterapi.RelayCommand)) *RelayLink {
	report := func() *masterapi.RelayReport {
		return &masterapi.RelayReport{Report: &masterapi.RelayReport_Hello{Hello: hello()}}
	}
	return &RelayLink{client: c, open: c.links.RelayLink, hello: report, command: command, queue: make(chan *masterapi.RelayReport, linkQueue)}
}

// Linked reports whether the master has welcomed this link and it still stands.
func (l *Link[R, C]) Linked() bool { return l.linked.Load() }

// Send queues one report. It never blocks: ErrNotLinked while the link is down, ErrSlowLink when the queue is full. The report may not be
// changed afterwards.
func (l *Link[R, C]) Send(report *R) error {
	if !l.linked.Load() {
		return ErrNotLinked
	}
	select {
	case l.queue <- report:
		return nil
	default:
		return ErrSlowLink
	}
}

// Run keeps the link until ctx ends, sends what is queued then, and returns nil.
func (l *Link[R, C]) Run(ctx context.Context) error {
	l.client.keep(ctx, "link to the master ended", l.once)
	return nil
}

func (l *Link[R, C]) once(ctx context.Context) error {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if l.linked.Load() {
			time.AfterFunc(farewell, cancel) // talk ends by itself before
		} else {
			cancel()
		}
	})()
	stream, err := l.open(streamCtx)
	if err != nil {
		return err
	}
	return l.talk(ctx, cancel, stream)
}

// talk runs both directions until one fails, or until ctx ends and the last reports are with the master. cancel ends the stream.
func (l *Link[R, C]) talk(ctx context.Context, cancel context.CancelFunc, stream *connect.BidiStreamForClientSimple[R, C]) error {
	defer l.linked.Store(false)
	if err := stream.Send(l.hello()); err != nil && !errors.Is(err, io.EOF) {
		return masterapiconnect.FromError(err)
	}
	first, err := stream.Receive()
	if err != nil {
		_ = stream.CloseRequest() // the stream is over already; its error is the one that matters
		_ = stream.CloseResponse()
		return masterapiconnect.FromError(err)
	}
	l.empty()
	l.linked.Store(true)
	l.command(first)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group := new(errgroup.Group)
	group.Go(func() error {
		err := l.sendAll(ctx, stream)
		if err != nil {
			cancel()
		}
		return err
	})
	group.Go(func() error {
		defer stop()
		return l.receiveAll(stream)
	})
	err = group.Wait()
	_ = stream.CloseResponse()
	return masterapiconnect.FromError(err)
}

// empty drops what was queued for an earlier connection; the hello has said it better.
func (l *Link[R, C]) empty() {
	for {
		select {
		case <-l.queue:
		default:
			return
		}
	}
}

// sendAll sends what is queued until ctx ends, and then the rest: how the last sessions ended is in it.
func (l *Link[R, C]) sendAll(ctx context.Context, stream *connect.BidiStreamForClientSimple[R, C]) error {
	defer func() { _ = stream.CloseRequest() }() // a close error says no more than the receiver's error
	for {
		select {
		case report := <-l.queue:
			if err := stream.Send(report); err != nil {
				return err
			}
		case <-ctx.Done():
			return l.sendRest(stream)
		}
	}
}

func (l *Link[R, C]) sendRest(stream *connect.BidiStreamForClientSimple[R, C]) error {
	for {
		select {
		case report := <-l.queue:
			if err := stream.Send(report); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (l *Link[R, C]) receiveAll(stream *connect.BidiStreamForClientSimple[R, C]) error {
	for {
		command, err := stream.Receive()
		if err != nil {
			return err
		}
		l.command(command)
	}
}

// keep opens a stream again and again until ctx ends.
func (c *Client) keep(ctx context.Context, ended string, once func(context.Context) error) {
	pause := backoff{}
	for ctx.Err() == nil {
		began := time.Now()
		target, err := c.openOnce(ctx, once)
		if time.Since(began) > maxBackoff {
			pause.reset()
		}
		if ctx.Err() == nil {
			c.log.Info(ended, "cause", err)
			_ = c.pause(ctx, &pause, target, err) // its error is ctx's, which the loop sees
		}
	}
}

func (c *Client) openOnce(ctx context.Context, once func(context.Context) error) (target string, err error) {
	ctx, err = c.withTarget(ctx)
	if err != nil {
		return "", err
	}
	target, _ = ctx.Value(targetKey{}).(string)
	err = once(ctx)
	c.learn(ctx, err)
	return target, err
}

// learn takes from a stream's error where the leader is.
func (c *Client) learn(ctx context.Context, err error) {
	target, _ := ctx.Value(targetKey{}).(string)
	c.targets.failed(target)
	var notLeader *masterapi.NotLeaderError
	if errors.As(err, &notLeader) && notLeader.Address != "" {
		c.targets.setLeader(notLeader.Address)
		return
	}
	c.resolve(ctx)
}

// WatchSessions calls event for each event until ctx ends, then returns nil. It reconnects by itself; each connection begins with a SYNC event.
func (c *Client) WatchSessions(ctx context.Context, gatewayID string, event func(*masterapi.SessionEvent)) error {
	c.keep(ctx, "session watch ended", func(ctx context.Context) error { return c.watchOnce(ctx, gatewayID, event) })
	return nil
}

func (c *Client) watchOnce(ctx context.Context, gatewayID string, event func(*masterapi.SessionEvent)) error {
	stream, err := c.sessions.WatchSessions(ctx, &masterapi.WatchSessionsRequest{GatewayId: gatewayID})
	if err != nil {
		return masterapiconnect.FromError(err)
	}
	defer stream.Close()
	for stream.Receive() {
		event(stream.Msg())
	}
	return masterapiconnect.FromError(stream.Err())
}
