package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key survives a restart, and its file is private.
func TestLoadKeepsKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "identity.pem")
	first, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Equal(second) {
		t.Error("second Load made another key")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
}

// A file that is no key, or that others can read, is refused with what to do, and never overwritten.
func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"garbage", "garbage", 0o600, "not PEM"},
		{"empty", "", 0o600, "not PEM"},
		{"bad DER", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "parse key"},
		{"readable by others", "garbage", 0o644, "chmod 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != c.content {
				t.Fatalf("file changed to %q, %v", after, err)
			}
		})
	}
}
