package desktop

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNewRefuses proves that each bad configuration is refused before anything is started, in words that say what to do.
func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"unknown kind", Config{Kind: "xfce"}, `"xfce": must be gnome, kde or sway`},
		{"no kind", Config{}, "must be gnome, kde or sway"},
		{"too small", Config{Kind: Sway, Size: Size{318, 240}}, "must be between 320x240 and 7680x4320"},
		{"too large", Config{Kind: Sway, Size: Size{7682, 4320}}, "must be between"},
		{"odd", Config{Kind: Sway, Size: Size{1281, 720}}, "must be even"},
		{"root", Config{Kind: Sway, User: &User{0, 0}}, "does not run as root"},
		{"root's group", Config{Kind: Sway, User: &User{65534, 0}}, "does not run as root"},
		{"relative state directory", Config{Kind: Sway, StateDir: "state"}, "must be an absolute path"},
		{"state directory with a blank", Config{Kind: Sway, StateDir: "/a b"}, "must be an absolute path of letters"},
		{"long state directory", Config{Kind: Sway, StateDir: "/" + strings.Repeat("x", MaxStateDir)}, "leave room for socket names"},
		{"empty app", Config{Kind: Sway, Apps: [][]string{{"foot"}, {}}}, "app 2: the command is empty"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestNewReportsAllProblems proves that nobody has to fix one to see the next.
func TestNewReportsAllProblems(t *testing.T) {
	_, err := New(Config{Kind: "x", Size: Size{1, 1}, StateDir: "y"})
	for _, want := range []string{"desktop kind", "size 1x1", "state directory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

// TestMissingBinaryNamesItsPackage proves that a person learns what to install, for every missing program at once.
func TestMissingBinaryNamesItsPackage(t *testing.T) {
	err := checkBinaries([]program{{"wavry-no-such-compositor", "compositor"}, {"/nowhere/lib.so", "lib"}})
	var missing *MissingBinaryError
	if !errors.As(err, &missing) || missing.Package != "compositor" {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"apt-get install compositor", "lib.so is not installed: apt-get install lib"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

// TestParseSize proves the accepted form and its limits.
func TestParseSize(t *testing.T) {
	tests := map[string]Size{"1280x720": {1280, 720}, "320x240": MinSize, "7680x4320": MaxSize}
	for text, want := range tests {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1280", "1280x", "x720", "1280X720", "1280x720x3", "-2x4", "1280x721", "319x240", "9e3x720"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", text, got)
		}
	}
}

// TestEffectiveUser proves who a desktop runs as.
func TestEffectiveUser(t *testing.T) {
	tests := []struct {
		name      string
		want      *User
		euid      int
		user      User
		wantError bool
	}{
		{"others to themselves", nil, 1000, User{1000, 1001}, false},
		{"root may be anyone", &User{5, 6}, 0, User{5, 6}, false},
		{"but not root", &User{0, 6}, 0, User{0, 6}, true},
		{"others may not be anyone else", &User{5, 6}, 1000, User{5, 6}, true},
		{"but themselves", &User{1000, 6}, 1000, User{1000, 6}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := effectiveUser(test.want, test.euid, 1001)
			if *got != test.user || (err != nil) != test.wantError {
				t.Errorf("%v, %v; want %v, error %v", *got, err, test.user, test.wantError)
			}
		})
	}
}

// TestRootsUserIsChosenLater proves that root's desktop has no user before it can be locked.
func TestRootsUserIsChosenLater(t *testing.T) {
	if got, err := effectiveUser(nil, 0, 0); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestEnvironmentLeaksNothing proves that the caller's session and secrets do not reach the desktop, and that clients which shall
// outlive it are not marked.
func TestEnvironmentLeaksNothing(t *testing.T) {
	t.Setenv("WAYLAND_DISPLAY", "wayland-of-the-caller")
	t.Setenv("SECRET_TOKEN", "hunter2")
	t.Setenv("XKB_DEFAULT_LAYOUT", "de") // what the person who starts a desktop types with
	d := &Desktop{id: "0123456789abcdef", cfg: Config{Kind: Sway, User: &Nobody}, recipe: recipes[Sway], places: placesIn("/s")}
	env := d.Environ()
	for _, kv := range env {
		if strings.Contains(kv, "caller") || strings.Contains(kv, "hunter2") {
			t.Errorf("leaked %s", kv)
		}
	}
	for _, want := range []string{"WAYLAND_DISPLAY=wayland-1", "XDG_RUNTIME_DIR=/s/run", "DBUS_SESSION_BUS_ADDRESS=unix:path=/s/run/bus",
		"XDG_CURRENT_DESKTOP=sway", "WAVRY_DESKTOP=0123456789abcdef", "WAVRY_DESKTOP_KIND=sway",
		"XKB_DEFAULT_LAYOUT=de"} {
		if !slices.Contains(env, want) {
			t.Errorf("environment lacks %s", want)
		}
	}
	if slices.ContainsFunc(d.ClientEnviron(), func(kv string) bool { return strings.HasPrefix(kv, markerVar+"=") }) {
		t.Error("a client is marked as part of the desktop")
	}
}

// TestStateDirIsExclusive proves that a second desktop is refused and that the directory is free again after the first.
func TestStateDirIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lockFile(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFile(path, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("second lock: %v, want ErrBusy", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockFile(path, 0)
	if err != nil {
		t.Fatalf("lock after the first was released: %v", err)
	}
	_ = again.Close()
}

// TestBackoff proves doubling, the ceiling and the reset.
func TestBackoff(t *testing.T) {
	b := backoff{first: 1, max: 5}
	for i, want := range []time.Duration{1, 2, 4, 5, 5} {
		if got := b.next(); got != want {
			t.Errorf("delay %d is %d, want %d", i, got, want)
		}
	}
	b.reset()
	if got := b.next(); got != 1 {
		t.Errorf("after reset %d, want 1", got)
	}
}

// TestTailKeepsTheLastLines proves the bound.
func TestTailKeepsTheLastLines(t *testing.T) {
	var tl tail
	for i := range tailLines + 3 {
		tl.add(string(rune('a' + i)))
	}
	if got := tl.lines(); len(got) != tailLines || got[0] != "d" {
		t.Errorf("tail %v", got)
	}
}

// TestWaylandRoundtrip proves that only an answer to the sync counts, and that silence ends with the context.
func TestWaylandRoundtrip(t *testing.T) {
	message := func(object, opcode uint32, words ...uint32) []byte {
		b := binary.NativeEndian.AppendUint32(nil, object)
		b = binary.NativeEndian.AppendUint32(b, uint32(8+4*len(words))<<16|opcode)
		for _, w := range words {
			b = binary.NativeEndian.AppendUint32(b, w)
		}
		return b
	}
	tests := []struct {
		name   string
		answer []byte
		close  bool
		ok     bool
	}{
		{"done", message(2, 0, 7), false, true},
		{"other events first", append(message(9, 3, 1, 2, 3), message(2, 0, 7)...), false, true},
		{"error", message(1, 0, 1, 2), false, false},
		{"end", nil, true, false},
		{"cut header", message(2, 0, 7)[:5], true, false},
		{"silence", nil, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "w")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = c.Write(test.answer)
				if !test.close {
					<-ctx.Done()
				}
			}()
			if err := waylandRoundtrip(ctx, socket); (err == nil) != test.ok {
				t.Errorf("error %v, want success %v", err, test.ok)
			}
			cancel()
		})
	}
}

// TestUnreachableStateDirIsExplained proves that root learns which directory the desktop's user may not enter.
func TestUnreachableStateDirIsExplained(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs desktops as someone else")
	}
	dir := filepath.Join(t.TempDir(), "closed", "state")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	err := checkReachable(dir, Nobody)
	if err == nil || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("error %v", err)
	}
}
