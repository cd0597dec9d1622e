package credential

import (
	"bytes"
	"errors"
	"fmt"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var cheap = Params{Memory: 64, Time: 1, Threads: 1}

// A password fits its own hash and no other; hashes differ by salt and carry their parameters.
func TestPassword(t *testing.T) {
	h := NewHasher(cheap, 2)
	a, err := h.Hash(t.Context(), "", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Hash(t.Context(), "", "correct horse")
	if err != nil || a == b {
		t.Fatalf("two hashes are equal, or %v", err)
	}
	if !strings.HasPrefix(a, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Fatalf("encoded form %q", a)
	}
	for _, c := range []struct {
		encoded, password string
		want              bool
	}{{a, "correct horse", true}, {a, "correct horsE", false}, {a, "", false}, {"", "correct horse", false}, {a, strings.Repeat("x", MaxPassword+1), false}} {
		ok, outdated, err := h.Verify(t.Context(), "", c.encoded, c.password)
		if err != nil || ok != c.want || outdated {
			t.Errorf("verify %q: %v, outdated %v, %v", c.password, ok, outdated, err)
		}
	}
	dearer := NewHasher(Params{Memory: 128, Time: 1, Threads: 1}, 1)
	if ok, outdated, err := dearer.Verify(t.Context(), "", a, "correct horse"); err != nil || !ok || !outdated {
		t.Fatalf("an older hash: %v, outdated %v, %v", ok, outdated, err)
	}
}

// A hash that is not ours is an error, never a match and never a huge allocation.
func TestBadHash(t *testing.T) {
	h := NewHasher(cheap, 1)
	good, err := h.Hash(t.Context(), "", "p")
	if err != nil {
		t.Fatal(err)
	}
	bad := []string{"x", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AA", strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=64", "m=99999999", 1), strings.Replace(good, "t=1", "t=0", 1)}
	for i := range len(good) {
		bad = append(bad, good[:i])
	}
	for _, encoded := range bad {
		if encoded == "" {
			continue
		}
		if ok, _, err := h.Verify(t.Context(), "", encoded, "p"); ok || !errors.Is(err, ErrBadHash) {
			t.Errorf("hash %q: %v, %v", encoded, ok, err)
		}
	}
}

// The rules for new passwords hold at their limits.
func TestCheckPassword(t *testing.T) {
	for _, c := range []struct {
		name, password string
		ok             bool
	}{
		{"ada", "123456789", false}, {"ada", "1234567890", true}, {"ada", strings.Repeat("ab", MaxPassword/2), true},
		{"ada", strings.Repeat("ab", MaxPassword/2) + "a", false}, {"ada", "aaaaaaaaaaaa", false}, {"lovelace", "lovelace12", false},
		{"ada", "Augusta and ada in 1843", true}, {"ada", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5", false}, {"ada", "äöüßäöüßäö", true},
	} {
		err := CheckPassword(c.name, c.password)
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrWeakPassword)) {
			t.Errorf("%q for %q: %v", c.password, c.name, err)
		}
	}
}

// A code of the present and its neighbours matches with its own step; others do not. The picture is a picture.
func TestTOTP(t *testing.T) {
	f, err := NewTOTP("Wavry", "ada")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(f.QR)); err != nil {
		t.Fatalf("QR code: %v", err)
	}
	now := time.Unix(1_800_000_000, 0)
	for offset := -3; offset <= 3; offset++ {
		code, err := totp.GenerateCode(string(f.Secret), now.Add(time.Duration(offset)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		step, ok := MatchTOTP(f.Secret, code, now)
		if ok != (offset >= -1 && offset <= 1) || (ok && step != now.Unix()/30+int64(offset)) {
			t.Errorf("offset %d: step %d, %v", offset, step, ok)
		}
	}
	for _, code := range []string{"", "12345", "1234567", "abcdef"} {
		if _, ok := MatchTOTP(f.Secret, code, now); ok || (len(code) != 6 && IsTOTP(code)) {
			t.Errorf("code %q matches", code)
		}
	}
	if _, ok := MatchTOTP("not base32!", "123456", now); ok {
		t.Error("a broken secret matches")
	}
}

// Recovery codes differ, and hash alike however they are typed.
func TestRecoveryCodes(t *testing.T) {
	codes, hashes := NewRecoveryCodes()
	seen := map[string]bool{}
	for i, c := range codes {
		if seen[c] || len(c) != 19 || IsTOTP(c) {
			t.Fatalf("code %q", c)
		}
		seen[c] = true
		if typed := " " + strings.ToUpper(strings.ReplaceAll(c, "-", " ")); HashRecoveryCode(typed) != hashes[i] {
			t.Fatalf("typed as %q it is another code", typed)
		}
	}
	if len(codes) != recoveryCodes {
		t.Fatalf("%d codes", len(codes))
	}
}

// Tokens are long, different, and never printed by accident.
func TestTokens(t *testing.T) {
	a, b := NewToken(), NewToken()
	id, other := NewID("u-"), NewID("u-")
	if a == b || len(a) != 43 || len(HashToken(string(a))) != 64 || id == other {
		t.Fatalf("tokens of %d characters", len(a))
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", a)
	log.WriteString(a.String() + " " + fmt.Sprintf("%v %s", a, a))
	if strings.Contains(log.String(), string(a)) {
		t.Fatal("a token was printed")
	}
}

// A sealed secret opens with the same key for the same owner only; the key file is made once, private, and read again.
func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s, err := LoadSealer(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file %v, %v", info.Mode(), err)
	}
	sealed := s.Seal("secret", "u-1")
	again, err := LoadSealer(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(sealed, "u-1"); err != nil || got != "secret" {
		t.Fatalf("opened %q, %v", string(got), err)
	}
	other, err := LoadSealer(filepath.Join(t.TempDir(), "key"), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []func() (Secret, error){
		func() (Secret, error) { return other.Open(sealed, "u-1") },
		func() (Secret, error) { return s.Open(sealed, "u-2") },
		func() (Secret, error) { return s.Open(sealed[:len(sealed)-2], "u-1") },
		func() (Secret, error) { return s.Open("", "u-1") },
		func() (Secret, error) { return s.Open("???", "u-1") },
	} {
		if got, err := try(); !errors.Is(err, ErrBadSeal) {
			t.Errorf("opened %q, %v", string(got), err)
		}
	}
	if _, err := LoadSealer(filepath.Join(t.TempDir(), "none"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing key file: %v", err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSealer(path, true); err == nil {
		t.Error("a broken key file was accepted")
	}
}

// FuzzDecode: whatever stands in the store is a hash within our bounds or an error.
func FuzzDecode(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967296,t=-1,p=256$$")
	f.Fuzz(func(t *testing.T, encoded string) {
		p, salt, key, err := decode(encoded)
		if err != nil {
			return
		}
		if p.Memory > maxMemory || p.Time > maxTime || len(salt) < 8 || len(key) != keyLen {
			t.Fatalf("accepted %q: %+v, %d, %d", encoded, p, len(salt), len(key))
		}
		if _, _, _, err := decode(encode(p, salt, key)); err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
	})
}

// BenchmarkVerify is the price of one sign-in with the default parameters.
func BenchmarkVerify(b *testing.B) {
	h := NewHasher(DefaultParams(), 1)
	encoded, err := h.Hash(b.Context(), "", "correct horse")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, _, err := h.Verify(b.Context(), "", encoded, "correct horse"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
