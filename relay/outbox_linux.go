//go:build linux && (amd64 || arm64)

package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outbox collects the runs of one batch and sends them with one system call. Consecutive runs to one leg become one segmented send.
// It points into the worker's receive buffers: flush comes before the next receive.
type outbox struct {
	stats *workerStats
	six   bool
	gso   bool
	n     int // messages in use
	vecs  int // iovecs in use
	msgs  [batchSize]mmsghdr
	runs  [batchSize]outRun
	vec   [outVecs]unix.Iovec
	extra [batchSize][extraLen]byte
}

// outVecs bounds the pieces of one batch: each message in is one piece unless control packets split it.
const outVecs = 4 * batchSize

type outRun struct {
	to       *leg
	segment  int
	bytes    int
	packets  int
	complete bool // the last segment is full, so that more may follow
}

func (o *outbox) init(stats *workerStats, six bool) {
	o.stats, o.six, o.gso = stats, six, offloads().gso
	for i := range o.extra {
		writeSegment(o.extra[i][:], 0)
	}
}

// writeSegment writes a UDP_SEGMENT control message of CmsgSpace(2) bytes.
func writeSegment(b []byte, size uint16) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, udpSegment
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&b[unix.CmsgLen(0)])) = size
}

// add queues a run for flush(fd), and flushes first when there is no place for it. A kernel that merges on receive but does not
// segment gets the datagrams of a run one by one.
func (o *outbox) add(fd int, to *leg, b []byte, segment, packets int) {
	for ; !o.gso && packets > 1; packets-- {
		o.add(fd, to, b[:segment], segment, 1)
		b = b[segment:]
	}
	if o.n > 0 && o.gso && o.vecs < outVecs && o.runs[o.n-1].joins(to, len(b), segment, packets) {
		r := &o.runs[o.n-1]
		r.bytes += len(b)
		r.packets += packets
		r.complete = len(b) == packets*r.segment
		o.push(b)
		o.msgs[o.n-1].hdr.Iovlen++
		return
	}
	if o.n == batchSize || o.vecs == outVecs {
		o.flush(fd)
	}
	o.runs[o.n] = outRun{to: to, segment: segment, bytes: len(b), packets: packets, complete: len(b) == packets*segment}
	h := &o.msgs[o.n].hdr
	o.address(h, to)
	h.Iov, h.Iovlen = &o.vec[o.vecs], 1
	o.push(b)
	o.n++
}

// joins tells whether a run may become part of r: same leg, same segment size (only the very last segment may be shorter), and
// within what one send may carry.
func (r *outRun) joins(to *leg, bytes, segment, packets int) bool {
	return r.to == to && r.complete && (segment == r.segment || (packets == 1 && bytes < r.segment)) &&
		r.packets+packets <= maxSegments && r.bytes+bytes <= maxRunBytes
}

func (o *outbox) push(b []byte) {
	o.vec[o.vecs].Base = &b[0]
	o.vec[o.vecs].SetLen(len(b))
	o.vecs++
}

func (o *outbox) address(h *unix.Msghdr, to *leg) {
	if o.six {
		h.Name, h.Namelen = &to.raw6[0], unix.SizeofSockaddrInet6
	} else {
		h.Name, h.Namelen = &to.raw4[0], unix.SizeofSockaddrInet4
	}
}

// flush sends everything. What cannot be sent is dropped and counted; a relay never waits for one receiver.
func (o *outbox) flush(fd int) {
	if o.n == 0 {
		return
	}
	if o.n == 1 && o.runs[0].packets == 1 {
		o.sendOne(fd, o.runs[0].to, unsafe.Slice(o.vec[0].Base, o.runs[0].bytes))
		o.n, o.vecs = 0, 0
		return
	}
	for i := range o.n {
		o.seal(i)
	}
	for i := 0; i < o.n; {
		sent, errno := sendBatch(fd, o.msgs[i:o.n])
		if sent > 0 {
			o.account(i, i+sent)
			i += sent
			continue
		}
		if errno == unix.EINTR {
			continue
		}
		o.failed(fd, i, errno)
		i++
	}
	o.n, o.vecs = 0, 0
}

// seal attaches the control message to a run of more than one datagram.
func (o *outbox) seal(i int) {
	h, r := &o.msgs[i].hdr, &o.runs[i]
	if r.packets == 1 {
		h.Control, h.Controllen = nil, 0
		return
	}
	*(*uint16)(unsafe.Pointer(&o.extra[i][unix.SizeofCmsghdr])) = uint16(r.segment)
	h.Control, h.Controllen = &o.extra[i][0], extraLen
}

func (o *outbox) account(from, to int) {
	packets, bytes := 0, 0
	for i := from; i < to; i++ {
		packets += o.runs[i].packets
		bytes += o.runs[i].bytes
	}
	o.stats.packetsOut.Add(uint64(packets))
	o.stats.bytesOut.Add(uint64(bytes))
}

// failed handles a message that could not be sent. EINVAL and EIO for a segmented one mean that this way out cannot segment, or
// not at this size: its datagrams go one by one.
func (o *outbox) failed(fd, i int, errno syscall.Errno) {
	r := &o.runs[i]
	if r.packets > 1 && (errno == unix.EINVAL || errno == unix.EIO || errno == unix.EMSGSIZE || errno == unix.EOPNOTSUPP) {
		o.sendSingly(fd, i)
		return
	}
	o.stats.drop(sendDrop(errno), r.packets)
}

func sendDrop(errno syscall.Errno) drop {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS:
		return dropSendBuffer
	case unix.EMSGSIZE:
		return dropTooBig
	default:
		return dropSendError
	}
}

func (o *outbox) sendSingly(fd, i int) {
	h, r := &o.msgs[i].hdr, &o.runs[i]
	for _, piece := range unsafe.Slice(h.Iov, int(h.Iovlen)) {
		b := unsafe.Slice(piece.Base, int(piece.Len))
		for len(b) > 0 {
			n := min(r.segment, len(b))
			o.sendOne(fd, r.to, b[:n])
			b = b[n:]
		}
	}
}

// sendOne sends one datagram now.
func (o *outbox) sendOne(fd int, to *leg, b []byte) {
	name, length := unsafe.Pointer(&to.raw4[0]), uintptr(unix.SizeofSockaddrInet4)
	if o.six {
		name, length = unsafe.Pointer(&to.raw6[0]), unix.SizeofSockaddrInet6
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, uintptr(name), length)
	if errno != 0 {
		o.stats.drop(sendDrop(errno), 1)
		return
	}
	o.stats.packetsOut.Add(1)
	o.stats.bytesOut.Add(uint64(len(b)))
}

func sendBatch(fd int, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
