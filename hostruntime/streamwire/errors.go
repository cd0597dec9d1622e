package streamwire

import "fmt"

// WireError says what is wrong with bytes of the other side. The session ends with CodeProtocol; a bad datagram is only counted.
type WireError struct {
	Type    byte
	Problem string
}

func (e *WireError) Error() string { return fmt.Sprintf("message 0x%02x: %s", e.Type, e.Problem) }

func truncated(kind byte, n int) error {
	return &WireError{Type: kind, Problem: fmt.Sprintf("truncated at %d bytes", n)}
}
