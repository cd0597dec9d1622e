package desktop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// waylandRoundtrip connects to a compositor and waits for its answer to wl_display.sync, which it gives only when its main loop
// turns. Source: the Wayland protocol's wire format (object id, size<<16|opcode, arguments; native byte order).
func waylandRoundtrip(ctx context.Context, socket string) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // net: only fails on a closed connection
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	const displayID, callbackID, syncRequest = 1, 2, 0
	if _, err := c.Write(waylandMessage(displayID, syncRequest, callbackID)); err != nil {
		return fmt.Errorf("ask compositor: %w", err)
	}
	for {
		object, opcode, err := readWayland(c)
		switch {
		case err != nil:
			return fmt.Errorf("wait for compositor: %w", err)
		case object == callbackID:
			return nil
		case object == displayID && opcode == 0:
			return errors.New("compositor refused wl_display.sync")
		}
	}
}

func waylandMessage(object, opcode, argument uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, object)
	b = binary.NativeEndian.AppendUint32(b, 12<<16|opcode)
	return binary.NativeEndian.AppendUint32(b, argument)
}

func readWayland(r io.Reader) (object, opcode uint32, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	object = binary.NativeEndian.Uint32(head[:4])
	word := binary.NativeEndian.Uint32(head[4:])
	_, err = io.CopyN(io.Discard, r, int64(max(word>>16, 8)-8))
	return object, word & 0xffff, err
}
