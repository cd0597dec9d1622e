package framesource

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender is sendmsg(2) as rawio.Receiver is recvmsg(2). One goroutine at a time uses it, and it must not be copied.
type sender struct {
	raw    syscall.RawConn
	try    func(fd uintptr) bool // s.attempt, made once
	vector unix.Iovec
	header unix.Msghdr
	errno  unix.Errno
}

func (s *sender) init(raw syscall.RawConn) { s.raw, s.try = raw, s.attempt }

// write sends msg, which is not empty, as one message with the descriptors in oob.
func (s *sender) write(msg, oob []byte) error {
	s.vector.Base = &msg[0]
	s.vector.SetLen(len(msg))
	s.header = unix.Msghdr{Iov: &s.vector, Control: unsafe.SliceData(oob)}
	s.header.SetIovlen(1)
	s.header.SetControllen(len(oob))
	if err := s.raw.Write(s.try); err != nil {
		return err
	}
	if s.errno != 0 {
		return s.errno
	}
	return nil
}

// attempt reports false to be called again when there is room.
func (s *sender) attempt(fd uintptr) bool {
	for {
		_, _, s.errno = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.header)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if s.errno != unix.EINTR {
			return s.errno != unix.EAGAIN
		}
	}
}
