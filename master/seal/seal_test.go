package seal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestSeal proves that only the right key-encryption key, key id and public half open a signing key, and that no byte may change.
func TestSeal(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	kek, other := Ephemeral(), Ephemeral()
	sealed, err := kek.Seal("k1", private)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := kek.Open("k1", sealed, public)
	if err != nil || !opened.Equal(private) {
		t.Fatalf("open: %v", err)
	}
	strange, _, _ := ed25519.GenerateKey(nil)
	for name, err := range map[string]error{
		"other kek":    second(other.Open("k1", sealed, public)),
		"other id":     second(kek.Open("k2", sealed, public)),
		"other public": second(kek.Open("k1", sealed, strange)),
		"changed":      second(kek.Open("k1", sealed[:len(sealed)-1]+"x", public)),
		"short":        second(kek.Open("k1", sealed[:5], public)),
	} {
		if !errors.Is(err, ErrWrongKEK) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if strings.Contains(sealed, string(private.Seed())) {
		t.Error("the seed is readable")
	}
}

func second[T any](_ T, err error) error { return err }

// TestParse proves the accepted forms, the least length, and that the value is never printed.
func TestParse(t *testing.T) {
	hexKey := strings.Repeat("ab", 32)
	for secret, ok := range map[string]bool{
		hexKey: true, hexKey + "\n": true, strings.Repeat("ab", 31): false, "": false, "password": false,
		"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=": true, strings.Repeat("~", 32): true,
	} {
		kek, err := Parse(secret)
		if (err == nil) != ok {
			t.Errorf("Parse(%q): %v", secret, err)
		}
		if kek != nil && strings.Contains(fmt.Sprintf("%v %+v", kek, *kek), "171") {
			t.Error("the key is printed")
		}
	}
}
