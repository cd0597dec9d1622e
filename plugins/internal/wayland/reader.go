package wayland

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/rawio"
)

// reader is the receiving half of a Conn; it belongs to the connection's goroutine.
type reader struct {
	c    *Conn
	raw  rawio.Receiver
	buf  []byte // buf[:n] is received and not yet handled
	n    int
	oob  []byte
	fds  fdQueue
	args args // reused, so that handling an event allocates nothing
}

// fill receives once.
func (r *reader) fill() error {
	n, oobn, _, err := r.raw.Receive(r.buf[r.n:], r.oob)
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	r.n += n
	return r.takeRights(r.oob[:oobn])
}

func (r *reader) takeRights(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("read descriptors of Wayland events: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fmt.Errorf("read descriptors of Wayland events: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			r.fds.push(os.NewFile(uintptr(fd), "wayland"))
		}
	}
	if len(r.fds.files) > maxQueuedFDs {
		return &WireError{Problem: "more descriptors than events for them"}
	}
	return nil
}

// dispatchAll handles every complete event in the buffer and keeps the rest.
func (r *reader) dispatchAll() error {
	b := r.buf[:r.n]
	for {
		h, complete, err := parseHeader(b)
		if err != nil {
			return err
		}
		if !complete {
			r.n = copy(r.buf, b)
			return nil
		}
		if err := r.dispatch(h, b[headerSize:h.size]); err != nil {
			return err
		}
		b = b[h.size:]
	}
}

func (r *reader) dispatch(h header, body []byte) error {
	e, known := r.c.find(h.object)
	switch {
	case !known:
		return &WireError{Object: h.object, Opcode: h.opcode, Problem: "no such object"}
	case e.object == nil:
		r.drop(h, e.kind)
		return nil
	}
	r.args = args{b: body, fds: &r.fds}
	e.object.dispatch(h.opcode, &r.args)
	return r.args.finish(h)
}

// drop discards the descriptors of an event for an object whose life has ended.
func (r *reader) drop(h header, kind *Interface) {
	if kind == nil || int(h.opcode) >= len(kind.fds) {
		return
	}
	for range kind.fds[h.opcode] {
		closeUnwanted(r.fds.pop())
	}
}
