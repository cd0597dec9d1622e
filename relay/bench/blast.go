//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blast sends one datagram of each flow in turn, as fast as it can: ready-made frames past the source's own IP stack, which is slower
// than any of the programs under test.
func blast(flows []*flow, length time.Duration) (sent, error) {
	out, err := net.InterfaceByName("e0")
	if err != nil {
		return sent{}, fmt.Errorf("find the source's interface: %w", err)
	}
	gateway, err := neighbour(flows[0].conn, flows[0].to)
	if err != nil {
		return sent{}, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sent{}, fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(fd)
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1), unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: out.Index}))
	if err != nil {
		return sent{}, fmt.Errorf("prepare the packet socket: %w", err)
	}
	messages, vecs := make([]unix.Msghdr, 0, len(flows)), make([]unix.Iovec, len(flows))
	for i, f := range flows {
		frame := f.frame(gateway, out.HardwareAddr)
		vecs[i].Base = &frame[0]
		vecs[i].SetLen(len(frame))
		messages = append(messages, unix.Msghdr{Iov: &vecs[i], Iovlen: 1})
	}
	var count uint64
	began := time.Now()
	for time.Since(began) < length {
		for i := range messages {
			if _, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[i])), 0); errno == 0 {
				count++
			}
		}
	}
	return sent{count, time.Since(began)}, nil
}

// neighbour is the link address of the relay, for which the kernel asks with the first datagram.
func neighbour(conn *net.UDPConn, to netip.AddrPort) (net.HardwareAddr, error) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := conn.WriteToUDPAddrPort([]byte{0x41}, to); err != nil {
			return nil, err
		}
		table, err := os.ReadFile("/proc/net/arp")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(table)) {
			if f := strings.Fields(line); len(f) >= 4 && f[0] == relayNear && f[2] == "0x2" {
				return net.ParseMAC(f[3])
			}
		}
	}
	return nil, fmt.Errorf("%s does not say its link address", relayNear)
}

// frame is one datagram of the flow as Ethernet sees it, without a UDP checksum.
func (f *flow) frame(to, from net.HardwareAddr) []byte {
	body := append(append([]byte{}, f.head...), 0x41) // as a short header of QUIC
	body = append(body, make([]byte, payload-1)...)
	local := f.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	b := append(append(append([]byte{}, to...), from...), 8, 0)
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(body)))
	ip = append(append(ip, local.Addr().Unmap().AsSlice()...), f.to.Addr().Unmap().AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum>>16+sum))
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, f.to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
	return append(append(b, 0, 0), body...)
}
