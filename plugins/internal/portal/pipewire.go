package portal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// PipeWire is the socket of a session's PipeWire daemon.
type PipeWire struct{ Socket string }

// PipeWireIn finds the socket of the session with that XDG_RUNTIME_DIR.
func PipeWireIn(runtimeDir string) PipeWire {
	return PipeWire{Socket: filepath.Join(runtimeDir, "pipewire-0")}
}

// Open connects and returns the descriptor, for pipewiresrc or another process. It is the caller's.
func (p PipeWire) Open() (*os.File, error) {
	c, err := net.DialTimeout("unix", p.Socket, watchTimeout)
	if err != nil {
		return nil, &pluginapi.UnavailableError{
			Reason: fmt.Sprintf("PipeWire does not accept connections: %v", err),
			Remedy: "start pipewire and wireplumber in the desktop's session",
		}
	}
	defer c.Close()
	return c.(*net.UnixConn).File()
}

// Ping makes one round trip with the daemon on a connection of its own.
func (p PipeWire) Ping(ctx context.Context) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", p.Socket)
	if err != nil {
		return fmt.Errorf("connect to PipeWire: %w", err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // fails only on a closed connection
	}
	if _, err := c.Write(pingMessages()); err != nil {
		return fmt.Errorf("ask PipeWire: %w", err)
	}
	return awaitDone(c)
}

// The native protocol (PipeWire 0.3, module-protocol-native): a header of id, opcode<<24|size, sequence and number of descriptors,
// then a POD; all in native byte order. Object 0 is the core.
const (
	coreID         = 0
	methodHello    = 1
	methodSync     = 2
	eventDone      = 1
	pipewireHeader = 16
	podInt         = 4
	podStruct      = 14
	coreVersion    = 3
	pingCookie     = 42
)

func pingMessages() []byte {
	return append(coreMessage(methodHello, 0, coreVersion), coreMessage(methodSync, 1, coreID, pingCookie)...)
}

// coreMessage is a method call on the core whose arguments are Ints.
func coreMessage(opcode, sequence uint32, arguments ...uint32) []byte {
	const intSize = 16 // size, type, value, padding
	body := uint32(len(arguments) * intSize)
	b := binary.NativeEndian.AppendUint32(nil, coreID)
	b = binary.NativeEndian.AppendUint32(b, opcode<<24|(8+body))
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, body)
	b = binary.NativeEndian.AppendUint32(b, podStruct)
	for _, a := range arguments {
		for _, word := range []uint32{4, podInt, a, 0} {
			b = binary.NativeEndian.AppendUint32(b, word)
		}
	}
	return b
}

// awaitDone reads events until the core answers the sync.
func awaitDone(r io.Reader) error {
	var head [pipewireHeader]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return ErrPipeWireGone
			}
			return fmt.Errorf("wait for PipeWire: %w", err)
		}
		id, word := binary.NativeEndian.Uint32(head[:]), binary.NativeEndian.Uint32(head[4:])
		if _, err := io.CopyN(io.Discard, r, int64(word&0xffffff)); err != nil {
			return fmt.Errorf("read from PipeWire: %w", err)
		}
		if id == coreID && word>>24 == eventDone {
			return nil
		}
	}
}

// Gone blocks until the daemon closes the connection it makes (ErrPipeWireGone) or ctx ends (its error).
func (p PipeWire) Gone(ctx context.Context) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", p.Socket)
	if err != nil {
		return fmt.Errorf("connect to PipeWire: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, _ = io.Copy(io.Discard, c) // ends with the connection or ctx
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return ErrPipeWireGone
}
