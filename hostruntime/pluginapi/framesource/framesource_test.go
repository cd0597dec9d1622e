package framesource

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
)

// TestFrames proves the ordinary exchange: register, frame, release, forget, end.
func TestFrames(t *testing.T) {
	sink, source := pair(t)
	if source.Kind() != KindFrames {
		t.Fatal(source.Kind())
	}
	b := buffer(t, 5)
	want := Frame{Buffer: 5, Sequence: 9, CaptureTime: media.Now(), Repeat: true}
	if err := errors.Join(sink.Register(b), sink.Send(want), sink.Forget(5)); err != nil {
		t.Fatal(err)
	}
	added, err := next(t, source)
	if err != nil || added.Added == nil || added.Added.Layout.Width != 64 {
		t.Fatal(added, err)
	}
	defer added.Added.File.Close()
	if _, err := b.File.WriteAt([]byte("picture"), 0); err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 7)
	if _, err := added.Added.File.ReadAt(content, 0); err != nil || string(content) != "picture" {
		t.Fatalf("the memory is not shared: %q, %v", content, err)
	}
	if e, err := next(t, source); err != nil || e.Frame == nil || *e.Frame != want {
		t.Fatal(e, err)
	}
	if err := source.Release(5); err != nil {
		t.Fatal(err)
	}
	if ids := collect(sink, 1); ids[0] != 5 {
		t.Fatal(ids)
	}
	if e, err := next(t, source); err != nil || e.Forgot == nil || *e.Forgot != 5 {
		t.Fatal(e, err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	<-sink.Done()
	if sink.Err() != nil {
		t.Fatal("an orderly end is an error:", sink.Err())
	}
	if err := sink.Send(want); err == nil {
		t.Fatal("a frame into nothing is accepted")
	}
}

// TestPipeWire proves that a remote and its node arrive, then another one, and that the source tells when the capturer is gone.
func TestPipeWire(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	remote, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	sinks := make(chan *Sink, 1)
	go func() {
		s, err := l.AcceptPipeWire(func() (Node, error) { return Node{Remote: remote, ID: 42, Width: 800, Height: 600}, nil })
		if err != nil {
			t.Error(err)
		}
		sinks <- s
	}()
	source := dial(t, path)
	got := source.PipeWire()
	defer got.Remote.Close()
	if source.Kind() != KindPipeWire || got.ID != 42 || got.Width != 800 || got.Height != 600 || got.Remote == nil {
		t.Fatal(source.Kind(), got)
	}
	if again := source.PipeWire().Remote; again != nil {
		t.Fatal("the remote was handed out twice")
	}
	if _, err := got.Remote.Write([]byte("x")); err != nil {
		t.Fatal("not the socket that was sent:", err)
	}
	sink := <-sinks
	if err := sink.Replace(Node{Remote: theirs, ID: 43, Width: 640, Height: 480}); err != nil {
		t.Fatal(err)
	}
	e, err := next(t, source)
	if err != nil || e.Node == nil || e.Node.ID != 43 || e.Node.Width != 640 || e.Node.Height != 480 {
		t.Fatal(e, err)
	}
	_ = e.Node.Remote.Close()
	_ = sink.Close()
	if _, err := next(t, source); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	<-sink.Done()
}

func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b"), nil
}

// raw connects a bare packet socket to a Source's or Sink's other end.
func raw(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// capturer is a listener that says what it is told and nothing else.
func capturer(t *testing.T, say func(*net.UnixConn)) string {
	t.Helper()
	path := socketPath(t)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		say(c)
		_, _ = c.Read(make([]byte, 1)) // until the encoder leaves
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return path
}

func write(t *testing.T, c *net.UnixConn, msg []byte, files ...*os.File) {
	t.Helper()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(msg, oob, nil); err != nil {
		t.Error(err)
	}
}

// TestBadCapturer proves that an encoder survives everything a broken capturer can send, names it, and keeps no descriptor.
func TestBadCapturer(t *testing.T) {
	greet := appendHello(nil, hello{version: Version, kind: KindFrames}, Node{})
	good := buffer(t, 1)
	registration := appendBuffer(nil, good)
	socket, peer, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	defer peer.Close()
	pipe, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer writer.Close()
	for _, c := range []struct {
		name string
		say  func(*net.UnixConn)
		want string
	}{
		{"says nothing and leaves", func(c *net.UnixConn) { _ = c.CloseWrite() }, "EOF"},
		{"another version", func(c *net.UnixConn) { write(t, c, []byte{typeHello, 9, byte(KindFrames), 0, 0, 0, 0}) }, "version mismatch: capture plugin has 9"},
		{"an unknown kind", func(c *net.UnixConn) { write(t, c, appendHello(nil, hello{version: Version, kind: 7}, Node{})) }, "unknown kind 7"},
		{"no hello", func(c *net.UnixConn) { write(t, c, appendID(nil, typeForget, 1)) }, "must be HELLO"},
		{"PipeWire without a descriptor", func(c *net.UnixConn) {
			write(t, c, appendHello(nil, hello{version: Version, kind: KindPipeWire}, Node{}))
		}, "0 descriptors, want 1"},
		{"PipeWire with a pipe", func(c *net.UnixConn) {
			write(t, c, appendHello(nil, hello{version: Version, kind: KindPipeWire}, Node{}), pipe)
		}, "not a socket"},
		{"a node of a frame socket", func(c *net.UnixConn) { write(t, c, greet); write(t, c, appendNode(nil, Node{}), socket) }, "a node of a frame socket"},
		{"a node that is no socket", func(c *net.UnixConn) { write(t, c, appendNode(nil, Node{}), pipe) }, "not a socket"},
		{"an absurd size", func(c *net.UnixConn) { write(t, c, appendNode(nil, Node{Width: MaxDimension + 1}), socket) }, "above"},
		{"hello with a descriptor too many", func(c *net.UnixConn) { write(t, c, greet, pipe) }, "1 descriptors, want 0"},
		{"buffer without a descriptor", func(c *net.UnixConn) { write(t, c, greet); write(t, c, registration) }, "0 descriptors, want 1"},
		{"buffer with two", func(c *net.UnixConn) { write(t, c, greet); write(t, c, registration, good.File, good.File) }, "2 descriptors, want 1"},
		{"buffer with very many", func(c *net.UnixConn) {
			write(t, c, greet)
			write(t, c, registration, slices.Repeat([]*os.File{good.File}, 50)...)
		}, "more descriptors"},
		{"buffer that is a pipe", func(c *net.UnixConn) { write(t, c, greet); write(t, c, registration, pipe) }, "not a memfd"},
		{"buffer that may shrink", func(c *net.UnixConn) { write(t, c, greet); write(t, c, registration, memory(t, good.Size, 0)) }, "not sealed"},
		{"buffer that is too short", func(c *net.UnixConn) {
			write(t, c, greet)
			write(t, c, registration, memory(t, good.Size-1, unix.F_SEAL_SHRINK))
		}, "8191 bytes, 8192 announced"},
		{"shared memory as DMA-BUF", func(c *net.UnixConn) {
			b := good
			b.Memory = MemoryDMABuf
			write(t, c, greet)
			write(t, c, appendBuffer(nil, b), good.File)
		}, "not a DMA-BUF"},
		{"frame in an unknown buffer", func(c *net.UnixConn) { write(t, c, greet); write(t, c, appendFrame(nil, Frame{Buffer: 3})) }, "unknown buffer"},
		{"unknown buffer forgotten", func(c *net.UnixConn) { write(t, c, greet); write(t, c, appendID(nil, typeForget, 3)) }, "unknown buffer forgotten"},
		{"a release", func(c *net.UnixConn) { write(t, c, greet); write(t, c, appendID(nil, typeRelease, 3)) }, "does not send this"},
		{"an unknown type", func(c *net.UnixConn) { write(t, c, greet); write(t, c, []byte{200, 1}) }, "unknown type"},
		{"noise", func(c *net.UnixConn) { write(t, c, greet); write(t, c, []byte(strings.Repeat("x", 5000))) }, "unknown type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := descriptors(t)
			path := capturer(t, c.say)
			err := conversation(t, path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if after := descriptors(t); after > before+3 { // listener, accepted connection, ours until Cleanup
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// conversation is an encoder that reads until it fails.
func conversation(t *testing.T, path string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := Dial(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		e, err := next(t, s)
		if err != nil {
			return err
		}
		if e.Added != nil {
			_ = e.Added.File.Close()
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestTooManyBuffers proves the bound on registrations, at it and above it, and that an id is taken once.
func TestTooManyBuffers(t *testing.T) {
	sink, source := pair(t)
	for id := range uint32(MaxBuffers + 1) {
		if err := sink.Register(buffer(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	for range MaxBuffers {
		e, err := next(t, source)
		if err != nil {
			t.Fatal(err)
		}
		_ = e.Added.File.Close()
	}
	if _, err := next(t, source); err == nil || !strings.Contains(err.Error(), "more than 8 buffers") {
		t.Fatal(err)
	}
	sink, source = pair(t)
	if err := errors.Join(sink.Register(buffer(t, 1)), sink.Register(buffer(t, 1))); err != nil {
		t.Fatal(err)
	}
	e, err := next(t, source)
	if err != nil {
		t.Fatal(err)
	}
	_ = e.Added.File.Close()
	if _, err := next(t, source); err == nil || !strings.Contains(err.Error(), "registered twice") {
		t.Fatal(err)
	}
}

// TestBadEncoder proves that a capturer survives a broken encoder and says what was wrong.
func TestBadEncoder(t *testing.T) {
	for name, c := range map[string]struct {
		msg  []byte
		n    int
		want string
	}{
		"sends a frame":     {appendFrame(nil, Frame{}), 1, "sends only RELEASE"},
		"sends noise":       {[]byte("noise"), 1, "unknown type"},
		"releases too much": {appendID(nil, typeRelease, 1), 2, "more buffers than it was given"},
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			conn := raw(t, path)
			sink, err := l.AcceptFrames()
			if err != nil {
				t.Fatal(err)
			}
			if err := sink.Send(Frame{}); err != nil {
				t.Fatal(err)
			}
			for range c.n {
				write(t, conn, c.msg)
			}
			<-sink.Ready()
			sink.Collect(func(uint32) {})
			<-sink.Done()
			if err := sink.Err(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestNoPath proves that an empty path is refused, not turned into a socket that every user may open.
func TestNoPath(t *testing.T) {
	if _, err := Listen(""); !errors.Is(err, ErrNoPath) {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), ""); !errors.Is(err, ErrNoPath) {
		t.Error(err)
	}
}

// TestDialEnds proves that an encoder does not wait for ever for a capturer that accepts and is silent.
func TestDialEnds(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, path); err == nil {
		t.Fatal("connected to nobody")
	}
}

// TestAllocations proves that a frame costs no allocation from Send to Release.
func TestAllocations(t *testing.T) {
	sink, source := pair(t)
	if err := sink.Register(buffer(t, 1)); err != nil {
		t.Fatal(err)
	}
	e, err := next(t, source)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Added.File.Close()
	frame := Frame{Buffer: 1}
	n := testing.AllocsPerRun(200, func() {
		frame.Sequence++
		if err := sink.Send(frame); err != nil {
			t.Fatal(err)
		}
		e, err := source.Next()
		if err != nil || e.Frame.Sequence != frame.Sequence {
			t.Fatal(e, err)
		}
		if err := source.Release(e.Frame.Buffer); err != nil {
			t.Fatal(err)
		}
		if ids := collect(sink, 1); len(ids) != 1 {
			t.Fatal(ids)
		}
	})
	if n != 0 {
		t.Fatal(n, "allocations per frame")
	}
}

// BenchmarkHandOff measures a frame's way from the capturer to the encoder at 60 fps, as CLOCK_MONOTONIC sees it.
// Run it for a fixed number of frames: go test -bench HandOff -benchtime 600x
func BenchmarkHandOff(b *testing.B) {
	sink, source := pair(b)
	if err := sink.Register(buffer(b, 1)); err != nil {
		b.Fatal(err)
	}
	e, err := source.Next()
	if err != nil {
		b.Fatal(err)
	}
	defer e.Added.File.Close()
	took := make([]time.Duration, 0, b.N)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	wg.Go(func() {
		for range b.N {
			e, err := source.Next()
			if err != nil {
				b.Error(err)
				return
			}
			took = append(took, media.Now().Sub(e.Frame.CaptureTime))
			if err := source.Release(e.Frame.Buffer); err != nil {
				b.Error(err)
			}
		}
	})
	tick := time.NewTicker(time.Second / 60)
	defer tick.Stop()
	for range b.N {
		<-tick.C
		if err := sink.Send(Frame{Buffer: 1, CaptureTime: media.Now()}); err != nil {
			b.Fatal(err)
		}
		<-sink.Ready()
		sink.Collect(func(uint32) {})
	}
	wg.Wait()
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) }
	b.ReportMetric(at(.5), "p50-us")
	b.ReportMetric(at(.95), "p95-us")
	b.ReportMetric(at(.99), "p99-us")
}
