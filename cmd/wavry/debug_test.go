package main

import (
	"bytes"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHelpDebug proves that -help-debug lists every knob that any source reads.
func TestHelpDebug(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"-help-debug"}, &out, &out); code != 0 {
		t.Fatal(code, out.String())
	}
	knob := regexp.MustCompile(`WAVRY_DEBUG_[A-Z_]*[A-Z]`)
	if !knob.MatchString(out.String()) {
		t.Fatalf("no knob in %q", out.String())
	}
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := fs.ReadFile(root, path)
		for _, name := range knob.FindAllString(string(source), -1) {
			if !strings.Contains(out.String(), name+"=") {
				t.Errorf("%s reads %s, which -help-debug does not list", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRelayClock proves that the relay's clock is the machine's unless it is shifted, and that nonsense is refused.
func TestRelayClock(t *testing.T) {
	const knob = "WAVRY_DEBUG_RELAY_CLOCK"
	t.Setenv(knob, "")
	if now, err := relayClock(); now != nil || err != nil {
		t.Error("a clock of its own:", err)
	}
	t.Setenv(knob, "-1h")
	now, err := relayClock()
	if err != nil {
		t.Fatal(err)
	}
	if behind := time.Since(now()); behind < time.Hour || behind > 2*time.Hour {
		t.Errorf("%v behind", behind)
	}
	t.Setenv(knob, "soon")
	if _, err := relayClock(); err == nil || !strings.Contains(err.Error(), knob) {
		t.Errorf("error %v", err)
	}
}
