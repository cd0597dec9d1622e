package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/wavry/fleet/hostruntime/pluginapi/inbox"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/rawio"
	"github.com/wavry/fleet/hostruntime/pluginapi/unitsocket"
)

// watchUnits reads a Watch whose access units come on a socket of their own. Both readers call emit, one at a time.
type watchUnits struct {
	p    *Process
	conn *net.UnixConn

	mu   sync.Mutex // one emit at a time; guards err
	emit func(*pluginpb.EncodeEvent) error
	err  error // the first that emit or the socket reported
	done bool  // no emit any more
}

// openUnits makes the socket and hands the plugin its end.
func (p *Process) openUnits(emit func(*pluginpb.EncodeEvent) error) (*watchUnits, error) {
	c, err := p.handPair(inbox.Units, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	return &watchUnits{p: p, conn: c, emit: emit}, nil
}

// run returns when stream is over and every unit that came before was emitted.
func (w *watchUnits) run(ctx context.Context, cancel context.CancelFunc, stream grpc.ServerStreamingClient[pluginpb.EncodeEvent]) error {
	read := make(chan struct{})
	go func() { // ends with the connection, which ctx or the plugin's end closes
		defer close(read)
		if err := w.readUnits(ctx); err != nil {
			w.fail(err)
			cancel()
		}
	}()
	streamErr := watch(ctx, w.p, stream, w.deliver)
	w.finish(ctx, read)
	cancel()
	<-read
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	return streamErr
}

// finish leaves the reader a moment to take what the plugin wrote before it ended.
func (w *watchUnits) finish(ctx context.Context, read <-chan struct{}) {
	drain, cancel := context.WithTimeout(ctx, pipeGrace)
	defer cancel()
	select {
	case <-read:
	case <-drain.Done():
	}
	w.mu.Lock()
	w.done = true
	w.mu.Unlock()
}

func (w *watchUnits) readUnits(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.Close() })
	defer stop()
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return err
	}
	var receiver rawio.Receiver
	receiver.Init(raw)
	r := bufio.NewReaderSize(&receiver, unitBuffer)
	for {
		u, err := unitsocket.Read(r)
		switch {
		case errors.Is(err, unitsocket.ErrTooLarge):
			return err
		case err != nil: // the plugin ended, or we did; the stream says why
			return nil
		}
		if err := w.deliver(&pluginpb.EncodeEvent{Event: &pluginpb.EncodeEvent_Unit{Unit: u}}); err != nil {
			return err
		}
	}
}

func (w *watchUnits) deliver(e *pluginpb.EncodeEvent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.done {
		return io.ErrClosedPipe
	}
	w.err = w.emit(e)
	return w.err
}

func (w *watchUnits) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.done {
		w.err = err
	}
}
