package streamwire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vector is one value and its bytes. web/test reads the same file, so that both sides of the wire agree.
type vector struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"` // message, video or datagram
	Type  byte   `json:"type"`
	Bytes string `json:"bytes"` // hex, the whole message, header or datagram
	Value any    `json:"value"`
}

func vectors() []vector {
	var out []vector
	for kind, samples := range map[string][]sample{"message": messageSamples(), "video": headerSamples(), "datagram": datagramSamples()} {
		for _, s := range samples {
			b := appendSample(nil, s.value)
			out = append(out, vector{Name: s.name, Kind: kind, Type: b[0], Bytes: hex.EncodeToString(b), Value: s.value})
		}
	}
	slices.SortFunc(out, func(a, b vector) int { return bytes.Compare([]byte(a.Kind+a.Name), []byte(b.Kind+b.Name)) })
	return out
}

// The bytes on the wire are those of the committed vectors: a change of them is a change of the protocol. Run with -update when
// that is meant, raise Version, and change web/src/wire.ts too.
func TestVectors(t *testing.T) {
	file := filepath.Join("testdata", "vectors.json")
	now, err := json.MarshalIndent(vectors(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	now = append(now, '\n')
	if *update {
		if err := os.WriteFile(file, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now, committed) {
		t.Errorf("%s differs from what is sent; see this test's comment", file)
	}
}
