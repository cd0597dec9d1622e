// Package archive is the file that wavry operator snapshot save writes and restore reads: one JSON line about the snapshot, then the snapshot of the state
// as package state writes it, which checks itself.
package archive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const magic = "wavry-snapshot-1 "

// maxHeader bounds the first line.
const maxHeader = 4096

// ErrNotArchive is returned for a file that is something else.
var ErrNotArchive = errors.New("not a wavry snapshot")

// Header says what the snapshot is.
type Header struct {
	Index   uint64    `json:"index"`
	Term    uint64    `json:"term"`
	Size    int64     `json:"size"`
	Time    time.Time `json:"time"`
	Server  string    `json:"server"`
	Version string    `json:"version"`
}

// Line is the encoded header.
func (h Header) Line() ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot header: %w", err)
	}
	return bytes.Join([][]byte{[]byte(magic), body, []byte("\n")}, nil), nil
}

// Open reads the header; what follows in the returned reader is the snapshot of the state.
func Open(r io.Reader) (Header, *bufio.Reader, error) {
	in := bufio.NewReaderSize(r, maxHeader)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return Header{}, nil, fmt.Errorf("%w: no header line", ErrNotArchive)
	}
	body, ok := strings.CutPrefix(string(line), magic)
	if !ok {
		return Header{}, nil, fmt.Errorf("%w: it does not begin with %q", ErrNotArchive, magic)
	}
	var h Header
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		return Header{}, nil, fmt.Errorf("%w: header: %w", ErrNotArchive, err)
	}
	return h, in, nil
}
