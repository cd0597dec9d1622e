//go:build linux

package relay

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is the remote address of a leg as the kernel wants it in a msghdr, so that sending only points to it. IPv4 addresses
// are mapped; workers whose sockets are AF_INET use raw4.
type sockaddr struct {
	raw6 [unix.SizeofSockaddrInet6]byte
	raw4 [unix.SizeofSockaddrInet4]byte
}

func makeSockaddr(k legKey) (s sockaddr) {
	port, ip := uint16(k.ports>>16), k.addr()
	binary.NativeEndian.PutUint16(s.raw6[:], unix.AF_INET6)
	binary.BigEndian.PutUint16(s.raw6[2:], port)
	binary.BigEndian.PutUint64(s.raw6[8:], k.hi)
	binary.BigEndian.PutUint64(s.raw6[16:], k.lo)
	if ip.Is4() {
		v4 := ip.As4()
		binary.NativeEndian.PutUint16(s.raw4[:], unix.AF_INET)
		binary.BigEndian.PutUint16(s.raw4[2:], port)
		copy(s.raw4[4:], v4[:])
	}
	return s
}

// keyFromRaw reads what the kernel wrote as the source of a datagram.
func keyFromRaw(raw *[unix.SizeofSockaddrInet6]byte, port int) legKey {
	k := legKey{ports: uint32(binary.BigEndian.Uint16(raw[2:]))<<16 | uint32(uint16(port))}
	if *(*uint16)(unsafe.Pointer(raw)) == unix.AF_INET {
		k.lo = 0xffff<<32 | uint64(binary.BigEndian.Uint32(raw[4:]))
		return k
	}
	k.hi, k.lo = binary.BigEndian.Uint64(raw[8:]), binary.BigEndian.Uint64(raw[16:])
	return k
}

func unixSockaddr(to netip.AddrPort, six bool) unix.Sockaddr {
	if six {
		return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
}
