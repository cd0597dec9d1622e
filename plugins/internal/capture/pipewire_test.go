package capture

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/pluginapi/framesource"
)

// An encoder is told the size to ask for when it connects and when it changes, each time with a connection of its own, and so is the next.
func TestPipeWireSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	l, err := framesource.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &PipeWire{Node: 42, Open: func() (*os.File, error) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return os.NewFile(uintptr(fd), "remote"), err
	}}
	if err := p.Ask(Size{800, 600}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	s := dialSource(t, path)
	wantNode(t, s.PipeWire(), Size{800, 600})
	// The size may change before Serve knows of the encoder; then it comes all the same.
	if err := p.Ask(Size{1024, 768}); err != nil {
		t.Fatal(err)
	}
	e, err := s.Next()
	if err != nil || e.Node == nil {
		t.Fatal(e, err)
	}
	wantNode(t, *e.Node, Size{1024, 768})
	_ = s.Close()
	s = dialSource(t, path)
	wantNode(t, s.PipeWire(), Size{1024, 768})
	cancel()
	_ = l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := s.Next(); err == nil {
		t.Error("the encoder is not told of the end")
	}
}

func dialSource(t *testing.T, path string) *framesource.Source {
	t.Helper()
	s, err := framesource.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wantNode(t *testing.T, n framesource.Node, size Size) {
	t.Helper()
	if n.ID != 42 || n.Width != size.Width || n.Height != size.Height || n.Remote == nil {
		t.Fatalf("%+v, want %v", n, size)
	}
	_ = n.Remote.Close()
}
