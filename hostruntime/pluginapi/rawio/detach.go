package rawio

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Detach takes c over and returns its socket in blocking mode and out of Go's poller, which wakes for whatever happens to a socket it knows.
func Detach(c *net.UnixConn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	socket, err := Duplicate(raw)
	if err := errors.Join(err, c.Close()); err != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, err
	}
	return socket, nil
}

// Duplicate returns another descriptor of a socket, which is put into blocking mode. Go's poller does not know it.
func Duplicate(raw syscall.RawConn) (*os.File, error) {
	var fd int
	var dupErr error
	err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, false); err != nil { // before NewFile, which looks at it
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}

// Shutdown makes whoever waits for a detached socket return. It fails when the peer has left or the socket is closed: then nobody waits.
func Shutdown(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
}

// AwaitRoom waits until a detached socket can be written to, or is over.
func AwaitRoom(raw syscall.RawConn) error {
	var pollErr error
	err := raw.Control(func(fd uintptr) { // which keeps the descriptor open meanwhile; Shutdown ends the wait
		for {
			if _, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); pollErr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, pollErr)
}
