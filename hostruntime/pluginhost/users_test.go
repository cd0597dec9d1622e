package pluginhost

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestEnviron proves that plugins get what they need and no more: an encoder nothing of the desktop, nobody a token.
func TestEnviron(t *testing.T) {
	all := []string{"PATH=/bin", "LC_TIME=C", "GST_DEBUG=3", "LIBVA_DRIVER_NAME=iHD", "WAVRY_LOG_LEVEL=debug",
		"HOME=/home/a", "WAYLAND_DISPLAY=wayland-1", "DBUS_SESSION_BUS_ADDRESS=unix:path=/b", "XDG_RUNTIME_DIR=/run/user/1", "WAVRY_DESKTOP_KIND=sway",
		"CONSUL_HTTP_TOKEN=s", "NOMAD_TOKEN=s", "VAULT_TOKEN=s", "WAVRY_HOST_CONSUL_TOKEN_SECRET=s", "AWS_SECRET_ACCESS_KEY=s", "LD_PRELOAD=/x.so", "WAVRY_DESKTOP=mark"}
	if got := Environ(RoleEncode, all); !slices.Equal(got, all[:5]) {
		t.Error("encoder:", got)
	}
	if got := Environ(RoleCapture, all); !slices.Equal(got, all[:10]) {
		t.Error("capture:", got)
	}
	if got := Environ(RoleEncode, []string{}); got == nil || len(got) != 0 {
		t.Error("of nothing:", got)
	}
}

// TestForeignTempDir proves that root makes nothing where others could exchange it.
func TestForeignTempDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has something to lose")
	}
	base := shortDir(t)
	inner := filepath.Join(base, "in")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"another's":               func() error { return os.Chown(base, 66000, 66000) },
		"writable for all":        func() error { return errors.Join(os.Chown(base, 0, 0), os.Chmod(base, 0o777)) },
		"writable for some group": func() error { return errors.Join(os.Chown(base, 0, 66000), os.Chmod(base, 0o770)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{base, inner} {
			if d, err := NewTempDir(dir, nil); !errors.Is(err, ErrTempDir) {
				t.Errorf("%s: %v, %v", name, d, err)
			}
		}
		if err := errors.Join(os.Chown(base, 0, 0), os.Chmod(base, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSweepLeavesOthers proves that a directory with our name that is not ours, or a link to one, is left alone, whatever is in it.
func TestSweepLeavesOthers(t *testing.T) {
	base, elsewhere := shortDir(t), shortDir(t)
	old := time.Now().Add(-2 * sweepAge)
	make := func(dir string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, lockName), nil, 0o600), os.Chtimes(dir, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	make(filepath.Join(base, dirPrefix+"ours"))
	make(elsewhere)
	if err := os.Symlink(elsewhere, filepath.Join(base, dirPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	left := []string{dirPrefix + "link"}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(base, dirPrefix+"foreign")
		make(foreign)
		if err := errors.Join(os.Chown(foreign, 66000, 66000), os.Chtimes(foreign, old, old)); err != nil {
			t.Fatal(err)
		}
		left = slices.Insert(left, 0, dirPrefix+"foreign")
	}
	d, err := NewTempDir(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, err := os.ReadDir(base)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || !slices.Equal(names, left) {
		t.Errorf("left %v, want %v: %v", names, left, err)
	}
	if _, err := os.Stat(filepath.Join(elsewhere, lockName)); err != nil {
		t.Error("followed the link:", err)
	}
}
