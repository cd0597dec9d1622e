package framesource

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver is recvmsg(2) without allocations. net.UnixConn's ReadMsgUnix makes three for the sender's address, for each frame.
// It is owned by the one goroutine that receives and must not be copied.
//
// The call never blocks, so Go's scheduler is not told of it: in an idle process that would wake its monitor thread each time.
type receiver struct {
	in  [maxMessage]byte
	oob [oobSize]byte

	raw    syscall.RawConn
	try    func(fd uintptr) bool // r.attempt, made once
	vector unix.Iovec
	header unix.Msghdr
	n      int
	errno  unix.Errno
}

func (r *receiver) init(raw syscall.RawConn) {
	r.raw, r.try = raw, r.attempt
	r.vector.Base = &r.in[0]
	r.vector.SetLen(len(r.in))
}

// read returns the lengths of what is in r.in and r.oob then, and recvmsg's flags.
func (r *receiver) read() (n, oobn, flags int, err error) {
	if err := r.raw.Read(r.try); err != nil {
		return 0, 0, 0, err
	}
	if r.errno != 0 {
		return 0, 0, 0, fmt.Errorf("receive frame source message: %w", r.errno)
	}
	return r.n, int(r.header.Controllen), int(r.header.Flags), nil
}

// attempt reports false to be called again when there is something to read.
func (r *receiver) attempt(fd uintptr) bool {
	for {
		r.header = unix.Msghdr{Iov: &r.vector, Control: &r.oob[0]}
		r.header.SetIovlen(1)
		r.header.SetControllen(len(r.oob))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.header)), unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		r.n, r.errno = int(n), errno
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}
