package framesource

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/rawio"
)

// conn sends and receives whole messages with at most one descriptor each. Its buffers make a frame cost no allocation.
type conn struct {
	c   *net.UnixConn
	raw syscall.RawConn // of what is sent to and received from

	writeMu sync.Mutex // guards out and sender
	out     [maxMessage]byte
	sender  sender

	in       [maxMessage]byte // what receiver read last
	oob      [oobSize]byte
	receiver rawio.Receiver
}

// newConn takes c over.
func newConn(c *net.UnixConn) (*conn, error) {
	n := &conn{c: c}
	if err := n.use(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return n, nil
}

// use makes c send to and receive from socket.
func (c *conn) use(socket syscall.Conn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("use frame source connection: %w", err)
	}
	c.raw = raw
	c.receiver.Init(raw)
	c.sender.init(raw)
	return nil
}

// oobSize has room for more descriptors (four) than a message may have, so that a peer who sends them is seen and refused.
const oobSize = 32

// send builds a message with append and sends it.
func (c *conn) send(build func(b []byte) []byte, file *os.File) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.write(build(c.out[:0]), file)
}

// sendFrame is send for the message that is sent most; a closure would be allocated.
func (c *conn) sendFrame(f Frame) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.write(appendFrame(c.out[:0], f), nil)
}

// sendID is sendFrame's counterpart for RELEASE and FORGET.
func (c *conn) sendID(kind byte, id uint32) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.write(appendID(c.out[:0], kind, id), nil)
}

// write is called with writeMu held.
func (c *conn) write(msg []byte, file *os.File) error {
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	if err := c.sender.write(msg, oob); err != nil {
		return fmt.Errorf("send frame source message %d: %w", msg[0], err)
	}
	return nil
}

// receive returns the next message and its descriptor, which is nil exactly when the message has none.
func (c *conn) receive() (message, *os.File, error) {
	n, oobn, flags, err := c.receiver.Receive(c.in[:], c.oob[:])
	if err != nil {
		return message{}, nil, fmt.Errorf("receive frame source message: %w", err)
	}
	return decode(c.in[:n], c.oob[:oobn], flags)
}

// poll is receive on a detached connection for messages without a descriptor: false when none has come.
func (c *conn) poll() (m message, ok bool, err error) {
	n, oobn, flags, ok, err := c.receiver.Poll(c.in[:], c.oob[:])
	if err != nil {
		return message{}, false, fmt.Errorf("receive frame source message: %w", err)
	}
	if !ok {
		return message{}, false, nil
	}
	m, file, err := decode(c.in[:n], c.oob[:oobn], flags)
	if file != nil {
		_ = file.Close() // a message that we refuse by its type
	}
	return m, err == nil, err
}

// decode makes a message of what recvmsg gave.
func decode(packet, oob []byte, flags int) (message, *os.File, error) {
	if len(packet) == 0 { // end of a SOCK_SEQPACKET connection
		return message{}, nil, io.EOF
	}
	files, err := parseRights(oob)
	if err != nil {
		return message{}, nil, err
	}
	m, err := parse(packet)
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = &MessageError{Type: m.kind, Problem: "more descriptors than a message may have"}
	}
	if err == nil {
		err = checkDescriptors(m, files)
	}
	if err != nil {
		closeAll(files)
		return message{}, nil, err
	}
	if len(files) == 1 {
		return m, files[0], nil
	}
	return m, nil, nil
}

func (c *conn) close() error { return c.c.Close() }

// detach takes the socket out of Go's poller and returns it, in blocking mode; it is the caller's to close. Afterwards c sends, polls, and
// never waits. c is closed when detach fails.
func (c *conn) detach() (*os.File, error) {
	socket, err := rawio.Detach(c.c)
	if err != nil {
		return nil, fmt.Errorf("detach the frame source connection: %w", err)
	}
	if err := c.use(socket); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// shutdown makes whoever waits for a detached connection return.
func shutdown(socket *os.File) {
	if raw, err := socket.SyscallConn(); err == nil { // else it is closed
		rawio.Shutdown(raw)
	}
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read descriptors of a frame source message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("read descriptors of a frame source message: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "framesource"))
		}
	}
	return files, nil
}

func checkDescriptors(m message, files []*os.File) error {
	want := 0
	if m.wantsFD {
		want = 1
	}
	if len(files) != want {
		return &MessageError{Type: m.kind, Problem: fmt.Sprintf("%d descriptors, want %d", len(files), want)}
	}
	switch {
	case m.kind == typeHello && want == 1, m.kind == typeNode:
		return checkSocket(m.kind, files[0])
	case m.kind == typeBuffer && m.buffer.Memory == MemoryShared:
		return checkShared(files[0], m.buffer.Size)
	case m.kind == typeBuffer:
		return checkDMABuf(files[0])
	}
	return nil
}

// checkSocket makes sure that a PipeWire remote is a socket at all.
func checkSocket(kind byte, f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat PipeWire remote: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return &MessageError{Type: kind, Problem: "the PipeWire remote's descriptor is not a socket"}
	}
	return nil
}

// checkShared makes sure that reading size bytes of the mapped descriptor can never fault.
func checkShared(f *os.File, size int64) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return &MessageError{Type: typeBuffer, Problem: "the descriptor is not a memfd"}
	}
	if seals&unix.F_SEAL_SHRINK == 0 {
		return &MessageError{Type: typeBuffer, Problem: ErrSealed.Error()}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat frame buffer: %w", err)
	}
	if st.Size < size {
		return &MessageError{Type: typeBuffer, Problem: fmt.Sprintf("memory has %d bytes, %d announced", st.Size, size)}
	}
	return nil
}

// checkDMABuf asks the kernel's name of the file: only dma-buf descriptors are called /dmabuf:.
func checkDMABuf(f *os.File) error {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return fmt.Errorf("look at frame buffer: %w", err)
	}
	if len(name) < 7 || name[:7] != "/dmabuf" {
		return &MessageError{Type: typeBuffer, Problem: "the descriptor is not a DMA-BUF"}
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // read-only to us: nothing to flush
	}
}

// ended reports whether err is the ordinary end of a connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}
