package framesource

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connected sink and source.
func pair(t testing.TB) (*Sink, *Source) {
	t.Helper()
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sinks := make(chan *Sink, 1)
	go func() {
		s, err := l.AcceptFrames()
		if err != nil {
			t.Error(err)
		}
		sinks <- s
	}()
	source := dial(t, path)
	sink := <-sinks
	t.Cleanup(func() { _ = sink.Close(); <-sink.Done() })
	return sink, source
}

func dial(t testing.TB, path string) *Source {
	t.Helper()
	s, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// socketPath is short enough for a socket; t.TempDir contains the test's name.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// memory is a memfd of size bytes.
func memory(t testing.TB, size int64, seals int) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); seals != 0 && err != nil {
		t.Fatal(err)
	}
	return f
}

// buffer is a valid buffer of 64x32.
func buffer(t testing.TB, id uint32) Buffer {
	t.Helper()
	return Buffer{ID: id, Memory: MemoryShared, Size: 64 * 32 * 4, File: memory(t, 64*32*4, unix.F_SEAL_SHRINK),
		Layout: media.Layout{Width: 64, Height: 32, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 64 * 4}}}}
}

// next fails the test when nothing comes in time.
func next(t testing.TB, s *Source) (Event, error) {
	t.Helper()
	stop := time.AfterFunc(5*time.Second, func() { _ = s.Close() })
	defer stop.Stop()
	return s.Next()
}

// collect waits for n releases.
func collect(s *Sink, n int) []uint32 {
	collected = collected[:0]
	for len(collected) < n {
		<-s.Ready()
		s.Collect(note)
	}
	return collected
}

// collected is what note was told; both are variables so that collect allocates nothing.
var (
	collected []uint32
	note      = func(id uint32) { collected = append(collected, id) }
)
