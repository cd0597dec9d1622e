// Package claim is how a host runtime gets a desktop for one person at a time from the desktop's supervisor.
//
// The supervisor listens on a unix stream socket in a directory of its own user. Who connects must be root or that user. The protocol
// is one JSON object per line:
//
//	host        {"keep":false}                         once: what shall become of the desktop afterwards
//	supervisor  {"state":"wait","why":"..."}           any number of times: not yet, and why
//	supervisor  {"state":"yours","kept":false}         once: the desktop is up and, unless kept, as nobody has used it
//
// From "yours" on the desktop is the connection's. The connection's end, however it comes, gives it back: the supervisor then ends
// whatever runs in it, empties it and starts it anew, unless keep was asked for. Nobody else is told "yours" before that is done, and
// a supervisor that was killed meanwhile remembers. kept says that the supervisor cannot or shall not empty the desktop.
//
// Both sides ignore keys they do not know; a state they do not know is an error.
package claim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// EnvVar tells a host where the supervisor of its desktop listens.
const EnvVar = "WAVRY_DESKTOP_CLAIM"

// maxLine of the protocol in bytes.
const maxLine = 4096

type request struct {
	Keep bool `json:"keep"`
}

type answer struct {
	State state  `json:"state"`
	Why   string `json:"why,omitempty"`
	Kept  bool   `json:"kept,omitempty"`
}

type state string

const (
	wait  state = "wait"
	yours state = "yours"
)

// ErrPeer is returned to who may not have the desktop.
var ErrPeer = errors.New("only root and the supervisor's own user may claim a desktop")

// Take gives the desktop to one claim. It blocks until the desktop is there, telling why it is not yet, and until then watches ctx,
// which ends with the claim's connection. release gives it back; it does not block. kept says that nothing will be emptied.
type Take func(ctx context.Context, keep bool, tell func(why string)) (kept bool, release func(), err error)

// Serve answers claims until ctx ends. It closes l and returns when every connection is over.
func Serve(ctx context.Context, l *net.UnixListener, take Take, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept claims: %w", err)
		}
		running.Go(func() { // ends with the connection, which ctx closes
			if err := serveOne(ctx, c, take); err != nil {
				log.Warn("claim of the desktop refused", "cause", err)
			}
		})
	}
}

func serveOne(ctx context.Context, c *net.UnixConn, take Take) error {
	defer c.Close()
	if err := checkPeer(c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	lines := bufio.NewReaderSize(c, maxLine)
	var wish request
	if err := readLine(lines, &wish); err != nil {
		return fmt.Errorf("read claim: %w", err)
	}
	gone := make(chan struct{})
	go func() { // ends with the connection; there is nothing more to be said
		defer close(gone)
		_, _ = io.Copy(io.Discard, lines)
		cancel()
	}()
	// A host that does not hear is gone, which the reader notices.
	tell := func(why string) { _ = writeLine(c, answer{State: wait, Why: why}) }
	kept, release, err := take(ctx, wish.Keep, tell)
	if err != nil {
		tell(err.Error())
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer release()
	_ = writeLine(c, answer{State: yours, Kept: kept})
	<-gone
	return nil
}

func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) { peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, optErr); err != nil {
		return fmt.Errorf("look at who claims: %w", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d: %w", peer.Uid, ErrPeer)
	}
	return nil
}

func readLine(r *bufio.Reader, v any) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}
