// Package inbox hands connections to a plugin by descriptor. The host runtime makes a pair of sockets, keeps one end, and sends the
// other through the one socket that the plugin was born with (descriptor FD, SOCK_SEQPACKET). So nobody binds a path, and nobody else
// can be the one who connects.
//
// A message is one byte, the Kind, with one descriptor (SCM_RIGHTS). The host's side is Pair and Send; the plugin's is Receive.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// FD is where a plugin finds its inbox.
const FD = 3

// Handed, in the place of a socket's path, says that the connection comes by the inbox.
const Handed = "handed"

// Kind is what a connection is for.
type Kind byte

// The kinds of connections.
const (
	Control Kind = 1 // SOCK_STREAM: gRPC, the plugin serves
	Units   Kind = 2 // SOCK_STREAM: access units (package unitsocket)
	Source  Kind = 3 // SOCK_SEQPACKET: raw frames (package framesource), one end in the capture plugin and one in the encoder
)

// waiting connections of a kind; more are closed at once. A plugin gets one at a time and takes it soon.
const waiting = 8

// ErrNone is returned by a process that has no inbox, or whose host runtime has closed it.
var ErrNone = errors.New("no connection is handed over: this process has no inbox, or the host runtime has left")

// Pair makes two connected unix sockets of a type, such as unix.SOCK_STREAM. Both are the caller's to close.
func Pair(typ int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// Conn turns an end of a pair into a connection and closes the file.
func Conn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use a handed socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("a handed socket is no unix socket"), c.Close())
	}
	return u, nil
}

// Send hands f to the plugin at the other end of to; f stays the caller's. It never waits: a plugin that takes nothing gets no more.
func Send(to *net.UnixConn, kind Kind, f *os.File) error {
	raw, err := to.SyscallConn()
	if err != nil {
		return fmt.Errorf("hand over a socket: %w", err)
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = unix.Sendmsg(int(fd), []byte{byte(kind)}, unix.UnixRights(int(f.Fd())), nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	if err := errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("hand over a socket: %w", err)
	}
	return nil
}

// Receive waits for the next connection of a kind; net.ErrClosed satisfies the error when ctx ended it.
func Receive(ctx context.Context, kind Kind) (*net.UnixConn, error) {
	b := process()
	if b == nil {
		return nil, ErrNone
	}
	select {
	case c, ok := <-b.queue(kind):
		if !ok {
			return nil, ErrNone
		}
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a handed socket: %w: %w", net.ErrClosed, ctx.Err())
	}
}

// process is this process's inbox, opened when it is first asked for; nil without one.
var process = sync.OnceValue(func() *inbox {
	typ, err := unix.GetsockoptInt(FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_SEQPACKET {
		return nil
	}
	unix.CloseOnExec(FD)
	c, err := Conn(os.NewFile(FD, "inbox"))
	if err != nil {
		return nil
	}
	b := &inbox{queues: map[Kind]chan *net.UnixConn{}}
	for _, k := range []Kind{Control, Units, Source} {
		b.queues[k] = make(chan *net.UnixConn, waiting)
	}
	go b.read(c) // ends with the process, or when the host runtime closes its end
	return b
})

type inbox struct {
	queues map[Kind]chan *net.UnixConn // set once
}

// queue is nil, and so never yields, for a kind that does not exist.
func (b *inbox) queue(k Kind) chan *net.UnixConn { return b.queues[k] }

func (b *inbox) read(c *net.UnixConn) {
	defer c.Close()
	for {
		kind, conn, err := receive(c)
		if err != nil {
			for _, q := range b.queues {
				close(q)
			}
			return
		}
		select {
		case b.queue(kind) <- conn:
		default: // full, or unknown
			_ = conn.Close()
		}
	}
}

func receive(c *net.UnixConn) (Kind, *net.UnixConn, error) {
	var kind [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(kind[:], oob)
	if err != nil {
		return 0, nil, err
	}
	if n != 1 {
		return 0, nil, ErrNone // the end of a SOCK_SEQPACKET connection is an empty message
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return 0, nil, errors.Join(errors.New("a message without a descriptor"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return 0, nil, errors.Join(errors.New("a message without a descriptor"), err)
	}
	unix.CloseOnExec(fds[0])
	conn, err := Conn(os.NewFile(uintptr(fds[0]), "handed"))
	return Kind(kind[0]), conn, err
}
