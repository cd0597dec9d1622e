package relaywire

import (
	"encoding/binary"

	"golang.org/x/crypto/blake2s"
)

// Carry is an OFFER or an ANSWER: one datagram of a candidate, or for one.
type Carry struct {
	Type      Type
	Part      Part
	Circuit   uint64
	Counter   uint64
	Candidate uint32
	// Datagram is never empty. Parsed packets alias the input.
	Datagram []byte
}

// Part says how much of a datagram is there.
type Part uint16

// The parts.
const (
	Whole      Part = 0
	FirstHalf  Part = 1
	SecondHalf Part = 2
)

const carryMAC = CarryLen - MACLen

// AppendCarry appends c, authenticated with the leg key.
func AppendCarry(dst []byte, c *Carry, leg *Key) []byte {
	dst, p := appendHead(dst, c.Type, CarryLen)
	binary.BigEndian.PutUint16(p[6:], uint16(c.Part))
	binary.BigEndian.PutUint64(p[8:], c.Circuit)
	binary.BigEndian.PutUint64(p[16:], c.Counter)
	binary.BigEndian.PutUint32(p[24:], c.Candidate)
	sum := carrySum(leg, p[:carryMAC], c.Datagram)
	copy(p[carryMAC:], sum[:])
	return append(dst, c.Datagram...)
}

// ParseCarry reads an OFFER or ANSWER; CheckCarry tells whether to believe it.
func ParseCarry(p []byte) (Carry, error) {
	t, err := expect(p, CarryLen, "carry", TypeOffer, TypeAnswer)
	if err != nil {
		return Carry{}, err
	}
	if len(p) == CarryLen {
		return Carry{}, &WireError{Offset: len(p), Field: "datagram"}
	}
	return Carry{
		Type: t, Part: Part(binary.BigEndian.Uint16(p[6:])), Circuit: CircuitOf(p), Counter: RequestIDOf(p), Candidate: binary.BigEndian.Uint32(p[24:]), Datagram: p[CarryLen:],
	}, nil
}

// CheckCarry tells whether a packet that ParseCarry accepted was made with the leg key.
func CheckCarry(p []byte, leg *Key) bool {
	return len(p) > CarryLen && sumFits(carrySum(leg, p[:carryMAC], p[CarryLen:]), p[carryMAC:CarryLen])
}

// carrySum is mac for a message of any length: keyed BLAKE2s, whose keyed mode is apart from the prefix that mac uses.
func carrySum(leg *Key, head, datagram []byte) (sum [MACLen]byte) {
	h, err := blake2s.New128(leg[:])
	if err != nil {
		panic("relaywire: " + err.Error()) // a Key always has the right length
	}
	h.Write(head)
	h.Write(datagram)
	h.Sum(sum[:0])
	return sum
}
