package fakeplugin

import (
	"bytes"
	"testing"
)

// TestStream proves the shape of the stream: parameter sets before each keyframe, one slice per picture, and the wanted size.
func TestStream(t *testing.T) {
	var s stream
	key, delta := s.next(320, 240, true, 0), s.next(320, 240, false, 0)
	if got := nals(key); !bytes.Equal(got, []byte{7, 8, 5}) {
		t.Error("keyframe", got)
	}
	if got := nals(delta); !bytes.Equal(got, []byte{1}) || len(delta) > 32 {
		t.Error("delta", got, len(delta))
	}
	if got := s.next(320, 240, false, 30_000); len(got) != 30_000 || !bytes.Equal(nals(got), []byte{1, 12}) {
		t.Error("padded", len(got), nals(got))
	}
}

// nals lists the types of an Annex-B stream.
func nals(b []byte) []byte {
	var types []byte
	for {
		_, rest, found := bytes.Cut(b, []byte{0, 0, 0, 1})
		if !found {
			return types
		}
		types = append(types, rest[0]&31)
		b = rest
	}
}
