package master

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wavry/fleet/master/identity"
	"github.com/wavry/fleet/master/masterapi"
)

// link is the leader's end of one stream to a machine: R comes up, C goes down.
type link[R, C any] struct {
	id   string
	out  chan *C
	done chan struct{} // closed by end
	once sync.Once
	why  error // set before done is closed
}

func newLink[R, C any](id string) *link[R, C] {
	return &link[R, C]{id: id, out: make(chan *C, linkCommands), done: make(chan struct{})}
}

// send queues a command. A machine that does not take its commands is cut: its next hello puts everything right.
func (l *link[R, C]) send(command *C) {
	select {
	case l.out <- command:
	default:
		l.end(errLinkSlow)
	}
}

// finish closes the link when the machine has been sent what waits for it.
func (l *link[R, C]) finish() { l.send(nil) }

// end closes the link; the first cause counts.
func (l *link[R, C]) end(why error) {
	l.once.Do(func() {
		l.why = why
		close(l.done)
	})
}

// serve sends commands and gives reports to handle until either side ends. handle runs on a goroutine of its own, one report after the other.
func (l *link[R, C]) serve(ctx context.Context, stream *connect.BidiStream[R, C], handle func(*R)) error {
	alive := make(chan struct{}, 1)
	// This goroutine is owned by serve's caller, the handler of the stream: Receive fails as soon as the handler has returned.
	go func() {
		for {
			report, err := stream.Receive()
			if err != nil {
				l.end(err)
				return
			}
			select {
			case alive <- struct{}{}:
			default:
			}
			select {
			case <-l.done:
				return
			default:
				handle(report)
			}
		}
	}()
	watchdog := time.NewTimer(linkTimeout)
	defer watchdog.Stop()
	for {
		select {
		case <-ctx.Done():
			l.end(whyOver(ctx))
			return l.why
		case <-l.done:
			return l.why
		case <-alive:
			watchdog.Reset(linkTimeout)
		case <-watchdog.C:
			l.end(errLinkSilent)
		case command := <-l.out:
			if command == nil {
				l.end(errLinkRevoked)
			} else if err := stream.Send(command); err != nil {
				l.end(err)
			}
		}
	}
}

// hostLink adds the answers to Prepare.
type hostLink struct {
	*link[masterapi.HostReport, masterapi.HostCommand]

	caller identity.Identity

	mu      sync.Mutex // guards the following
	waiting map[string][]chan prepareAnswer
}

type prepareAnswer struct {
	prepared *masterapi.Prepared
	failed   *masterapi.PrepareFailed
}

type relayLink = link[masterapi.RelayReport, masterapi.RelayCommand]

func newHostLink(id string, caller identity.Identity) *hostLink {
	return &hostLink{link: newLink[masterapi.HostReport, masterapi.HostCommand](id), caller: caller, waiting: map[string][]chan prepareAnswer{}}
}

// prepare asks the host and waits for its answer.
func (h *hostLink) prepare(ctx context.Context, p *masterapi.Prepare) (*masterapi.Prepared, error) {
	answer := h.expect(p.GetLeaseId())
	defer h.forget(p.GetLeaseId(), answer)
	h.send(&masterapi.HostCommand{Command: &masterapi.HostCommand_Prepare{Prepare: p}})
	select {
	case a := <-answer:
		if a.failed != nil {
			return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_PREPARE_FAILED, "host %s: %s: %s", h.id, a.failed.GetReason().Slug(), a.failed.GetMessage())
		}
		return a.prepared, nil
	case <-h.done:
		return nil, masterapi.Refuse(masterapi.Reason_REASON_HOST_UNREACHABLE, "host %s: %v", h.id, h.why).After(retrySoon)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *hostLink) expect(lease string) chan prepareAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	answer := make(chan prepareAnswer, 1)
	h.waiting[lease] = append(h.waiting[lease], answer)
	return answer
}

func (h *hostLink) forget(lease string, answer chan prepareAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.waiting[lease]
	for i, c := range list {
		if c == answer {
			h.waiting[lease] = append(list[:i:i], list[i+1:]...)
		}
	}
	if len(h.waiting[lease]) == 0 {
		delete(h.waiting, lease)
	}
}

// answered gives a host's answer to everybody who waits for it.
func (h *hostLink) answered(lease string, a prepareAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.waiting[lease] {
		select {
		case c <- a:
		default: // it has an answer already
		}
	}
}

// whyOver is why a stream ended from here: its service was revoked, or this server leads no more.
func whyOver(ctx context.Context) error {
	var refused *masterapi.RefusedError
	if errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return errDeposed
}
