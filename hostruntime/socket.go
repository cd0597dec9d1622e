package hostruntime

import (
	"log/slog"
	"net"
)

// MaxSlots bounds the sessions of one host: more desktops than any node encodes.
const MaxSlots = 64

// socketBuffer holds a burst of keyframes for all slots, and a fifth of a second of feedback.
const socketBuffer = 4 << 20

// tuneSocket asks for larger buffers. The kernel caps them at net.core.rmem_max, which the doctor checks.
func tuneSocket(socket *net.UDPConn, log *slog.Logger) {
	if err := socket.SetReadBuffer(socketBuffer); err != nil {
		log.Warn("socket buffer stays small", "cause", err)
	}
	if err := socket.SetWriteBuffer(socketBuffer); err != nil {
		log.Warn("socket buffer stays small", "cause", err)
	}
}
