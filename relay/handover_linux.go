//go:build linux && (amd64 || arm64)

package relay

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/relay/relaywire"
)

// Hand-over between two relay processes on one node, over a unix stream socket:
//
//	successor   -> "wavry relay handover 1\n"
//	predecessor    stops reading its sockets; datagrams wait in the kernel
//	predecessor -> length, head (JSON); the sockets (SCM_RIGHTS, handoverChunk per message); length, snapshot (JSON)
//	successor   -> "ready\n"
//	predecessor -> "go\n", and ends
//
// Until "go" the predecessor can resume: an error or a silence of handoverTimeout on either side leaves it in charge.

const (
	handoverHello = "wavry relay handover 1\n"
	handoverReady = "ready\n"
	handoverGo    = "go\n"

	handoverChunk  = 128       // sockets per message; the kernel takes 253
	maxSnapshotLen = 512 << 20 // a million circuits
	maxHeadLen     = 1 << 20
)

// handoverHead comes before the sockets.
type handoverHead struct {
	ID        string              `json:"id"`
	PublicKey relaywire.PublicKey `json:"public_key"`
	Workers   int                 `json:"workers"`
	Six       bool                `json:"six"`
	Ports     []uint16            `json:"ports"`
}

// offerHandover listens for a successor at HandoverPath; serve waits for one, until its ctx ends.
func (r *Relay) offerHandover(path dataPath) (serve func(ctx context.Context) error, err error) {
	if r.cfg.HandoverPath == "" {
		return func(context.Context) error { return nil }, nil
	}
	fast, ok := path.(*fastPath)
	if !ok {
		return nil, fmt.Errorf("handover_socket with data_path %q: %w", r.cfg.DataPath, ErrUnsupported)
	}
	listener, err := listenUnix(r.cfg.HandoverPath)
	if err != nil {
		return nil, fmt.Errorf("offer hand-over: %w", err)
	}
	return func(ctx context.Context) error { return r.awaitSuccessor(ctx, listener, fast) }, nil
}

func (r *Relay) awaitSuccessor(ctx context.Context, listener *net.UnixListener, path *fastPath) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return r.unlinkHandover(ctx)
		}
		if err != nil {
			return fmt.Errorf("offer hand-over: %w", err)
		}
		r.serveSuccessor(ctx, conn, path)
		if ctx.Err() != nil {
			return r.unlinkHandover(ctx)
		}
	}
}

// unlinkHandover leaves the socket to the successor, if there is one.
func (r *Relay) unlinkHandover(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), ErrHandedOver) {
		return nil
	}
	if err := os.Remove(r.cfg.HandoverPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove hand-over socket: %w", err)
	}
	return nil
}

func listenUnix(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177) // the socket is ours alone from its first moment
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

func (r *Relay) serveSuccessor(ctx context.Context, conn *net.UnixConn, path *fastPath) {
	defer conn.Close()
	if err := sameUser(conn); err != nil {
		r.log.Warn("hand-over refused", "err", err)
		return
	}
	conn.SetDeadline(time.Now().Add(handoverTimeout))
	if err := expectText(conn, handoverHello); err != nil {
		r.log.Warn("hand-over refused", "err", err)
		return
	}
	err := r.pause(ctx, func() error { return r.handOver(conn, path) })
	r.log.Info("hand-over", "circuits", r.Circuits(), "err", err)
}

// handOver gives everything away. The data path stands still. It returns nil once the successor is in charge.
func (r *Relay) handOver(conn *net.UnixConn, path *fastPath) error {
	conn.SetDeadline(time.Now().Add(handoverTimeout))
	s := path.sockets
	head := handoverHead{ID: r.cfg.ID, PublicKey: r.PublicKey(), Workers: len(s.workers), Six: s.six, Ports: s.ports}
	if err := writeJSON(conn, head); err != nil {
		return fmt.Errorf("send head: %w", err)
	}
	if err := sendSockets(conn, s.flat()); err != nil {
		return fmt.Errorf("send sockets: %w", err)
	}
	snap := snapshot{Draining: r.local.Load(), Circuits: r.engine.export(r.engine.clock.now())}
	if p := r.lastPolicy.Load(); p != nil {
		snap.Policy = *p
	}
	if err := writeJSON(conn, snap); err != nil {
		return fmt.Errorf("send circuits: %w", err)
	}
	if err := expectText(conn, handoverReady); err != nil {
		return fmt.Errorf("wait for successor: %w", err)
	}
	if _, err := io.WriteString(conn, handoverGo); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	return nil
}

// takeOver asks a predecessor for its sockets and circuits. Without one it returns nothing. finish must be called when everything is
// ready to run.
func (r *Relay) takeOver(ctx context.Context) (dataPath, func() error, error) {
	dialer := net.Dialer{Timeout: handoverTimeout}
	c, err := dialer.DialContext(ctx, "unix", r.cfg.HandoverPath)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil, nil // none, or it died and left its socket
	}
	if err != nil {
		return nil, nil, fmt.Errorf("ask predecessor: %w", err)
	}
	conn := c.(*net.UnixConn)
	path, err := r.inherit(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("take over from predecessor: %w", err)
	}
	finish := func() error {
		defer conn.Close()
		if _, err := io.WriteString(conn, handoverReady); err != nil {
			return err
		}
		return expectText(conn, handoverGo)
	}
	return path, finish, nil
}

func (r *Relay) inherit(conn *net.UnixConn) (path dataPath, err error) {
	conn.SetDeadline(time.Now().Add(2 * handoverTimeout))
	if _, err := io.WriteString(conn, handoverHello); err != nil {
		return nil, err
	}
	var head handoverHead
	if err := readJSON(conn, maxHeadLen, &head); err != nil {
		return nil, fmt.Errorf("read head: %w", err)
	}
	if head.ID != r.cfg.ID || head.PublicKey != r.PublicKey() {
		return nil, fmt.Errorf("predecessor is relay %q with another key or id than ours, %q", head.ID, r.cfg.ID)
	}
	if head.Workers < 1 || head.Workers > maxWorkers || len(head.Ports) < 2 || len(head.Ports) > maxMediaPorts+1 {
		return nil, fmt.Errorf("head names %d workers and %d ports", head.Workers, len(head.Ports))
	}
	fds, err := receiveSockets(conn, head.Workers*len(head.Ports))
	if err != nil {
		return nil, fmt.Errorf("receive sockets: %w", errors.Join(err, closeAll(fds)))
	}
	sockets, err := adopt(fds, head.Workers, head.Ports, head.Six)
	if err != nil {
		return nil, errors.Join(err, closeAll(fds))
	}
	var snap snapshot
	if err := readJSON(conn, maxSnapshotLen, &snap); err != nil {
		return nil, errors.Join(fmt.Errorf("read circuits: %w", err), sockets.close())
	}
	if err := r.resume(&snap, len(head.Ports)-1); err != nil {
		return nil, errors.Join(err, sockets.close())
	}
	return newFastPath(r.engine, sockets, r.cfg.BusyPoll), nil
}

// resume puts the predecessor's state in place.
func (r *Relay) resume(snap *snapshot, ports int) error {
	if err := r.engine.restore(snap.Circuits, ports, r.engine.clock.now()); err != nil {
		return err
	}
	return r.apply(snap.Policy)
}

func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var got error
	if err := raw.Control(func(fd uintptr) { peer, got = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if got != nil {
		return got
	}
	if peer.Uid != uint32(os.Getuid()) && peer.Uid != 0 {
		return fmt.Errorf("successor runs as user %d", peer.Uid)
	}
	return nil
}

func sendSockets(conn *net.UnixConn, fds []int) error {
	for len(fds) > 0 {
		n := min(handoverChunk, len(fds))
		if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

func receiveSockets(conn *net.UnixConn, want int) (fds []int, err error) {
	control := make([]byte, unix.CmsgSpace(handoverChunk*4))
	var one [1]byte
	for len(fds) < want {
		_, n, flags, _, err := conn.ReadMsgUnix(one[:], control)
		if err != nil {
			return fds, err
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			return fds, err
		}
		before := len(fds)
		for _, m := range messages {
			got, err := unix.ParseUnixRights(&m)
			if err != nil {
				return fds, err
			}
			fds = append(fds, got...)
		}
		if flags&unix.MSG_CTRUNC != 0 || len(fds) == before {
			return fds, errors.New("sockets lost on the way: too many open files?")
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

func closeAll(fds []int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

func writeJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func readJSON(r io.Reader, limit uint32, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > limit {
		return fmt.Errorf("%d bytes, at most %d", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func expectText(r io.Reader, want string) error {
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != want {
		return fmt.Errorf("got %q, expected %q", b, want)
	}
	return nil
}
