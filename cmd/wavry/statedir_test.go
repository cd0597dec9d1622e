package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/wavry/fleet/hostruntime/asroot"
)

// TestStateDirIsRootsAlone proves that `wavry host` and `wavry dev` as root, perhaps by sudo with a person's HOME, write no keys where
// somebody else can put a link.
func TestStateDirIsRootsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be led to where others may not write")
	}
	theirs := t.TempDir()
	cfg := devConfig()
	cfg.StateDir = filepath.Join(theirs, "state")
	if _, err := cfg.settings(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, 60999, 60999); err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.settings(); !errors.As(err, new(*asroot.UntrustedPathError)) {
		t.Errorf("a stranger's state directory: %v", err)
	}
	if _, err := newDevFleet(cfg, nil, nil, nil, false); !errors.As(err, new(*asroot.UntrustedPathError)) {
		t.Errorf("dev in a stranger's state directory: %v", err)
	}
}
