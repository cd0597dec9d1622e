//go:build integration

package portal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// startBus runs a private dbus-daemon and returns its address.
func startBus(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	dir := t.TempDir()
	address := "unix:path=" + filepath.Join(dir, "bus")
	config := `<busconfig><type>session</type><listen>` + address + `</listen><policy context="default">` +
		`<allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	path := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--config-file="+path, "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := dbus.Connect(address); err == nil {
			_ = c.Close()
			return address
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("dbus-daemon does not answer")
		}
	}
}

// fakePortal answers as a portal might; misbehaviour is configuration.
type fakePortal struct {
	conn    *dbus.Conn
	answers map[string]uint32 // response code by method; missing: 0
	silent  map[string]bool   // methods that never answer: a dialog
	seen    chan string       // methods called, with their restore token
	session dbus.ObjectPath
}

func startPortal(t *testing.T, address string, version uint32, f *fakePortal) {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	f.conn, f.seen, f.session = conn, make(chan string, 32), "/org/freedesktop/portal/desktop/session/fake"
	methods := map[string]any{"CreateSession": f.create, "SelectSources": f.choose, "Start": f.start}
	if err := conn.ExportMethodTable(methods, Path, ScreenCast); err != nil {
		t.Fatal(err)
	}
	properties := prop.Map{ScreenCast: {"version": {Value: version}}}
	if _, err := prop.Export(conn, Path, properties); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName(Service, 0); err != nil {
		t.Fatal(err)
	}
}

func (f *fakePortal) answer(m string, sender dbus.Sender, options, results map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	restore, _ := options["restore_token"].Value().(string)
	f.seen <- m + restore
	token, _ := options["handle_token"].Value().(string)
	path := dbus.ObjectPath(fmt.Sprintf("%s/request/%s/%s", Path, strings.ReplaceAll(string(sender)[1:], ".", "_"), token))
	if !f.silent[m] {
		_ = f.conn.Emit(path, "org.freedesktop.portal.Request.Response", f.answers[m], results)
	}
	return path, nil
}

func (f *fakePortal) create(sender dbus.Sender, options map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	return f.answer("CreateSession", sender, options, map[string]dbus.Variant{"session_handle": dbus.MakeVariant(string(f.session))})
}

func (f *fakePortal) choose(sender dbus.Sender, _ dbus.ObjectPath, options map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	return f.answer("SelectSources", sender, options, nil)
}

func (f *fakePortal) start(sender dbus.Sender, _ dbus.ObjectPath, _ string, options map[string]dbus.Variant) (dbus.ObjectPath, *dbus.Error) {
	type stream struct {
		Node       uint32
		Properties map[string]dbus.Variant
	}
	size := map[string]dbus.Variant{"size": dbus.MakeVariant(struct{ Width, Height int32 }{800, 600})}
	return f.answer("Start", sender, options, map[string]dbus.Variant{
		"streams": dbus.MakeVariant([]stream{{42, size}}), "restore_token": dbus.MakeVariant("next"),
	})
}

func connectFake(t *testing.T, version uint32, f *fakePortal) *Bus {
	t.Helper()
	address := startBus(t)
	startPortal(t, address, version, f)
	bus, err := Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	return bus
}

// TestCast proves the course of a cast over a real bus: the token is presented, the stream is read, the next token comes back.
func TestCast(t *testing.T) {
	f := &fakePortal{}
	p := NewPortal(connectFake(t, 4, f), 5*time.Second)
	if v, err := p.Version(t.Context(), ScreenCast); v != 4 || err != nil {
		t.Fatalf("version %d, %v", v, err)
	}
	if v, err := p.Version(t.Context(), RemoteDesktop); v != 0 || err != nil {
		t.Fatalf("an interface without a backend: version %d, %v", v, err)
	}
	c, err := p.Cast(t.Context(), CastOptions{Sources: SourceMonitor, Token: "mine", CastVersion: 4})
	if err != nil || c.Node != 42 || c.Width != 800 || c.Height != 600 || c.Token != "next" || c.Session != f.session {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, want := range []string{"CreateSession", "SelectSourcesmine", "Start"} {
		if got := <-f.seen; got != want {
			t.Errorf("portal saw %q, want %q", got, want)
		}
	}
}

// TestCastFailures proves that a refusal, a cancelled dialog and an unanswered one are told apart.
func TestCastFailures(t *testing.T) {
	tests := []struct {
		name string
		fake *fakePortal
		want func(error) bool
	}{
		{"cancelled", &fakePortal{answers: map[string]uint32{"Start": 1}}, refusedWith(1)},
		{"failed", &fakePortal{answers: map[string]uint32{"SelectSources": 2}}, refusedWith(2)},
		{"dialog", &fakePortal{silent: map[string]bool{"Start": true}}, func(err error) bool { return errors.Is(err, ErrDialog) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := NewPortal(connectFake(t, 4, test.fake), 300*time.Millisecond)
			if _, err := p.Cast(t.Context(), CastOptions{Sources: SourceMonitor, CastVersion: 4}); !test.want(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func refusedWith(code uint32) func(error) bool {
	return func(err error) bool {
		var r *RefusedError
		return errors.As(err, &r) && r.Code == code
	}
}

// TestWatchSeesEachEnd proves that a closed session, a service that leaves, and our own end are told apart.
func TestWatchSeesEachEnd(t *testing.T) {
	tests := []struct {
		name string
		act  func(f *fakePortal, cancel func()) error
		want string // in the error; empty: none
	}{
		{"closed", func(f *fakePortal, _ func()) error { return f.conn.Emit(f.session, Closed) }, "closed the capture session"},
		{"left", func(f *fakePortal, _ func()) error { return f.conn.Close() }, "the portal left the session bus"},
		{"ours", func(_ *fakePortal, cancel func()) error { cancel(); return nil }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &fakePortal{}
			bus := connectFake(t, 4, f)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			w := &Watch{Bus: bus, Peers: []Peer{{Service, "the portal"}}, Closed: map[dbus.ObjectPath]string{f.session: Closed}}
			if err := errors.Join(w.Subscribe(ctx), bus.Match(ctx, f.session, sessionIface, "Closed")); err != nil {
				t.Fatal(err)
			}
			result := make(chan error)
			go func() { result <- w.Run(ctx) }()
			if err := test.act(f, cancel); err != nil {
				t.Fatal(err)
			}
			err := <-result
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
