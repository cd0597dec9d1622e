package framesource

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// watch waits in the system call for the end of a detached connection and, while armed, for something to read. Go's poller would wake
// for whatever comes.
type watch struct {
	socket *os.File
	wake   *os.File // eventfd: armed has changed
	armed  atomic.Bool
	one    [8]byte // what is written to wake
	ready  chan struct{}
	done   chan struct{} // closed with the connection's end
}

// startWatch takes socket over.
func startWatch(socket *os.File) (*watch, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make eventfd: %w", err), socket.Close())
	}
	w := &watch{one: [8]byte{1}, socket: socket, wake: os.NewFile(uintptr(fd), "watch"), ready: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run() // ends with the connection, which shutdown ends
	return w, nil
}

// arm makes ready yield once when there is something to read.
func (w *watch) arm() <-chan struct{} {
	if !w.armed.Swap(true) {
		_, _ = w.wake.Write(w.one[:]) // fails only after the end
	}
	return w.ready
}

func (w *watch) run() {
	defer close(w.done)
	defer w.socket.Close()
	defer w.wake.Close()
	fds := []unix.PollFd{{Fd: int32(w.socket.Fd())}, {Fd: int32(w.wake.Fd()), Events: unix.POLLIN}}
	var count [8]byte
	for {
		fds[0].Events = 0
		if w.armed.Load() {
			fds[0].Events = unix.POLLIN
		}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return // no memory: without a watch there is no connection
		}
		if fds[1].Revents != 0 {
			_, _ = unix.Read(int(fds[1].Fd), count[:])
		}
		if fds[0].Revents&unix.POLLIN != 0 {
			w.armed.Store(false)
			select {
			case w.ready <- struct{}{}:
			default:
			}
		}
		if fds[0].Revents&^unix.POLLIN != 0 {
			return
		}
	}
}
