package relaypath

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// segment reads the size of a run's datagrams from the control messages of a send; 0: it is one datagram.
func segment(oob []byte) int {
	for len(oob) > 0 {
		head, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if head.Level == unix.SOL_UDP && head.Type == unix.UDP_SEGMENT && len(body) >= 2 {
			return int(binary.NativeEndian.Uint16(body))
		}
		oob = rest
	}
	return 0
}
