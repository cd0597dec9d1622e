package relaywire

import (
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"
)

// Bind is a BIND or a RENEW.
type Bind struct {
	Renew   bool
	Time    int64 // Unix nanoseconds on the host's clock
	Nonce   [24]byte
	HostKey PublicKey
	// Sealed is the sealed token. Parsed packets alias the input.
	Sealed []byte
}

// RequestID names a request in its answer.
func (b *Bind) RequestID() uint64 { return binary.BigEndian.Uint64(b.Nonce[:]) }

// AppendBind appends the packet for b with token sealed into it. mac1 is MAC1Key of the relay; cookie may be nil.
// It panics when token is longer than MaxTokenLen: the caller checks its own tokens.
func AppendBind(dst []byte, b *Bind, token string, shared, mac1 Key, cookie *[16]byte) []byte {
	if len(token) > MaxTokenLen {
		panic("relaywire: token longer than MaxTokenLen")
	}
	t := TypeBind
	if b.Renew {
		t = TypeRenew
	}
	dst, p := appendHead(dst, t, BindHeadLen)
	at := len(dst) - BindHeadLen
	binary.BigEndian.PutUint16(p[6:], uint16(len(token)+SealOverhead))
	binary.BigEndian.PutUint64(p[8:], uint64(b.Time))
	copy(p[16:], b.Nonce[:])
	copy(p[40:], b.HostKey[:])
	sum := mac(&mac1, p[:mac1At])
	copy(p[mac1At:], sum[:])
	if cookie != nil {
		key := cookieKey(cookie)
		sum = mac(&key, p[:mac2At])
		copy(p[mac2At:], sum[:])
	}
	aead, err := chacha20poly1305.NewX(shared[:])
	if err != nil {
		panic("relaywire: " + err.Error()) // a Key always has the right length
	}
	sealed := aead.Seal(nil, b.Nonce[:], []byte(token), p[:mac1At])
	return append(dst[:at+BindHeadLen], sealed...)
}

// ParseBind reads a BIND or RENEW. It checks the shape only.
func ParseBind(p []byte, b *Bind) error {
	t, err := expect(p, BindHeadLen, "bind", TypeBind, TypeRenew)
	if err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(p[6:]))
	if n < SealOverhead || n > MaxTokenLen+SealOverhead {
		return &WireError{Offset: 6, Field: "token length"}
	}
	if len(p) < BindHeadLen+n {
		return &WireError{Offset: len(p), Field: "token"}
	}
	b.Renew = t == TypeRenew
	b.Time = int64(binary.BigEndian.Uint64(p[8:]))
	copy(b.Nonce[:], p[16:])
	copy(b.HostKey[:], p[40:])
	b.Sealed = p[BindHeadLen : BindHeadLen+n]
	return nil
}

// CheckMAC1 tells whether a packet that ParseBind accepts, or would accept, comes from someone who knows the relay's public key.
func CheckMAC1(p []byte, mac1 *Key) bool {
	return len(p) >= BindHeadLen && macFits(mac1, p[:mac1At], p[mac1At:mac2At])
}

// CheckMAC2 tells whether the sender of p was given cookie.
func CheckMAC2(p []byte, cookie *[16]byte) bool {
	key := cookieKey(cookie)
	return len(p) >= BindHeadLen && macFits(&key, p[:mac2At], p[mac2At:BindHeadLen])
}

func cookieKey(cookie *[16]byte) (key Key) {
	copy(key[:], cookie[:])
	return key
}

// OpenToken opens the sealed token of p, which ParseBind has accepted as b. ok is false when it was not sealed with shared.
func OpenToken(p []byte, b *Bind, shared *Key) (token string, ok bool) {
	aead, err := chacha20poly1305.NewX(shared[:])
	if err != nil {
		panic("relaywire: " + err.Error())
	}
	plain, err := aead.Open(nil, b.Nonce[:], b.Sealed, p[:mac1At])
	return string(plain), err == nil
}
