package framesource

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/wavry/fleet/hostruntime/media"
)

// samples is one message of each type.
func samples() map[string]struct {
	bytes []byte
	want  message
} {
	nv12 := Buffer{ID: 3, Memory: MemoryShared, Size: 64*32 + 64*16, Layout: media.Layout{Width: 64, Height: 32, Format: media.FormatNV12,
		Planes: []media.Plane{{Stride: 64}, {Offset: 64 * 32, Stride: 64}}}}
	tiled := Buffer{ID: 4, Memory: MemoryDMABuf, Size: 1, Layout: media.Layout{Width: 3840, Height: 2160, Format: media.FormatXRGB8888,
		Modifier: 0x0100000000000002, Planes: []media.Plane{{Stride: 15360}, {Offset: 99, Stride: 1}, {}, {}}}}
	frame := Frame{Buffer: 1 << 31, Sequence: 1 << 63, CaptureTime: -5, Repeat: true}
	return map[string]struct {
		bytes []byte
		want  message
	}{
		"hello":   {appendHello(nil, hello{version: Version, kind: KindPipeWire}, Node{ID: 77, Width: 3, Height: 5}), message{kind: typeHello, hello: hello{Version, KindPipeWire}, node: Node{ID: 77, Width: 3, Height: 5}, wantsFD: true}},
		"node":    {appendNode(nil, Node{ID: 78, Width: 7, Height: 9}), message{kind: typeNode, node: Node{ID: 78, Width: 7, Height: 9}, wantsFD: true}},
		"frames":  {appendHello(nil, hello{version: Version, kind: KindFrames}, Node{}), message{kind: typeHello, hello: hello{Version, KindFrames}}},
		"nv12":    {appendBuffer(nil, nv12), message{kind: typeBuffer, buffer: nv12, wantsFD: true}},
		"tiled":   {appendBuffer(nil, tiled), message{kind: typeBuffer, buffer: tiled, wantsFD: true}},
		"frame":   {appendFrame(nil, frame), message{kind: typeFrame, frame: frame}},
		"forget":  {appendID(nil, typeForget, 9), message{kind: typeForget, id: 9}},
		"release": {appendID(nil, typeRelease, 1<<32-1), message{kind: typeRelease, id: 1<<32 - 1}},
	}
}

// TestRoundTrip proves that each message is read as written, with or without bytes of a later version behind it.
func TestRoundTrip(t *testing.T) {
	for name, s := range samples() {
		for _, b := range [][]byte{s.bytes, append(append([]byte{}, s.bytes...), 1, 2, 3)} {
			got, err := parse(b)
			if err != nil || !reflect.DeepEqual(got, s.want) {
				t.Errorf("%s: got %+v, %v, want %+v", name, got, err, s.want)
			}
		}
		if len(s.bytes) > maxMessage {
			t.Errorf("%s has %d bytes", name, len(s.bytes))
		}
	}
}

// TestTruncated proves that each message cut anywhere is refused as truncated.
func TestTruncated(t *testing.T) {
	for name, s := range samples() {
		for n := range s.bytes {
			_, err := parse(s.bytes[:n])
			var bad *MessageError
			if !errors.As(err, &bad) || n > 0 && !strings.Contains(err.Error(), "truncated") {
				t.Errorf("%s cut at %d: %v", name, n, err)
			}
		}
	}
}

// TestRefused proves each rule of a buffer's layout, and that unknown types are named.
func TestRefused(t *testing.T) {
	good := func() Buffer {
		return Buffer{ID: 1, Memory: MemoryShared, Size: 64 * 32 * 4,
			Layout: media.Layout{Width: 64, Height: 32, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 256}}}}
	}
	if _, err := parse(appendBuffer(nil, good())); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Buffer){
		"unknown memory 3":            func(b *Buffer) { b.Memory = 3 },
		"size 0x32 is outside":        func(b *Buffer) { b.Layout.Width = 0 },
		"size 64x16385 is outside":    func(b *Buffer) { b.Layout.Height = MaxDimension + 1 },
		"0 planes":                    func(b *Buffer) { b.Layout.Planes = nil },
		"5 planes":                    func(b *Buffer) { b.Layout.Planes = make([]media.Plane, 5) },
		"1 planes of NV12, want 2":    func(b *Buffer) { b.Layout.Format = media.FormatNV12 },
		"ends at byte 8192 of 8191":   func(b *Buffer) { b.Size-- },
		"ends at byte 8193 of 8192":   func(b *Buffer) { b.Layout.Planes[0].Offset = 1 },
		"stride of 255 bytes":         func(b *Buffer) { b.Layout.Planes[0].Stride = 255 },
		"is negative":                 func(b *Buffer) { b.Size = -1 },
		"ends at byte 73014444031":    func(b *Buffer) { b.Layout.Planes[0] = media.Plane{Offset: 1<<32 - 1, Stride: 1 << 31} },
		"plane 1 ends at byte 999999": func(b *Buffer) { nv12(b); b.Layout.Planes[1].Offset = 999999 - 64*16 },
	} {
		b := good()
		spoil(&b)
		if _, err := parse(appendBuffer(nil, b)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
	for kind := range 256 {
		if _, known := map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true, 6: true}[kind]; known {
			continue
		}
		if _, err := parse(append([]byte{byte(kind)}, make([]byte, 100)...)); err == nil || !strings.Contains(err.Error(), "unknown type") {
			t.Errorf("type %d: %v", kind, err)
		}
	}
}

func nv12(b *Buffer) {
	b.Layout.Format, b.Layout.Planes = media.FormatNV12, []media.Plane{{Stride: 64}, {Offset: 64 * 32, Stride: 64}}
}

// FuzzParse proves that no packet makes the parser panic or accept a layout that reaches out of its memory.
func FuzzParse(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil || m.kind != typeBuffer || m.buffer.Memory != MemoryShared {
			return
		}
		l := m.buffer.Layout
		row, known := rowBytes(l)
		for i, p := range l.Planes {
			height := l.Height
			if i > 0 {
				height = (height + 1) / 2
			}
			if last := int64(p.Offset) + int64(p.Stride)*int64(height-1) + int64(row); known && last > m.buffer.Size {
				t.Fatalf("plane %d is read up to byte %d of %d", i, last, m.buffer.Size)
			}
		}
	})
}
