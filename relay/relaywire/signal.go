package relaywire

import "encoding/binary"

// Flags are facts about a circuit that answers carry.
type Flags uint16

// The flags.
const (
	FlagDraining Flags = 1 // the relay is leaving: ask for another one
	FlagPinned   Flags = 2 // the viewer has arrived
)

// Signal is a KEEPALIVE, ALIVE, RELEASE, RELEASED, DRAINING, CONFIRM or CONFIRMED.
type Signal struct {
	Type       Type
	Flags      Flags
	Circuit    uint64
	Counter    uint64
	TimeMillis int64
	Candidate  uint32
}

// AppendSignal appends s, authenticated with the leg key. It allocates nothing when dst has SignalLen bytes to spare.
func AppendSignal(dst []byte, s *Signal, leg *Key) []byte {
	dst, p := appendHead(dst, s.Type, SignalLen)
	binary.BigEndian.PutUint16(p[6:], uint16(s.Flags))
	binary.BigEndian.PutUint64(p[8:], s.Circuit)
	binary.BigEndian.PutUint64(p[16:], s.Counter)
	binary.BigEndian.PutUint64(p[24:], uint64(s.TimeMillis))
	binary.BigEndian.PutUint32(p[32:], s.Candidate)
	sum := mac(leg, p[:smallMAC])
	copy(p[smallMAC:], sum[:])
	return dst
}

// ParseSignal reads a signal of any of its types; CheckSignal tells whether to believe it.
func ParseSignal(p []byte) (Signal, error) {
	t, err := expect(p, SignalLen, "signal", TypeKeepalive, TypeAlive, TypeRelease, TypeReleased, TypeDraining, TypeConfirm, TypeConfirmed)
	if err != nil {
		return Signal{}, err
	}
	return Signal{
		Type:       t,
		Flags:      Flags(binary.BigEndian.Uint16(p[6:])),
		Circuit:    CircuitOf(p),
		Counter:    RequestIDOf(p),
		TimeMillis: int64(binary.BigEndian.Uint64(p[24:])),
		Candidate:  binary.BigEndian.Uint32(p[32:]),
	}, nil
}

// CheckSignal tells whether a packet that ParseSignal accepted was made with the leg key.
func CheckSignal(p []byte, leg *Key) bool {
	return len(p) >= SignalLen && macFits(leg, p[:smallMAC], p[smallMAC:SignalLen])
}
