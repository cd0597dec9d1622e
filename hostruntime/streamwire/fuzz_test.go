package streamwire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// Whatever a peer sends as a message, it is a value that survives a round trip or a *WireError.
func FuzzMessage(f *testing.F) {
	for _, s := range messageSamples() {
		b := AppendMessage(nil, s.value.(Message))
		f.Add(b[0], b[messageHeaderLen:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		m, err := ParseMessage(kind, body)
		var wire *WireError
		if err != nil && !errors.As(err, &wire) {
			t.Fatalf("%T %v", err, err)
		}
		if m == nil {
			return
		}
		b := AppendMessage(nil, m)
		again, err := ParseMessage(b[0], b[messageHeaderLen:])
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

// A stream of anything ends with an error or its end, and holds no more than MaxMessage.
func FuzzMessageReader(f *testing.F) {
	var all []byte
	for _, s := range messageSamples() {
		all = AppendMessage(all, s.value.(Message))
	}
	f.Add(all)
	f.Add([]byte{typeCursor, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewMessageReader(bytes.NewReader(b))
		for {
			m, err := r.Next()
			if err != nil {
				break
			}
			if m == nil {
				t.Fatal("neither message nor error")
			}
		}
		if cap(r.buf) > MaxMessage {
			t.Fatalf("holds %d bytes", cap(r.buf))
		}
	})
}

// Any datagram is an error, an unknown one, or a value that survives a round trip.
func FuzzDatagram(f *testing.F) {
	for _, s := range datagramSamples() {
		f.Add(appendSample(nil, s.value))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, again Datagram
		if ParseDatagram(&d, b) != nil || picked(d) == nil {
			return
		}
		if err := ParseDatagram(&again, appendSample(nil, picked(d))); err != nil || !sameDatagram(picked(d), picked(again)) {
			t.Fatalf("%+v came back as %+v, %v", picked(d), picked(again), err)
		}
	})
}

// Any header that parses survives a round trip.
func FuzzVideoHeader(f *testing.F) {
	for _, s := range headerSamples() {
		f.Add(appendSample(nil, s.value)[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseVideoHeader(b)
		if err != nil {
			return
		}
		if again, err := ParseVideoHeader(AppendVideoHeader(nil, h)[1:]); err != nil || again != h {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}
