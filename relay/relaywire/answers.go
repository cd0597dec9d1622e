package relaywire

import (
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
)

// Bound is the answer to a BIND or RENEW that was accepted.
type Bound struct {
	Circuit      uint64
	RequestID    uint64
	ExpiryMillis int64
	RateLimit    uint64 // bits per second
	Port         uint16 // media port
	Flags        Flags
	// KeepaliveMillis, IdleMillis and PinMillis are the relay's limits for this leg.
	KeepaliveMillis, IdleMillis, PinMillis uint32
	// Observed is the host's address as the relay sees it.
	Observed netip.AddrPort
	// IDs is the key with which the host makes the circuit's connection ids.
	IDs IDKey
}

// AppendBound appends b, authenticated with the leg key.
func AppendBound(dst []byte, b *Bound, leg *Key) []byte {
	dst, p := appendHead(dst, TypeBound, BoundLen)
	binary.BigEndian.PutUint64(p[8:], b.Circuit)
	binary.BigEndian.PutUint64(p[16:], b.RequestID)
	binary.BigEndian.PutUint64(p[24:], uint64(b.ExpiryMillis))
	binary.BigEndian.PutUint64(p[32:], b.RateLimit)
	binary.BigEndian.PutUint16(p[40:], b.Port)
	binary.BigEndian.PutUint16(p[42:], uint16(b.Flags))
	binary.BigEndian.PutUint32(p[44:], b.KeepaliveMillis)
	binary.BigEndian.PutUint32(p[48:], b.IdleMillis)
	binary.BigEndian.PutUint32(p[52:], b.PinMillis)
	ip := b.Observed.Addr().As16()
	copy(p[56:], ip[:])
	binary.BigEndian.PutUint16(p[72:], b.Observed.Port())
	pad := idPad(leg)
	subtle.XORBytes(p[boundIDs:boundMAC], b.IDs[:], pad[:])
	sum := mac(leg, p[:boundMAC])
	copy(p[boundMAC:], sum[:])
	return dst
}

// ParseBound reads a BOUND. authentic is false when its MAC does not fit.
func ParseBound(p []byte, leg *Key) (b Bound, authentic bool, err error) {
	if _, err := expect(p, BoundLen, "bound", TypeBound); err != nil {
		return Bound{}, false, err
	}
	b = Bound{
		Circuit:         binary.BigEndian.Uint64(p[8:]),
		RequestID:       binary.BigEndian.Uint64(p[16:]),
		ExpiryMillis:    int64(binary.BigEndian.Uint64(p[24:])),
		RateLimit:       binary.BigEndian.Uint64(p[32:]),
		Port:            binary.BigEndian.Uint16(p[40:]),
		Flags:           Flags(binary.BigEndian.Uint16(p[42:])),
		KeepaliveMillis: binary.BigEndian.Uint32(p[44:]),
		IdleMillis:      binary.BigEndian.Uint32(p[48:]),
		PinMillis:       binary.BigEndian.Uint32(p[52:]),
		Observed:        netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[56:72])).Unmap(), binary.BigEndian.Uint16(p[72:])),
	}
	pad := idPad(leg)
	subtle.XORBytes(b.IDs[:], p[boundIDs:boundMAC], pad[:])
	return b, macFits(leg, p[:boundMAC], p[boundMAC:BoundLen]), nil
}

// RequestIDOf reads the request id, or counter, that every answer carries at the same place. It is 0 for anything shorter.
func RequestIDOf(p []byte) uint64 {
	if len(p) < 24 {
		return 0
	}
	return binary.BigEndian.Uint64(p[16:])
}

// CircuitOf reads the circuit that every packet but BIND, RENEW, REJECT and COOKIE carries at the same place.
func CircuitOf(p []byte) uint64 {
	if len(p) < 16 {
		return 0
	}
	return binary.BigEndian.Uint64(p[8:])
}

// Reject is the answer to a BIND or RENEW that was refused.
type Reject struct {
	RequestID        uint64
	Reason           Reason
	RetryAfterMillis uint32
}

// AppendReject appends r, authenticated with the leg key of the request.
func AppendReject(dst []byte, r *Reject, leg *Key) []byte {
	dst, p := appendHead(dst, TypeReject, RejectLen)
	binary.BigEndian.PutUint64(p[16:], r.RequestID)
	p[24] = byte(r.Reason)
	binary.BigEndian.PutUint32(p[28:], r.RetryAfterMillis)
	sum := mac(leg, p[:smallMAC])
	copy(p[smallMAC:], sum[:])
	return dst
}

// ParseReject reads a REJECT. authentic is false when its MAC does not fit.
func ParseReject(p []byte, leg *Key) (r Reject, authentic bool, err error) {
	if _, err := expect(p, RejectLen, "reject", TypeReject); err != nil {
		return Reject{}, false, err
	}
	r = Reject{RequestID: RequestIDOf(p), Reason: Reason(p[24]), RetryAfterMillis: binary.BigEndian.Uint32(p[28:])}
	return r, macFits(leg, p[:smallMAC], p[smallMAC:RejectLen]), nil
}

// AppendCookie appends a COOKIE for the request with the given id.
func AppendCookie(dst []byte, requestID uint64, cookie *[16]byte) []byte {
	dst, p := appendHead(dst, TypeCookie, CookieLen)
	binary.BigEndian.PutUint64(p[16:], requestID)
	copy(p[24:], cookie[:])
	return dst
}

// ParseCookie reads a COOKIE.
func ParseCookie(p []byte) (requestID uint64, cookie [16]byte, err error) {
	if _, err := expect(p, CookieLen, "cookie", TypeCookie); err != nil {
		return 0, cookie, err
	}
	copy(cookie[:], p[24:])
	return RequestIDOf(p), cookie, nil
}

// AppendUnknown appends an UNKNOWN for a packet about a circuit the relay does not have.
func AppendUnknown(dst []byte, circuit, counter uint64) []byte {
	dst, p := appendHead(dst, TypeUnknown, UnknownLen)
	binary.BigEndian.PutUint64(p[8:], circuit)
	binary.BigEndian.PutUint64(p[16:], counter)
	return dst
}

// ParseUnknown reads an UNKNOWN.
func ParseUnknown(p []byte) (circuit, counter uint64, err error) {
	if _, err := expect(p, UnknownLen, "unknown", TypeUnknown); err != nil {
		return 0, 0, err
	}
	return CircuitOf(p), RequestIDOf(p), nil
}
