package masterapi

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"
)

// TestReasonsHaveSentences proves that every reason of the closed set says what to do and that slugs are unique and reversible.
func TestReasonsHaveSentences(t *testing.T) {
	for n := range Reason_name {
		r := Reason(n)
		if r == Reason_REASON_UNSPECIFIED {
			continue
		}
		if r.Sentence() == "" || !strings.HasSuffix(r.Sentence(), ".") {
			t.Errorf("%s has no sentence", r)
		}
		if back, ok := ReasonFromSlug(r.Slug()); !ok || back != r {
			t.Errorf("slug %q of %s does not lead back", r.Slug(), r)
		}
	}
	if _, ok := ReasonFromSlug(""); ok {
		t.Error("the empty slug is a reason")
	}
	if got := Reason(9999).Slug(); got != "unspecified" {
		t.Errorf("unknown reason: slug %q", got)
	}
}

// TestCertificateSignature proves that a host's signature holds for exactly its session, expiry and hashes.
func TestCertificateSignature(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("certificate"))
	other := sha256.Sum256([]byte("other"))
	expiry := time.Unix(1800000000, 0)
	signature := ed25519.Sign(private, CertificateMessage([][]byte{hash[:]}, "s1", expiry))
	for name, c := range map[string]struct {
		hashes  [][]byte
		session string
		expiry  time.Time
		want    bool
	}{
		"right":         {[][]byte{hash[:]}, "s1", expiry, true},
		"other hash":    {[][]byte{other[:]}, "s1", expiry, false},
		"other session": {[][]byte{hash[:]}, "s2", expiry, false},
		"other expiry":  {[][]byte{hash[:]}, "s1", expiry.Add(time.Second), false},
		"short hash":    {[][]byte{hash[:31]}, "s1", expiry, false},
		"no hash":       {nil, "s1", expiry, false},
	} {
		if got := VerifyCertificate(public, signature, c.hashes, c.session, c.expiry); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if VerifyCertificate(public[:31], signature, [][]byte{hash[:]}, "s1", expiry) {
		t.Error("short identity accepted")
	}
}

// TestCheckID proves each limit of ids at, below and above.
func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"": false, "a": true, strings.Repeat("x", MaxIDLen): true, strings.Repeat("x", MaxIDLen+1): false,
		"a b": false, "a/b": false, "ä": false, "ada@example.org": true, "a\n": false,
	} {
		if err := CheckID("login", id); (err == nil) != ok {
			t.Errorf("CheckID(%q) = %v", id, err)
		}
	}
}
