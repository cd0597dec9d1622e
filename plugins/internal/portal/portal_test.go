package portal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/wavry/fleet/hostruntime/pluginapi"
)

// TestTokensAreKeptPerDisplay proves that each display has its own token, that the newest counts, and that only their owner can read them.
func TestTokensAreKeptPerDisplay(t *testing.T) {
	tokens := Tokens{Dir: filepath.Join(t.TempDir(), "state")}
	for _, display := range []string{"", "a", "../b"} {
		if got, err := tokens.Load(display); got != "" || err != nil {
			t.Errorf("Load(%q) of nothing = %q, %v", display, got, err)
		}
		for _, token := range []string{"first-" + display, "second-" + display} {
			if err := tokens.Save(display, token); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, display := range []string{"", "a", "../b"} {
		if got, err := tokens.Load(display); got != "second-"+display || err != nil {
			t.Errorf("Load(%q) = %q, %v", display, got, err)
		}
	}
	files, err := os.ReadDir(tokens.Dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("files %v, %v; want three and no temporary ones", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(tokens.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
}

// TestTokensWithoutAPlace proves that no directory means no memory, and a spoiled file no token.
func TestTokensWithoutAPlace(t *testing.T) {
	if err := (Tokens{}).Save("d", "t"); err != nil {
		t.Error(err)
	}
	if got, err := (Tokens{}).Load("d"); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	tokens := Tokens{Dir: t.TempDir()}
	if err := os.WriteFile(tokens.file("d"), bytes.Repeat([]byte("x"), maxToken+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tokens.Load("d"); got != "" || err != nil {
		t.Errorf("an overlong token was used: %q, %v", got, err)
	}
	if err := os.Chmod(tokens.Dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		if err := tokens.Save("d", "t"); err == nil {
			t.Error("saving into a read-only directory did not fail")
		}
	}
}

// TestKDEGrantIsWhatQtReads proves the bytes of the QDataStream, as xdg-desktop-portal-kde 5.27 accepted them.
func TestKDEGrantIsWhatQtReads(t *testing.T) {
	want := "\x00\x00\x00\x01" + // entries
		"\x00\x00\x00\x0e\x00o\x00u\x00t\x00p\x00u\x00t\x00s" + // "outputs"
		"\x00\x00\x00\x09\x00" + "\x00\x00\x00\x01" + // QVariantList of one
		"\x00\x00\x00\x0a\x00" + "\x00\x00\x00\x06\x000\x00x\x000" // QString "0x0"
	if got := kdeOutputs("0x0"); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestNewTokenIsAUUID proves the shape, and that two differ.
func TestNewTokenIsAUUID(t *testing.T) {
	a, b := newToken(), newToken()
	if a == b || len(a) != 36 || a[14] != '4' || strings.Count(a, "-") != 4 {
		t.Errorf("tokens %q, %q", a, b)
	}
}

// TestPipeWirePing proves the messages we send, and that only the core's answer to the sync counts.
func TestPipeWirePing(t *testing.T) {
	event := func(id, opcode uint32, body int) []byte {
		b := binary.NativeEndian.AppendUint32(nil, id)
		b = binary.NativeEndian.AppendUint32(b, opcode<<24|uint32(body))
		b = append(b, make([]byte, 8)...)
		return append(b, make([]byte, body)...)
	}
	tests := []struct {
		name   string
		answer []byte
		want   func(error) bool
	}{
		{"done", event(0, 1, 40), func(err error) bool { return err == nil }},
		{"info first", append(event(0, 0, 300), event(0, 1, 40)...), func(err error) bool { return err == nil }},
		{"another object's event", event(2, 1, 8), func(err error) bool { return errors.Is(err, ErrPipeWireGone) }},
		{"end", nil, func(err error) bool { return errors.Is(err, ErrPipeWireGone) }},
		{"cut", event(0, 1, 40)[:20], func(err error) bool { return err != nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := awaitDone(bytes.NewReader(test.answer)); !test.want(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	if got := len(pingMessages()); got != 2*(pipewireHeader+8)+16+32 {
		t.Errorf("%d bytes of questions", got)
	}
}

// TestPipeWireGone proves that the end of the daemon is seen, that ours is not taken for it, and that a refused connection is explained.
func TestPipeWireGone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "pipewire-0")
	p := PipeWireIn(filepath.Dir(socket))
	if _, err := p.Open(); !isUnavailable(err) {
		t.Errorf("Open without a daemon: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for range 2 {
			if c, err := l.Accept(); err == nil {
				accepted <- c
			}
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- p.Gone(ctx) }()
	(<-accepted).Close()
	if err := <-result; !errors.Is(err, ErrPipeWireGone) {
		t.Errorf("after the daemon's end: %v", err)
	}
	go func() { result <- p.Gone(ctx) }()
	c := <-accepted
	defer c.Close()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("after our end: %v", err)
	}
}

func isUnavailable(err error) bool {
	var u *pluginapi.UnavailableError
	return errors.As(err, &u) && u.Reason != "" && u.Remedy != ""
}

// TestConnectExplains proves that a session without a bus is named as such.
func TestConnectExplains(t *testing.T) {
	for _, address := range []string{"", "unix:path=" + filepath.Join(t.TempDir(), "bus")} {
		if _, err := Connect(t.Context(), address); !isUnavailable(err) {
			t.Errorf("Connect(%q): %v", address, err)
		}
	}
}

// TestReadResponse proves what a request's answer may be.
func TestReadResponse(t *testing.T) {
	results := map[string]dbus.Variant{}
	if _, err := readResponse("org.freedesktop.portal.ScreenCast.Start", &dbus.Signal{Body: []any{uint32(0), results}}); err != nil {
		t.Error(err)
	}
	var refused *RefusedError
	_, err := readResponse("org.freedesktop.portal.ScreenCast.Start", &dbus.Signal{Body: []any{uint32(1), results}})
	if !errors.As(err, &refused) || refused.Code != 1 || refused.Request != "ScreenCast.Start" {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := readResponse("x", &dbus.Signal{Body: []any{"what"}}); err == nil || errors.As(err, &refused) {
		t.Errorf("nonsense: %v", err)
	}
}

// TestCastRead proves which streams are understood.
func TestCastRead(t *testing.T) {
	type stream struct {
		Node       uint32
		Properties map[string]dbus.Variant
	}
	good := []stream{{7, map[string]dbus.Variant{"size": dbus.MakeVariantWithSignature([]any{int32(800), int32(600)}, dbus.ParseSignatureMust("(ii)"))}}}
	var c Cast
	err := c.read(map[string]dbus.Variant{"streams": dbus.MakeVariant(good), "restore_token": dbus.MakeVariant("t"), "devices": dbus.MakeVariant(uint32(3))})
	if err != nil || c.Node != 7 || c.Width != 800 || c.Height != 600 || c.Token != "t" || c.Devices != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	for name, results := range map[string]map[string]dbus.Variant{
		"none": {}, "empty": {"streams": dbus.MakeVariant([]stream{})}, "nonsense": {"streams": dbus.MakeVariant("x")},
	} {
		if err := new(Cast).read(results); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAnswered proves that silence is a wedge and every answer, a refusal too, is not.
func TestAnswered(t *testing.T) {
	tests := []struct {
		name string
		ping func(context.Context) error
		want bool
	}{
		{"answer", func(context.Context) error { return nil }, true},
		{"refusal", func(context.Context) error { return dbus.Error{Name: "org.freedesktop.DBus.Error.UnknownMethod"} }, true},
		{"closed", func(context.Context) error { return io.EOF }, true},
		{"silence", func(context.Context) error { return context.DeadlineExceeded }, false},
		{"silence of a socket", func(context.Context) error { return os.ErrDeadlineExceeded }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := answered(t.Context(), test.ping); got != test.want {
				t.Errorf("answered %v, want %v", got, test.want)
			}
		})
	}
	if watchEvery+watchTimeout >= 2*time.Second {
		t.Error("a wedge is not found within two seconds")
	}
}
