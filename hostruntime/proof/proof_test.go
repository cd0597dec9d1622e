package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/vector.json anew")

// vector is one proof in hex. web/test reads the same file, so that page and host agree about every byte.
type vector struct {
	Key, Thumbprint, Nonce, Identity, Token, Statement, Signature string
}

// The statement, the thumbprint and the signature are those of the committed vector.
func TestVector(t *testing.T) {
	file := filepath.Join("testdata", "vector.json")
	if *update {
		writeVector(t, file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	statement, err := Statement([NonceLen]byte(unhex(t, v.Nonce)), unhex(t, v.Identity), v.Token)
	if err != nil || hex.EncodeToString(statement) != v.Statement {
		t.Errorf("statement %x, %v", statement, err)
	}
	if err := Verify(v.Thumbprint, statement, [KeyLen]byte(unhex(t, v.Key)), [SignatureLen]byte(unhex(t, v.Signature))); err != nil {
		t.Error(err)
	}
}

func writeVector(t *testing.T, file string) {
	k, statement := bed(t)
	signature, err := k.Sign(statement)
	if err != nil {
		t.Fatal(err)
	}
	public := k.Public()
	data, err := json.MarshalIndent(vector{
		Key: hex.EncodeToString(public[:]), Thumbprint: k.Thumbprint(), Nonce: hex.EncodeToString(nonce[:]), Identity: hex.EncodeToString(identity),
		Token: token, Statement: hex.EncodeToString(statement), Signature: hex.EncodeToString(signature[:]),
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var (
	nonce    = [NonceLen]byte(bytes.Repeat([]byte{7}, NonceLen))
	identity = bytes.Repeat([]byte{9}, identityLen)
)

const token = "v4.public.payload.footer"

func bed(t testing.TB) (*Key, []byte) {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	statement, err := Statement(nonce, identity, token)
	if err != nil {
		t.Fatal(err)
	}
	return k, statement
}

// The thumbprint is RFC 7638's: that of the key in RFC 9449, section 4.1, is the one of its section 6.1.
func TestThumbprint(t *testing.T) {
	key := []byte{4}
	for _, coordinate := range []string{"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"} {
		b, err := base64.RawURLEncoding.DecodeString(coordinate)
		if err != nil {
			t.Fatal(err)
		}
		key = append(key, b...)
	}
	if got := Thumbprint([KeyLen]byte(key)); got != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Error(got)
	}
}

// A proof holds for one nonce, one host, one token and one key, and for no other.
func TestProofIsOfOneConnection(t *testing.T) {
	k, statement := bed(t)
	signature, err := k.Sign(statement)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(k.Thumbprint(), statement, k.Public(), signature); err != nil {
		t.Fatal("a good proof:", err)
	}
	otherNonce, otherHost := nonce, bytes.Clone(identity)
	otherNonce[31] ^= 1
	otherHost[0] ^= 1
	for name, other := range map[string]func() ([]byte, error){
		"nonce": func() ([]byte, error) { return Statement(otherNonce, identity, token) },
		"host":  func() ([]byte, error) { return Statement(nonce, otherHost, token) },
		"token": func() ([]byte, error) { return Statement(nonce, identity, token+"2") },
		"label": func() ([]byte, error) { return append([]byte("x"), statement[1:]...), nil },
	} {
		s, err := other()
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(k.Thumbprint(), s, k.Public(), signature); !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	thief, _ := bed(t)
	stolen, err := thief.Sign(statement)
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(k.Thumbprint(), statement, thief.Public(), stolen); !errors.Is(err, ErrKey) {
		t.Errorf("the thief's own key: %v", err)
	}
	if err := Verify(k.Thumbprint(), statement, k.Public(), stolen); !errors.Is(err, ErrSignature) {
		t.Errorf("the thief's signature under the owner's key: %v", err)
	}
	for i := range signature {
		broken := signature
		broken[i] ^= 0x10
		if err := Verify(k.Thumbprint(), statement, k.Public(), broken); !errors.Is(err, ErrSignature) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := Statement(nonce, identity[1:], token); err == nil {
		t.Error("a host without an identity")
	}
}

// Whatever a peer calls a key, it is refused or is the point that the thumbprint names; no point off the curve is used.
func FuzzVerify(f *testing.F) {
	k, statement := bed(f)
	signature, err := k.Sign(statement)
	if err != nil {
		f.Fatal(err)
	}
	public := k.Public()
	f.Add(append(public[:], signature[:]...))
	f.Add(make([]byte, KeyLen+SignatureLen))
	f.Add(append([]byte{4}, bytes.Repeat([]byte{0xff}, KeyLen+SignatureLen-1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != KeyLen+SignatureLen {
			sum := sha256.Sum256(b)
			b = bytes.Repeat(sum[:], 5)[:KeyLen+SignatureLen]
		}
		key, s := [KeyLen]byte(b[:KeyLen]), [SignatureLen]byte(b[KeyLen:])
		if err := Verify(k.Thumbprint(), statement, key, s); err == nil && key != public {
			t.Fatalf("%x passes for another key", key)
		}
		_ = Verify(Thumbprint(key), statement, key, s) // its own thumbprint: parses the point
	})
}

func BenchmarkVerify(b *testing.B) {
	k, statement := bed(b)
	signature, err := k.Sign(statement)
	if err != nil {
		b.Fatal(err)
	}
	thumbprint, public := k.Thumbprint(), k.Public()
	for b.Loop() {
		if err := Verify(thumbprint, statement, public, signature); err != nil {
			b.Fatal(err)
		}
	}
}
