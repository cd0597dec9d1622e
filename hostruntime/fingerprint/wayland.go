package fingerprint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The few bytes of Wayland that list a compositor's globals: wl_display.get_registry, wl_display.sync, and the answers.
const (
	displayID, registryID, callbackID = 1, 2, 3

	opGetRegistry, opSync           = 1, 0
	eventDisplayError, eventGlobal  = 0, 0
	waylandHeader, maxWaylandString = 8, 256
)

// listGlobals connects to a Wayland socket and returns the interfaces it announces with their versions.
func listGlobals(ctx context.Context, dial func(network, address string) (net.Conn, error), path string) (map[string]uint32, error) {
	c, err := dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the compositor: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(waylandTimeout)); err != nil {
		return nil, fmt.Errorf("talk to the compositor: %w", err)
	}
	request := appendRequest(nil, displayID, opGetRegistry, registryID)
	request = appendRequest(request, displayID, opSync, callbackID)
	if _, err := c.Write(request); err != nil {
		return nil, fmt.Errorf("talk to the compositor: %w", err)
	}
	globals, err := readGlobals(c)
	if err != nil {
		return nil, fmt.Errorf("list the compositor's globals: %w", err)
	}
	return globals, nil
}

func appendRequest(b []byte, object, opcode, argument uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, object)
	b = binary.NativeEndian.AppendUint32(b, (waylandHeader+4)<<16|opcode)
	return binary.NativeEndian.AppendUint32(b, argument)
}

// readGlobals reads events until the sync's callback is done.
func readGlobals(r io.Reader) (map[string]uint32, error) {
	globals := map[string]uint32{}
	for {
		object, opcode, body, err := readEvent(r)
		if err != nil {
			return nil, err
		}
		switch {
		case object == callbackID:
			return globals, nil
		case object == displayID && opcode == eventDisplayError:
			return nil, errors.New("the compositor reports a protocol error")
		case object == registryID && opcode == eventGlobal:
			name, version, err := parseGlobal(body)
			if err != nil {
				return nil, err
			}
			if globals[name] = version; len(globals) > maxGlobals {
				return nil, fmt.Errorf("more than %d globals", maxGlobals)
			}
		}
	}
}

func readEvent(r io.Reader) (object, opcode uint32, body []byte, err error) {
	var header [waylandHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, 0, nil, err
	}
	word := binary.NativeEndian.Uint32(header[4:])
	size := word >> 16
	if size < waylandHeader || size%4 != 0 {
		return 0, 0, nil, fmt.Errorf("event of %d bytes", size)
	}
	body = make([]byte, size-waylandHeader)
	_, err = io.ReadFull(r, body)
	return binary.NativeEndian.Uint32(header[:]), word & 0xffff, body, err
}

// parseGlobal reads name u32, interface string (length with its zero, padded to 4), version u32.
func parseGlobal(b []byte) (string, uint32, error) {
	if len(b) < 12 {
		return "", 0, errors.New("truncated global")
	}
	n := int(binary.NativeEndian.Uint32(b[4:]))
	padded := (n + 3) &^ 3
	if n < 1 || n > maxWaylandString || len(b) < 8+padded+4 {
		return "", 0, fmt.Errorf("global with a name of %d bytes in %d", n, len(b))
	}
	return string(b[8 : 8+n-1]), binary.NativeEndian.Uint32(b[8+padded:]), nil
}
