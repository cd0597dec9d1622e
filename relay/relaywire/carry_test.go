package relaywire

import (
	"errors"
	"reflect"
	"testing"
)

// TestCarryRoundTrip proves that what is carried comes back, that every bit of it counts, and that a packet cut at any byte is refused or
// not believed.
func TestCarryRoundTrip(t *testing.T) {
	p := newParties(t)
	want := Carry{Type: TypeAnswer, Part: SecondHalf, Circuit: 1 << 60, Counter: 7, Candidate: 9, Datagram: []byte("\x41a datagram")}
	b := AppendCarry([]byte("before"), &want, &p.leg)[len("before"):]
	if got, err := ParseCarry(b); err != nil || !reflect.DeepEqual(got, want) || !CheckCarry(b, &p.leg) {
		t.Errorf("came back as %+v, %v", got, err)
	}
	if CheckCarry(b, &Key{1}) {
		t.Error("believed with another key")
	}
	for n := range b {
		var wire *WireError
		_, err := ParseCarry(b[:n])
		if n <= CarryLen && !errors.As(err, &wire) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if CheckCarry(b[:n], &p.leg) {
			t.Errorf("believed when cut to %d bytes", n)
		}
		b[n] ^= 1
		if CheckCarry(b, &p.leg) {
			t.Errorf("believed with byte %d changed", n)
		}
		b[n] ^= 1
	}
}

// TestIDs proves that an id leads to its circuit and to no other, that ids of one circuit have nothing in common, and that neither another
// key nor a changed bit finds the circuit.
func TestIDs(t *testing.T) {
	var scratch [16]byte
	ids := NewIDs(MakeIDKey([]byte("private")))
	seen := map[byte]int{}
	for nonce := range uint64(1000) {
		id := ids.Append(nil, 77, nonce)
		if got, ok := ids.Circuit(id, &scratch); len(id) != IDLen || got != 77 || !ok {
			t.Fatalf("id %x leads to %d", id, got)
		}
		seen[id[1]]++
		other, _ := NewIDs(MakeIDKey([]byte("another"))).Circuit(id, &scratch)
		id[1+nonce%16] ^= 1 << (nonce % 8)
		if changed, _ := ids.Circuit(id, &scratch); other == 77 || changed == 77 {
			t.Fatal("found by what is no id")
		}
	}
	for b, n := range seen {
		if n > 30 {
			t.Errorf("%d of 1000 ids have %02x in common", n, b)
		}
	}
	id := ids.Append(nil, 1, 1)
	if n := testing.AllocsPerRun(100, func() { ids.Circuit(id, &scratch) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, id := range [][]byte{nil, {idOctet}, make([]byte, IDLen-1), make([]byte, IDLen)} {
		if _, ok := ids.Circuit(id, &scratch); ok {
			t.Errorf("%x is an id", id)
		}
	}
}
