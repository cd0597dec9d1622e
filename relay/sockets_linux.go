//go:build linux && (amd64 || arm64)

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const (
	udpSegment = 103 // UDP_SEGMENT
	udpGRO     = 104 // UDP_GRO
	memDrops   = 8   // SK_MEMINFO_DROPS
)

// socketSet is the sockets of all workers: for each worker one per media port, then one for the control port. All workers' sockets
// of a port share it with SO_REUSEPORT, so the kernel spreads the flows.
type socketSet struct {
	workers [][]int
	ports   []uint16 // of the media ports, then of the control port
	six     bool     // AF_INET6, dual stack
}

// openSockets binds the ports of cfg for n workers.
func openSockets(bind netip.Addr, control, firstMedia uint16, media, n int) (*socketSet, error) {
	s := &socketSet{six: !bind.Is4(), ports: make([]uint16, media+1)}
	for i := range media {
		if firstMedia != 0 {
			s.ports[i] = firstMedia + uint16(i)
		}
	}
	s.ports[media] = control
	for range n {
		socks := make([]int, 0, media+1)
		s.workers = append(s.workers, socks)
	}
	for i := range s.ports {
		for w := range n {
			fd, port, err := openSocket(netip.AddrPortFrom(bind, s.ports[i]), s.six, i < media)
			if err != nil {
				return nil, errors.Join(err, s.close())
			}
			s.ports[i] = port // a port chosen by the kernel is shared by the other workers
			s.workers[w] = append(s.workers[w], fd)
		}
	}
	return s, nil
}

func openSocket(at netip.AddrPort, six, gro bool) (fd int, port uint16, err error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, 0, fmt.Errorf("open socket for port %d: %w", at.Port(), err)
	}
	if err = configure(fd, six, gro); err == nil {
		err = unix.Bind(fd, unixSockaddr(at, six))
	}
	if err == nil {
		port, err = localPort(fd)
	}
	if err != nil {
		return -1, 0, fmt.Errorf("bind %s: %w", at, errors.Join(err, unix.Close(fd)))
	}
	return fd, port, nil
}

// configure sets the options. Datagrams are never fragmented: a path that is too narrow must show to QUIC's own path discovery.
func configure(fd int, six, gro bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("SO_REUSEPORT: %w", err)
	}
	for _, o := range []struct{ forced, plain int }{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.forced, socketBuffer) == nil {
			continue // needs CAP_NET_ADMIN; otherwise the system's limit cuts the wish
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.plain, socketBuffer); err != nil {
			return fmt.Errorf("socket buffer: %w", err)
		}
	}
	if six {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE); err != nil {
			return fmt.Errorf("IPV6_MTU_DISCOVER: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE); err != nil {
		return fmt.Errorf("IP_MTU_DISCOVER: %w", err)
	}
	if gro && offloads().gro {
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1); err != nil {
			return fmt.Errorf("UDP_GRO: %w", err)
		}
	}
	return nil
}

func localPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, fmt.Errorf("socket of family %T: %w", sa, ErrUnsupported)
}

func (s *socketSet) close() error {
	var errs []error
	for _, socks := range s.workers {
		for _, fd := range socks {
			errs = append(errs, unix.Close(fd))
		}
	}
	s.workers = nil
	return errors.Join(errs...)
}

// kernelDrops sums what the kernel discarded because a receive buffer was full.
func (s *socketSet) kernelDrops() (sum uint64) {
	for _, socks := range s.workers {
		for _, fd := range socks {
			if n, err := socketDrops(fd); err == nil { // a socket that is being closed has no count
				sum += uint64(n)
			}
		}
	}
	return sum
}

// flat lists the sockets worker by worker, as they travel to a successor.
func (s *socketSet) flat() []int {
	var all []int
	for _, socks := range s.workers {
		all = append(all, socks...)
	}
	return all
}

// adopt makes a set of sockets that came from a predecessor.
func adopt(fds []int, workers int, ports []uint16, six bool) (*socketSet, error) {
	if workers < 1 || len(fds) != workers*len(ports) {
		return nil, fmt.Errorf("%d sockets for %d workers and %d ports", len(fds), workers, len(ports))
	}
	s := &socketSet{ports: ports, six: six}
	for w := range workers {
		s.workers = append(s.workers, fds[w*len(ports):(w+1)*len(ports)])
	}
	return s, nil
}

var errNoGSO = errors.New("kernel does not segment")

// offload is what the kernel can do; it is probed once, by doing it.
type offload struct{ gro, gso bool }

var offloads = onceValue(probeOffloads)

func probeOffloads() (o offload) {
	if os.Getenv("WAVRY_DEBUG_RELAY_NO_OFFLOAD") != "" {
		return o
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return o
	}
	defer unix.Close(fd)
	o.gro = unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1) == nil
	o.gso = probeGSO(fd) == nil
	return o
}

// probeGSO sends two segments to itself.
func probeGSO(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(2))
	writeSegment(control, 8)
	if n, err := unix.SendmsgN(fd, make([]byte, 12), control, sa, 0); err != nil || n != 12 {
		return errors.Join(errNoGSO, err)
	}
	return nil
}
