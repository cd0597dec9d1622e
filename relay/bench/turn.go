//go:build linux

package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// The little of TURN (RFC 8656) that a source needs: one allocation without authentication and one channel to the sink.
const (
	turnAllocate    = 0x0003
	turnChannelBind = 0x0009
	turnCookie      = 0x2112a442
	turnChannel     = 0x4000

	attrChannelNumber = 0x000c
	attrXorPeer       = 0x0012
	attrTransport     = 0x0019
)

func (f *flow) allocate(peer netip.AddrPort) error {
	if err := f.ask(turnAllocate, attribute(attrTransport, []byte{17, 0, 0, 0})); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	number := binary.BigEndian.AppendUint16(nil, turnChannel)
	body := append(attribute(attrChannelNumber, append(number, 0, 0)), attribute(attrXorPeer, xorAddress(peer))...)
	if err := f.ask(turnChannelBind, body); err != nil {
		return fmt.Errorf("bind channel: %w", err)
	}
	f.head = binary.BigEndian.AppendUint16(number, payload)
	return nil
}

func attribute(kind uint16, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func xorAddress(a netip.AddrPort) []byte {
	b := []byte{0, 1}
	b = binary.BigEndian.AppendUint16(b, a.Port()^turnCookie>>16)
	ip := a.Addr().As4()
	return binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(ip[:])^turnCookie)
}

// ask sends one request until it is answered with success.
func (f *flow) ask(method uint16, body []byte) error {
	b := binary.BigEndian.AppendUint16(nil, method)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	b = binary.BigEndian.AppendUint32(b, turnCookie)
	id := make([]byte, 12)
	rand.Read(id)
	b = append(append(b, id...), body...)
	answer := make([]byte, 2048)
	for range 10 {
		if _, err := f.conn.WriteToUDPAddrPort(b, f.to); err != nil {
			return err
		}
		f.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := f.conn.Read(answer)
		if err != nil || n < 20 || string(answer[8:20]) != string(id) {
			continue
		}
		if got := binary.BigEndian.Uint16(answer); got != method|0x0100 {
			return fmt.Errorf("answered with type %#04x", got)
		}
		return nil
	}
	return fmt.Errorf("no answer from %s", f.to)
}
