package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/rawio"
	"github.com/wavry/fleet/hostruntime/pluginapi/unitsocket"
)

// watchUnits reads a Watch whose access units come on a socket of their own. Both readers call emit, one at a time.
type watchUnits struct {
	p        *Process
	listener *net.UnixListener
	path     string

	mu   sync.Mutex // one emit at a time; guards err
	emit func(*pluginpb.EncodeEvent) error
	err  error // the first that emit or the socket reported
	done bool  // no emit any more
}

// listenUnits makes the socket in the plugin's private directory.
func (p *Process) listenUnits(emit func(*pluginpb.EncodeEvent) error) (*watchUnits, error) {
	path := filepath.Join(p.dir.Path, "units"+strconv.FormatInt(p.watches.Add(1), 10))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for access units: %w", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), own(path, p.spec.Credential)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for access units: %w", err), l.Close())
	}
	return &watchUnits{p: p, listener: l, path: path, emit: emit}, nil
}

// run returns when stream is over and every unit that came before was emitted.
func (w *watchUnits) run(ctx context.Context, cancel context.CancelFunc, stream grpc.ServerStreamingClient[pluginpb.EncodeEvent]) error {
	read := make(chan struct{})
	go func() { // ends with the connection, which close or the plugin's end closes
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
	c, err := w.accept(ctx)
	if err != nil || c == nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	raw, err := c.SyscallConn()
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

// accept takes the plugin's one connection; nil without an error means that the watch ended before it came.
func (w *watchUnits) accept(ctx context.Context) (*net.UnixConn, error) {
	stop := context.AfterFunc(ctx, func() { _ = w.listener.Close() })
	defer stop()
	defer w.listener.Close()
	c, err := w.listener.AcceptUnix()
	if err != nil {
		return nil, nil // closed by finish or by ctx
	}
	if err := w.p.checkPeer(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// checkPeer makes sure that nobody but the plugin feeds us pictures.
func (p *Process) checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) { peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, optErr); err != nil {
		return fmt.Errorf("look at who sends access units: %w", err)
	}
	if pid := p.runner.ID(); strconv.Itoa(int(peer.Pid)) != pid {
		return fmt.Errorf("process %d connected to send access units, not plugin %s (process %s)", peer.Pid, p.Backend(), pid)
	}
	return nil
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
