// Package rawio is recvmsg(2) for what arrives with each picture: without allocations (net.UnixConn's ReadMsgUnix makes three for the
// sender's address) and without a word to Go's scheduler. The call never blocks; told of it, the scheduler of an idle process would wake
// its monitor thread each time, which costs as much as the rest of the reading.
package rawio

import (
	"fmt"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receiver belongs to the one goroutine that receives and must not be copied after Init.
type Receiver struct {
	raw    syscall.RawConn
	try    func(fd uintptr) bool // r.attempt, made once
	look   func(fd uintptr)      // the same
	vector unix.Iovec
	header unix.Msghdr
	n      int
	errno  unix.Errno
}

// Init makes r receive from raw.
func (r *Receiver) Init(raw syscall.RawConn) {
	r.raw, r.try = raw, r.attempt
	r.look = func(fd uintptr) { r.attempt(fd) }
}

// Receive waits in Go's poller for a message, or bytes of a stream, and returns how much is in b and oob then, and recvmsg's flags. At the
// end n is 0. b must not be empty, oob may.
func (r *Receiver) Receive(b, oob []byte) (n, oobn, flags int, err error) {
	r.prepare(b, oob)
	if err := r.raw.Read(r.try); err != nil {
		return 0, 0, 0, err
	}
	return r.result()
}

// Poll is Receive that does not wait; false when there is nothing to read.
func (r *Receiver) Poll(b, oob []byte) (n, oobn, flags int, ok bool, err error) {
	r.prepare(b, oob)
	if err := r.raw.Control(r.look); err != nil {
		return 0, 0, 0, false, err
	}
	if r.errno == unix.EAGAIN {
		return 0, 0, 0, false, nil
	}
	n, oobn, flags, err = r.result()
	return n, oobn, flags, err == nil, err
}

// Read implements io.Reader on a stream.
func (r *Receiver) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, _, err := r.Receive(b, nil)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

func (r *Receiver) prepare(b, oob []byte) {
	r.vector.Base = &b[0]
	r.vector.SetLen(len(b))
	r.header = unix.Msghdr{Iov: &r.vector, Control: unsafe.SliceData(oob)}
	r.header.SetIovlen(1)
	r.header.SetControllen(len(oob))
}

func (r *Receiver) result() (n, oobn, flags int, err error) {
	if r.errno != 0 {
		return 0, 0, 0, fmt.Errorf("recvmsg: %w", r.errno)
	}
	return r.n, int(r.header.Controllen), int(r.header.Flags), nil
}

// attempt reports false to be called again when there is something to read.
func (r *Receiver) attempt(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.header)), unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		r.n, r.errno = int(n), errno
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}
