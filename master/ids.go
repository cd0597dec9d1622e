package master

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
	"strings"
)

var lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idBytes is 120 bits: no two ids ever meet, and 24 characters are a size class of the allocator.
const idBytes = 15

// newID returns a random id.
func newID() string {
	var b [idBytes]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
	return lower.EncodeToString(b[:])
}

// deriveID returns the id that belongs to these words: a retry of a request finds what the first attempt made, with no table of requests.
func deriveID(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return lower.EncodeToString(sum[:idBytes])
}

func leaseIDOf(request, viewer string, attempt int) string {
	return deriveID("lease", request, viewer, strconv.Itoa(attempt))
}

func sessionIDOf(request string, attempt int) string {
	return deriveID("session", request, strconv.Itoa(attempt))
}

// newCircuit returns a random circuit tag that is not zero.
func newCircuit() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
		if c := binary.BigEndian.Uint64(b[:]); c != 0 {
			return c
		}
	}
}
