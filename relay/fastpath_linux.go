//go:build linux && (amd64 || arm64)

package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/relay/relaywire"
)

var onceValue = sync.OnceValue[offload]

// fastPath is the data path on Linux: per worker one goroutine, one epoll, one socket per port; recvmmsg with UDP_GRO in, sendmmsg
// with UDP_SEGMENT out. What one system call brought in is sent from the same buffers before the next one.
type fastPath struct {
	engine   *engine
	sockets  *socketSet
	busyPoll time.Duration
	workers  []*fastWorker
}

func newFastPath(e *engine, s *socketSet, busyPoll time.Duration) *fastPath {
	p := &fastPath{engine: e, sockets: s, busyPoll: busyPoll}
	for _, socks := range s.workers {
		p.workers = append(p.workers, newFastWorker(e, socks, s.six, busyPoll))
	}
	return p
}

func (p *fastPath) controlPort() uint16 { return p.sockets.ports[len(p.sockets.ports)-1] }
func (p *fastPath) mediaPorts() []uint16 {
	return p.sockets.ports[:len(p.sockets.ports)-1]
}
func (p *fastPath) kernelDrops() uint64 { return p.sockets.kernelDrops() }
func (p *fastPath) close() error        { return p.sockets.close() }

func (p *fastPath) describe() string {
	o := offloads()
	return fmt.Sprintf("mmsg workers=%d gro=%t gso=%t busy_poll=%s", len(p.workers), o.gro, o.gso, p.busyPoll)
}

func (p *fastPath) stats() (all []*workerStats) {
	for _, w := range p.workers {
		all = append(all, &w.stats)
	}
	return all
}

func (p *fastPath) sendControl(b []byte, to netip.AddrPort) error {
	return p.send(len(p.sockets.ports)-1, b, to)
}

func (p *fastPath) sendMedia(port int, b []byte, to netip.AddrPort) error { return p.send(port, b, to) }

func (p *fastPath) send(i int, b []byte, to netip.AddrPort) error {
	if err := unix.Sendto(p.sockets.workers[0][i], b, 0, unixSockaddr(to, p.sockets.six)); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}

func (p *fastPath) run(ctx context.Context) error {
	dedicate(len(p.workers))
	defer dedicate(-len(p.workers))
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range p.workers {
		g.Go(func() error { return w.run(ctx) })
	}
	return g.Wait()
}

// dedicating serialises the changes of GOMAXPROCS.
var dedicating sync.Mutex

// dedicate gives the runtime n more processors to schedule on, one for each worker: a worker keeps its own while it sleeps, so the
// rest of the process needs as many as it had. Threads are shared out by the kernel as before.
func dedicate(n int) {
	dedicating.Lock()
	defer dedicating.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// mmsghdr is struct mmsghdr of 64-bit Linux.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// fastWorker owns its memory; only its goroutine touches it, apart from stats.
type fastWorker struct {
	engine   *engine
	fds      []int // media ports, then the control port
	six      bool
	busyPoll int64 // nanoseconds
	stats    workerStats

	in      []mmsghdr
	inVec   []unix.Iovec
	inName  [][unix.SizeofSockaddrInet6]byte
	inExtra [][extraLen]byte
	buffer  []byte
	out     outbox
	answer  [relaywire.BoundLen]byte
	replyTo leg
	carried [2*relaywire.CarryLen + maxDatagram]byte

	recent    int   // the socket that had something last
	forwarded int64 // when there was something to forward last, on the engine's clock
}

const extraLen = 24 // unix.CmsgSpace(4)

func newFastWorker(e *engine, fds []int, six bool, busyPoll time.Duration) *fastWorker {
	w := &fastWorker{
		engine: e, fds: fds, six: six, busyPoll: int64(busyPoll), in: make([]mmsghdr, batchSize), inVec: make([]unix.Iovec, batchSize),
		inName: make([][unix.SizeofSockaddrInet6]byte, batchSize), inExtra: make([][extraLen]byte, batchSize),
		buffer: make([]byte, batchSize*messageSize),
	}
	for i := range w.in {
		w.inVec[i].Base = &w.buffer[i*messageSize]
		w.inVec[i].Len = messageSize
		w.in[i].hdr.Iov, w.in[i].hdr.Iovlen = &w.inVec[i], 1
		w.in[i].hdr.Name = &w.inName[i][0]
		w.in[i].hdr.Control = &w.inExtra[i][0]
	}
	w.out.init(&w.stats, six)
	return w
}

// run serves the worker's sockets until ctx ends. Every message header must be ready, because a run before may have ended within a
// batch.
//
// Its system calls block without a word to the Go scheduler (see dedicate): parking in the runtime's poller, or a blocking call that
// gives the processor away, each cost 20 us more per wake-up (measured 2026-11-23). A stop-the-world still gets through at once,
// because the runtime's signal interrupts the call.
func (w *fastWorker) run(ctx context.Context) (err error) {
	for i := range w.in {
		w.ready(i)
	}
	epoll, wake, err := w.watch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(epoll)) }()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd takes 8 bytes at any time
	})
	defer func() {
		if !stop() {
			<-stopped
		}
		err = errors.Join(err, unix.Close(wake))
	}()
	events := make([]unix.EpollEvent, len(w.fds)+1)
	for {
		n, err := w.wait(epoll, events)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if e.Fd < 0 {
				return nil
			}
			w.recent = int(e.Fd)
			if err := w.serve(epoll, w.recent); err != nil {
				return err
			}
		}
	}
}

// watch makes the epoll and the eventfd that ends it. Events carry the index of the socket, -1 for the eventfd. They are
// edge-triggered, which spares the kernel a second look at every socket: serve empties the socket or arms it again.
func (w *fastWorker) watch() (epoll, wake int, err error) {
	if epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("make epoll: %w", err)
	}
	if wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return -1, -1, errors.Join(fmt.Errorf("make eventfd: %w", err), unix.Close(epoll))
	}
	add := func(fd, index int) {
		if err == nil {
			err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, watchFor(index))
		}
	}
	add(wake, -1)
	for i, fd := range w.fds {
		add(fd, i)
	}
	if err != nil {
		return -1, -1, errors.Join(fmt.Errorf("watch sockets: %w", err), unix.Close(wake), unix.Close(epoll))
	}
	return epoll, wake, nil
}

// idleMillis is the longest sleep of a worker; the runtime interrupts it more often than that.
const idleMillis = 100

// wait returns the number of events that are to be served. It may return none.
func (w *fastWorker) wait(epoll int, events []unix.EpollEvent) (int, error) {
	if w.busyPoll > 0 {
		if n, err := w.poll(epoll, events); n > 0 || err != nil {
			return n, err
		}
	}
	return epollWait(epoll, events, idleMillis)
}

// looksPerRound is how often a worker that polls looks at the socket that had something last before it looks at all of them and at the
// order to stop: recvmmsg finds a packet about 3 us sooner than epoll_wait does (measured 2026-11-29).
const looksPerRound = 16

// poll looks at the sockets again and again for busyPoll after something was forwarded, because to be woken costs more than all the
// rest of forwarding a packet. It returns the number of events that it found and did not serve. Noise does not keep it awake.
func (w *fastWorker) poll(epoll int, events []unix.EpollEvent) (n int, err error) {
	for now := w.engine.clock.now(); n == 0 && now-w.forwarded < w.busyPoll; {
		began, last := now, w.forwarded
		for look := 0; look < looksPerRound && w.forwarded == last; look++ {
			if err := w.serve(epoll, w.recent); err != nil {
				return 0, err
			}
		}
		if n, err = epollWait(epoll, events, 0); err != nil {
			return 0, err
		}
		now = w.engine.clock.now()
		if n == 0 && w.forwarded == last {
			w.stats.polling.Add(uint64(now - began))
		}
	}
	return n, nil
}

// epollWait is not inlined: its entry is where the Go scheduler stops a worker that polls, for the garbage collector or for others'
// turn. In the system call, where such a worker nearly always is, it cannot be stopped.
//
//go:noinline
func epollWait(epoll int, events []unix.EpollEvent, millis uintptr) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), millis, 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("wait for packets: %w", errno)
	}
	return int(n), nil
}

// roundsPerSocket bounds how long one busy port may keep the others waiting.
const roundsPerSocket = 4

// serve takes what one socket has.
func (w *fastWorker) serve(epoll, i int) error {
	for range roundsPerSocket {
		n, errno := w.receive(w.fds[i])
		switch errno {
		case 0:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			continue // the kernel tells of an earlier send
		default:
			return fmt.Errorf("receive at port index %d: %w", i, errno)
		}
		now := w.engine.clock.now()
		port := i
		if i == len(w.fds)-1 {
			port = controlIndex
		}
		for m := range n {
			w.take(m, port, w.fds[i], now)
		}
		w.out.flush(w.fds[i])
		if n < batchSize {
			return nil
		}
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, w.fds[i], watchFor(i)); err != nil {
		return fmt.Errorf("watch port index %d again: %w", i, err)
	}
	return nil
}

func watchFor(index int) *unix.EpollEvent {
	return &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(index)}
}

// receive fills w.in. The system call does not block, so it needs no word to the scheduler.
func (w *fastWorker) receive(fd int) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&w.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// take handles message m, which may be a run of datagrams, and makes its place ready for the next system call.
func (w *fastWorker) take(m, port, fd int, now int64) {
	msg := &w.in[m]
	size := int(msg.n)
	b := w.buffer[m*messageSize:][:size:size]
	key := keyFromRaw(&w.inName[m], port)
	segment := size
	if msg.hdr.Controllen > 0 {
		segment = segmentOf(w.inExtra[m][:msg.hdr.Controllen], size)
	}
	w.ready(m)
	packets := 1
	if size > segment {
		packets = (size + segment - 1) / segment
	}
	w.stats.packetsIn.Add(uint64(packets))
	w.stats.bytesIn.Add(uint64(size))
	switch {
	case size == 0:
		w.stats.drop(dropEmpty, 1)
	case port == controlIndex:
		w.control(key, b, fd, now)
	default:
		w.media(key, b, segment, fd, now)
	}
}

func (w *fastWorker) ready(m int) {
	h := &w.in[m].hdr
	h.Namelen, h.Controllen, h.Flags = unix.SizeofSockaddrInet6, extraLen, 0
}

// media splits a run at control packets, which the kernel may have merged with data, and forwards the rest.
func (w *fastWorker) media(key legKey, b []byte, segment, fd int, now int64) {
	start := 0
	for at := 0; at < len(b); at += segment {
		if b[at] != relaywire.FirstByte || !isControl(b[at:]) {
			continue
		}
		w.forward(key, b[start:at], segment, fd, now)
		start = min(at+segment, len(b))
		w.control(key, b[at:start], fd, now)
	}
	w.forward(key, b[start:], segment, fd, now)
}

func (w *fastWorker) forward(key legKey, b []byte, segment, fd int, now int64) {
	if len(b) == 0 {
		return
	}
	first := b[:min(segment, len(b))]
	packets := 1
	if len(b) > segment {
		packets = (len(b) + segment - 1) / segment
	}
	to, why := w.engine.handle(key, first, len(b), packets, now)
	if to == nil {
		if why == dropOffer {
			w.offer(key, b, segment, fd, now)
			return
		}
		w.stats.drop(why, packets)
		return
	}
	w.out.add(fd, to, b, segment, packets)
	w.forwarded = now
}

// control answers one control packet at once. Runs that wait in the outbox are not overtaken by much, and they do not mind.
func (w *fastWorker) control(key legKey, p []byte, fd int, now int64) {
	reply, to := w.engine.control(key, p, now, w.answer[:0], &w.stats)
	if len(reply) == 0 {
		return
	}
	if to == nil {
		w.replyTo.sockaddr = makeSockaddr(key)
		to = &w.replyTo
	}
	w.out.sendOne(fd, to, reply)
}

// offer gives the datagrams of a candidate to its host, each for itself.
func (w *fastWorker) offer(key legKey, b []byte, segment, fd int, now int64) {
	for len(b) > 0 {
		n := min(segment, len(b))
		host, packets, why := w.engine.offer(key, b[:n], now, w.carried[:])
		if host == nil {
			w.stats.drop(why, 1)
		}
		for _, p := range packets {
			if len(p) > 0 {
				w.out.sendOne(fd, host, p)
			}
		}
		b = b[n:]
	}
}

// segmentOf reads the size of the datagrams of a run from the UDP_GRO control message; without one the run is one datagram.
func segmentOf(extra []byte, size int) int {
	const head = unix.SizeofCmsghdr
	if len(extra) < head+4 {
		return size
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&extra[0]))
	if h.Level != unix.SOL_UDP || h.Type != udpGRO {
		return size
	}
	if n := int(*(*int32)(unsafe.Pointer(&extra[head]))); n > 0 {
		return n
	}
	return size
}

func socketDrops(fd int) (uint32, error) {
	var mem [9]uint32
	length := uint32(unsafe.Sizeof(mem))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&mem)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, errno
	}
	return mem[memDrops], nil
}
