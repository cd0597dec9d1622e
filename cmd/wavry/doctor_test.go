package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// doctor runs `wavry host doctor` with the fake plugins of dir.
func doctor(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(append([]string{"host", "doctor", "-plugin-dirs", dir, "-frames", "5"}, args...), &out, &errOut)
	return code, out.String(), errOut.String()
}

// fakePlugins is a directory with links to this binary under plugins' names; see TestMain.
func fakePlugins(t *testing.T, behaviour string, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("WAVRY_FAKE", behaviour)
	return dir
}

// TestDoctorUsable proves the report and the exit codes of a machine that works: 0, and 2 when a pinned version differs.
func TestDoctorUsable(t *testing.T) {
	dir := fakePlugins(t, "idle=false", "wavry-capture-fake", "wavry-encode-fake")
	lock := filepath.Join(t.TempDir(), "lock.json")
	code, out, errOut := doctor(t, dir)
	if code != doctorUsable || !strings.Contains(out, "A session can run on this machine.") || !strings.Contains(out, "together") {
		t.Fatalf("code %d\n%s%s", code, out, errOut)
	}
	if err := os.WriteFile(lock, []byte(`{"versions": {"no-such-thing": "1.0"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, _ = doctor(t, dir, "-lock", lock, "-joint=false")
	if code != doctorMismatch || !strings.Contains(out, "no-such-thing is missing, pinned is 1.0") {
		t.Fatalf("code %d\n%s", code, out)
	}
	code, out, _ = doctor(t, dir, "-json", "-joint=false")
	var result struct {
		Usable     bool
		Checks     []struct{ Name, Verdict, Remedy string }
		Mismatches []any
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != doctorUsable || !result.Usable || len(result.Checks) < 10 || result.Mismatches == nil {
		t.Fatalf("code %d, %v\n%s", code, err, out)
	}
	for _, c := range result.Checks {
		if c.Verdict != "ok" && c.Remedy == "" {
			t.Errorf("%s: %s without a remedy", c.Name, c.Verdict)
		}
	}
}

// TestDoctorUnusable proves exit code 1 with a remedy: for plugins that refuse, for none at all, and for wrong options.
func TestDoctorUnusable(t *testing.T) {
	dir := fakePlugins(t, "refuse", "wavry-capture-fake", "wavry-encode-fake")
	code, out, _ := doctor(t, dir)
	if code != doctorUnusable || !strings.Contains(out, "the fake was told to refuse") || !strings.Contains(out, "-> remove refuse") {
		t.Fatalf("code %d\n%s", code, out)
	}
	code, out, _ = doctor(t, t.TempDir())
	if code != doctorUnusable || !strings.Contains(out, "make build") {
		t.Fatalf("code %d\n%s", code, out)
	}
	code, _, errOut := doctor(t, dir, "-lock", filepath.Join(dir, "none"))
	if code != doctorUnusable || !strings.Contains(errOut, "read lock file") {
		t.Fatalf("code %d\n%s", code, errOut)
	}
}
