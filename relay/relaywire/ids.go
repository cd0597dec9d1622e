package relaywire

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// IDLen is the length of a connection id that leads a relay to a circuit: one octet and one AES block.
const IDLen = 1 + aes.BlockSize

// idOctet is the first octet as draft-ietf-quic-load-balancers has it: configuration 0 in the upper three bits, then the length of
// what follows.
const idOctet = aes.BlockSize

// IDKey is what a relay and its hosts share to make connection ids and to read them (draft-ietf-quic-load-balancers, single-pass
// encryption: server id and nonce fill one AES block). An observer without it cannot tell whether two ids belong to one circuit, and
// cannot make one. It is one key for all circuits of a relay: the relay knows nothing of a packet from an unknown address but its
// id, so there is nothing it could choose a circuit's own key by. A host that misuses it learns which circuit a packet
// that it sees belongs to, and can make itself a candidate there; nobody is sent anything for that.
type IDKey [16]byte

// String hides the key from every format verb that would print it as text.
func (IDKey) String() string { return "REDACTED" }

// GoString hides the key from %#v.
func (IDKey) GoString() string { return "REDACTED" }

// MakeIDKey makes a relay's key of connection ids from its private key, so that ids outlive a restart.
func MakeIDKey(private []byte) (key IDKey) {
	k := derive("wavry relay ids", private)
	copy(key[:], k[:])
	return key
}

// idPad masks the key in a BOUND. A leg key is made from a nonce that is used once, and so is its pad.
func idPad(leg *Key) (pad IDKey) {
	k := derive("wavry relay id pad", leg[:])
	copy(pad[:], k[:])
	return pad
}

// IDs makes and reads connection ids with one key. It may be used from any goroutine.
type IDs struct{ block cipher.Block }

// NewIDs returns the IDs of key.
func NewIDs(key IDKey) IDs {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("relaywire: " + err.Error()) // the key has the right length
	}
	return IDs{block}
}

// Append appends a connection id of circuit. nonce must not be used twice for one circuit.
func (i IDs) Append(dst []byte, circuit, nonce uint64) []byte {
	var plain [aes.BlockSize]byte
	binary.BigEndian.PutUint64(plain[:], circuit)
	binary.BigEndian.PutUint64(plain[8:], nonce)
	at := len(dst) + 1
	dst = append(append(dst, idOctet), plain[:]...)
	i.block.Encrypt(dst[at:], dst[at:])
	return dst
}

// Circuit reads the circuit from a connection id, or from what follows in a packet from where one would begin. What nobody made
// gives a number that no circuit has, but for one in 2^64. scratch spares an allocation.
func (i IDs) Circuit(id []byte, scratch *[aes.BlockSize]byte) (circuit uint64, ok bool) {
	if len(id) < IDLen || id[0] != idOctet {
		return 0, false
	}
	i.block.Decrypt(scratch[:], id[1:IDLen])
	return binary.BigEndian.Uint64(scratch[:]), true
}
