package unitsocket

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
)

func units() []*pluginpb.AccessUnit {
	return []*pluginpb.AccessUnit{
		{Sequence: 1<<63 + 5, Codec: 1, Keyframe: true, Width: 1920, Height: 1080, CaptureTime: 1, HandoffTime: -2, EncodeTime: 3, Data: []byte("abc")},
		{Repeat: true, Data: []byte{}},
	}
}

// written is what a Writer puts on the wire.
func written(t testing.TB, list ...*pluginpb.AccessUnit) []byte {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	w := writer(t, ours)
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	for _, u := range list {
		if err := w.Write(u); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return <-got
}

// TestRoundTrip proves that what is written is read, unit by unit.
func TestRoundTrip(t *testing.T) {
	r := bytes.NewReader(written(t, units()...))
	for _, want := range units() {
		got, err := Read(r)
		if err != nil || !proto.Equal(got, want) {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	if _, err := Read(r); err != io.EOF {
		t.Fatal(err)
	}
}

// TestTruncated proves that a unit cut at any byte is an error and never a short unit.
func TestTruncated(t *testing.T) {
	whole := written(t, units()[0])
	for n := range whole {
		_, err := Read(bytes.NewReader(whole[:n]))
		if want := map[bool]error{true: io.EOF, false: io.ErrUnexpectedEOF}[n == 0]; err != want {
			t.Fatalf("cut at %d: %v, want %v", n, err, want)
		}
	}
}

// TestTooLarge proves that both ends refuse more than MaxUnit, the reader before it allocates.
func TestTooLarge(t *testing.T) {
	header := bytes.Repeat([]byte{0xff}, headerSize)
	if _, err := Read(bytes.NewReader(header)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	w := &Writer{}
	if err := w.Write(&pluginpb.AccessUnit{Data: make([]byte, MaxUnit+1)}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
}

// FuzzRead proves that no bytes make the reader panic, and that a unit it accepts is written the same.
func FuzzRead(f *testing.F) {
	f.Add(written(f, units()[0]))
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 && b[0] != 0 {
			b[0], b[1] = 0, 0 // an honest length, or every run allocates megabytes
		}
		u, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := Read(bytes.NewReader(written(t, u)))
		if err != nil || !proto.Equal(again, u) {
			t.Fatalf("%v became %v, %v", u, again, err)
		}
	})
}

// TestAllocations proves that a unit costs its data and its struct to read, and nothing to write.
func TestAllocations(t *testing.T) {
	a, b, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	w, u := writer(t, a), units()[0]
	n := testing.AllocsPerRun(100, func() {
		if err := w.Write(u); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(b); err != nil {
			t.Fatal(err)
		}
	})
	if n > 3 { // unit, data, and the header that escapes into the reader
		t.Fatal(n, "allocations per unit")
	}
}
