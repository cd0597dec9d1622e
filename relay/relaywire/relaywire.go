// Package relaywire holds the bytes of the relay's control packets: between a host (package relayclient) and a relay.
//
// It is a leaf: it opens nothing, reads no clock and knows nothing of circuits beyond their numbers. Data packets are not
// described here, because the relay forwards them as they are.
//
// # Telling control from data
//
// Host and relay use the same UDP ports for control and for data. Every control packet begins with 0x05 'W' 'R' 'L'. The first
// byte lies outside STUN (0-3), ZRTP, DTLS, TURN channels and RTP (RFC 7983) and has QUIC's fixed bit 0x40 clear (RFC 9000
// section 17), so one byte decides and four bytes confirm.
//
// # Layout
//
// Integers are big-endian. All packets start with
//
//	0  4  magic 05 57 52 4c
//	4  1  version (1)
//	5  1  type
//
// BIND (1) and RENEW (2), host -> control port, 112 bytes + sealed token:
//
//	  6  2  length of the sealed token
//	  8  8  time of the host, Unix nanoseconds; grows with every BIND or RENEW of a circuit
//	 16 24  nonce, random; its first 8 bytes are the request id
//	 40 32  host's X25519 public key
//	 72  8  zero
//	 80 16  MAC1 over bytes 0-79, key from the relay's public key: whoever lacks it is dropped for 0.3 us
//	 96 16  MAC2 over bytes 0-95, key is the cookie; zero when the host has none
//	112  n  token, sealed with XChaCha20-Poly1305 under the shared key, nonce as above, bytes 0-79 as associated data
//
// BOUND (3), relay -> host, 112 bytes:
//
//	 8  8  circuit
//	16  8  request id
//	24  8  end of the lease, Unix milliseconds
//	32  8  rate limit, bits per second
//	40  2  media port
//	42  2  flags as in ALIVE
//	44  4  keepalive interval, milliseconds
//	48  4  idle limit, milliseconds
//	52  4  how long the relay waits for the viewer, milliseconds
//	56 16  address of the host as the relay sees it (IPv4 as ::ffff:a.b.c.d)
//	72  2  its port
//	74  6  zero
//	80 16  key of connection ids (see IDKey), masked with a stream made from the leg key
//	96 16  MAC, leg key
//
// REJECT (4), relay -> host, 64 bytes:
//
//	 8  8  zero
//	16  8  request id
//	24  1  reason
//	25  3  zero
//	28  4  come back after, milliseconds; 0: do not
//	32 16  zero
//	48 16  MAC, leg key
//
// COOKIE (5), relay -> host, 40 bytes, not authenticated (the request id makes it hard to forge from off the path):
//
//	 8  8  zero
//	16  8  request id
//	24 16  cookie for this source address
//
// KEEPALIVE (6), RELEASE (8) and CONFIRM (14), host -> media port; ALIVE (7), RELEASED (9), DRAINING (10) and CONFIRMED (15),
// relay -> host; 64 bytes:
//
//	 6  2  flags: 1 draining, 2 the viewer is pinned
//	 8  8  circuit
//	16  8  counter: what the host sends counts up from 1 per circuit; answers echo it; DRAINING counts by itself
//	24  8  time, Unix milliseconds: end of the lease (ALIVE, CONFIRMED), time by which to be gone (DRAINING), else zero
//	32  4  candidate: the one that becomes the viewer's leg (CONFIRM), the one that is (ALIVE, CONFIRMED; 0: none), else zero
//	36 12  zero
//	48 16  MAC, leg key
//
// OFFER (12), relay -> host, and ANSWER (13), host -> media port, 48 bytes + one datagram as it was received or is to be sent. An
// OFFER brings what came from an address that may be the viewer's, which is then a candidate; an ANSWER goes to a candidate:
//
//	 6  2  part: 0 whole, 1 the first half, 2 the second, in the packet with the next counter; a datagram that fills its path is halved
//	 8  8  circuit
//	16  8  counter: counts up from 1 per circuit and direction, apart from that of the signals
//	24  4  candidate, from 1; a number is used once per circuit
//	28  4  zero
//	32 16  MAC over bytes 0-31 and the datagram, leg key
//	48  n  datagram
//
// UNKNOWN (11), relay -> host, 24 bytes, not authenticated, only a hint to BIND again:
//
//	 8  8  circuit
//	16  8  counter of the packet it answers
//
// No answer is longer than its request, and nobody but the viewer's confirmed leg is sent more bytes than it sent. An empty "MAC"
// field never verifies.
//
// # Who may move a leg
//
// The relay cannot know who speaks; the host can, because the QUIC session behind it ends there. So an address that sends what a
// viewer could send (the first packet of a connection, from where the lease says; or a packet with one of the circuit's connection
// ids, from anywhere) is a candidate and nothing more: its packets reach the host as OFFERs, the host's reach it as ANSWERs, both within narrow
// limits. The viewer's leg begins or moves when the host says so (CONFIRM), and only then. Until that, everything else goes on between the
// host and the leg that is.
//
// # Connection ids
//
// A viewer whose NAT gave it a new address is told by nothing but the connection id in its packets. A host makes the ids of a circuit
// as draft-ietf-quic-load-balancers does: one octet (config 0, length 16) and one AES block over circuit and nonce. See IDKey.
//
// # Growth
//
// A reader ignores bytes behind the layout it knows and flags it does not know. A change that old readers must not ignore gets a
// new type number; a change of the head gets a new version.
package relaywire

import (
	"encoding/binary"
	"fmt"
)

// Version is the version this package writes and reads.
const Version = 1

// Type tells the control packets apart.
type Type uint8

// The types. Numbers are never reused.
const (
	TypeBind      Type = 1
	TypeRenew     Type = 2
	TypeBound     Type = 3
	TypeReject    Type = 4
	TypeCookie    Type = 5
	TypeKeepalive Type = 6
	TypeAlive     Type = 7
	TypeRelease   Type = 8
	TypeReleased  Type = 9
	TypeDraining  Type = 10
	TypeUnknown   Type = 11
	TypeOffer     Type = 12
	TypeAnswer    Type = 13
	TypeConfirm   Type = 14
	TypeConfirmed Type = 15
)

// Lengths of packets in bytes.
const (
	HeadLen     = 6
	BindHeadLen = 112
	MinBindLen  = BindHeadLen + SealOverhead + 64 // no circuit's token is shorter than 64 bytes; keeps every answer below its request
	MaxBindLen  = BindHeadLen + SealOverhead + MaxTokenLen
	BoundLen    = 112
	RejectLen   = 64
	CookieLen   = 40
	SignalLen   = 64
	UnknownLen  = 24
	CarryLen    = 48 // of an OFFER or ANSWER, without its datagram
	MACLen      = 16

	// MaxTokenLen is the longest token a BIND carries: the whole packet stays below the 1280 bytes every IPv6 path takes.
	MaxTokenLen = 1024
	// SealOverhead is what sealing adds to the token.
	SealOverhead = 16
)

const (
	magic    = 0x0557524c
	mac1At   = 80
	mac2At   = 96
	boundIDs = 80
	boundMAC = BoundLen - MACLen
	smallMAC = SignalLen - MACLen
)

// FirstByte is the first byte of every control packet and of nothing else that a host or a viewer sends.
const FirstByte = 0x05

// IsControl tells whether b begins like a control packet. It reads at most four bytes.
func IsControl(b []byte) bool {
	return len(b) >= 4 && binary.BigEndian.Uint32(b) == magic
}

// TypeOf returns the type of a control packet. The error is a *WireError for anything else, or for another version.
func TypeOf(b []byte) (Type, error) {
	switch {
	case len(b) < HeadLen:
		return 0, &WireError{Offset: len(b), Field: "head"}
	case !IsControl(b):
		return 0, &WireError{Offset: 0, Field: "magic"}
	case b[4] != Version:
		return 0, &WireError{Offset: 4, Field: "version"}
	}
	return Type(b[5]), nil
}

// TypeIs tells whether b begins like a control packet of type t. It checks nothing else.
func TypeIs(b []byte, t Type) bool { return len(b) >= HeadLen && IsControl(b) && Type(b[5]) == t }

// WireError tells where a packet stopped making sense.
type WireError struct {
	Offset int
	Field  string
}

func (e *WireError) Error() string {
	return fmt.Sprintf("relay control packet: bad %s at byte %d", e.Field, e.Offset)
}

// appendHead appends n zero bytes with the head filled in and returns the whole slice and the packet within it.
func appendHead(dst []byte, t Type, n int) (all, packet []byte) {
	at := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	packet = dst[at:]
	binary.BigEndian.PutUint32(packet, magic)
	packet[4], packet[5] = Version, byte(t)
	return dst, packet
}

// expect checks the head of b for one of two types and a minimal length.
func expect(b []byte, n int, field string, want ...Type) (Type, error) {
	t, err := TypeOf(b)
	if err != nil {
		return 0, err
	}
	if len(b) < n {
		return 0, &WireError{Offset: len(b), Field: field}
	}
	for _, w := range want {
		if t == w {
			return t, nil
		}
	}
	return 0, &WireError{Offset: 5, Field: "type"}
}
