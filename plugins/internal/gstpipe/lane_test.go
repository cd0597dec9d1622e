package gstpipe

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi/pluginpb"
	"github.com/wavry/fleet/hostruntime/pluginapi/unitsocket"
)

// pairOf is a connected pair of unix sockets, the caller's to close. Both are in blocking mode and fail a read after a while.
func pairOf(t *testing.T, kind int) (ours, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
			t.Fatal(err)
		}
	}
	return fds[0], fds[1]
}

// carried is a lane between a frame socket and a socket for units.
type carried struct {
	t        *testing.T
	lane     *Lane
	buffers  *Buffers
	pipeline *Pipeline
	layout   media.Layout
	began    media.Time
	frames   int // the capturer's end of the frame socket
	socket   int // ours
	units    int
	host     net.Conn // the host runtime's end of units
	read     chan Message
}

const side, bufferCount = 64, 3

func carry(t *testing.T) *carried {
	t.Helper()
	c := &carried{t: t, layout: media.Layout{Width: side, Height: side, Format: media.FormatXRGB8888, Planes: []media.Plane{{Stride: 4 * side}}}}
	var theirs int
	c.frames, c.socket = pairOf(t, unix.SOCK_SEQPACKET)
	c.units, theirs = pairOf(t, unix.SOCK_STREAM)
	host := os.NewFile(uintptr(theirs), "host")
	var err error
	if c.host, err = net.FileConn(host); err != nil {
		t.Fatal(err)
	}
	_ = host.Close()
	t.Cleanup(func() { _ = c.host.Close() })
	if err := c.host.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if c.lane, err = NewLane(); err != nil {
		t.Fatal(err)
	}
	c.buffers = NewBuffers(c.socket)
	for id := range uint32(bufferCount) {
		fd, err := unix.MemfdCreate("picture", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "picture")
		if err := f.Truncate(4 * side * side); err != nil {
			t.Fatal(err)
		}
		if err := c.buffers.Add(id, f, 4*side*side, false, c.layout); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	c.pipeline, err = Build("encode", []Element{
		Source("video/x-raw, format=(string)BGRx, width=(int)64, height=(int)64, framerate=(fraction)60/1"), {Factory: "videoconvert"},
		{Factory: "x264enc", Props: []Prop{P("tune", "zerolatency"), P("speed-preset", "ultrafast")}},
		Caps("video/x-h264, stream-format=(string)byte-stream, alignment=(string)au"), Sink(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.lane.CarryUnits(c.pipeline)
	if err := c.pipeline.Start(time.Second, false); err != nil {
		t.Fatal(err)
	}
	c.began = media.Now()
	c.read = make(chan Message)
	go func() { // ends when the socket is shut down
		defer close(c.read)
		for {
			m, err := c.buffers.Read(c.lane)
			if err != nil || (!m.Frame.Picture.Valid() && len(m.Packet) == 0) {
				return
			}
			c.read <- m
		}
	}()
	t.Cleanup(func() {
		c.pipeline.Close()
		_ = unix.Shutdown(c.socket, unix.SHUT_RDWR)
		for range c.read { // until the reader has returned
		}
		c.buffers.Close()
		c.lane.Close()
		for _, fd := range []int{c.frames, c.socket, c.units} {
			_ = unix.Close(fd)
		}
	})
	return c
}

// frame sends a FRAME message.
func (c *carried) frame(id uint32, capture media.Time) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32([]byte{4}, id)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(capture))
	if _, err := unix.Write(c.frames, append(b, 0)); err != nil {
		c.t.Fatal(err)
	}
}

// message is what the lane left to Go.
func (c *carried) message() Message {
	c.t.Helper()
	select {
	case m := <-c.read:
		return m
	case <-time.After(10 * time.Second):
		c.t.Fatal("the lane kept what is not for it")
		return Message{}
	}
}

// nudged waits until the lane wants to be taken back.
func (c *carried) nudged(why string) {
	c.t.Helper()
	select {
	case <-c.lane.Nudged():
	case <-time.After(10 * time.Second):
		c.t.Fatalf("nobody was told that %s", why)
	}
}

// released is the next buffer that was given back.
func (c *carried) released() uint32 {
	c.t.Helper()
	b := make([]byte, 64)
	if n, err := unix.Read(c.frames, b); err != nil || n != 5 || b[0] != 5 {
		c.t.Fatalf("no release but % x, %v", b[:max(n, 0)], err)
	}
	return binary.BigEndian.Uint32(b[1:])
}

func (c *carried) unit() *pluginpb.AccessUnit {
	c.t.Helper()
	u, err := unitsocket.Read(c.host)
	if err != nil {
		c.t.Fatal(err)
	}
	return u
}

// first sends a picture the way through Go, so that the chain has begun, and lends the lane.
func (c *carried) first() {
	c.t.Helper()
	c.frame(0, c.began)
	f := c.message().Frame
	if err := c.pipeline.Push(&f.Picture, 0, time.Second/60); err != nil {
		c.t.Fatal(err)
	}
	if u, err := c.pipeline.PullUnit(10 * time.Second); err != nil || !u.Key {
		c.t.Fatalf("first unit: key %v, %v", u.Key, err)
	}
	c.lend(Turn{Last: f, Next: 7})
}

func (c *carried) lend(turn Turn) {
	c.t.Helper()
	terms := &Terms{
		Pipeline: c.pipeline, Layout: c.layout, Base: c.began, Duration: time.Second / 60, Oldest: time.Minute,
		Buffers: c.buffers, Units: c.units, Codec: media.CodecH264,
	}
	if !c.lane.Lend(terms, &turn) {
		c.t.Fatal("the lane is not lent")
	}
}

// Lent, the lane brings ordinary pictures to the host runtime by itself: units in order with the right headers, and every buffer back when
// the next picture has come.
func TestLaneCarries(t *testing.T) {
	c := carry(t)
	c.first()
	const n = 20
	for i := range uint32(n) {
		before := media.Now()
		c.frame((i+1)%bufferCount, before)
		if id := c.released(); id != i%bufferCount {
			t.Fatalf("buffer %d came back for picture %d", id, i)
		}
		u := c.unit()
		if u.Sequence != 7+uint64(i) || u.Keyframe || u.Repeat || u.Codec != uint32(media.CodecH264) || u.Width != side || u.Height != side {
			t.Fatalf("unit %+v", u)
		}
		if u.CaptureTime != int64(before) || u.HandoffTime < u.CaptureTime || u.EncodeTime < u.HandoffTime || u.EncodeTime > int64(media.Now()) {
			t.Fatalf("times %d, %d, %d after %d", u.CaptureTime, u.HandoffTime, u.EncodeTime, before)
		}
		if len(u.Data) == 0 || u.Data[0] != 0 {
			t.Fatalf("data % x", u.Data)
		}
	}
	if !c.lane.Settle(10 * time.Second) {
		t.Error("a unit is still being written")
	}
	turn, done := c.lane.Take()
	if turn.Next != 7+n || !turn.Last.Picture.Valid() || turn.Waiting.Picture.Valid() || turn.Flight.Picture.Valid() {
		t.Errorf("turn %+v", turn)
	}
	if done.In != n || done.Out != n || done.Dropped != 0 || done.Err != nil || done.Captured != turn.Last.Capture {
		t.Errorf("done %+v", done)
	}
	turn.Last.Picture.Release()
	if id := c.released(); id != n%bufferCount {
		t.Errorf("buffer %d came back last", id)
	}
}

// What is not ordinary goes the way through Go: other messages, frames in unknown or used buffers, and pictures while the lane is not lent.
func TestLaneLeavesAlone(t *testing.T) {
	c := carry(t)
	c.first()
	for name, packet := range map[string][]byte{
		"noise":          []byte("noise"),
		"short frame":    {4, 0, 0, 0, 1},
		"unknown buffer": append([]byte{4, 0, 0, 0, 9}, make([]byte, 17)...),
		"used buffer":    append([]byte{4, 0, 0, 0, 0}, make([]byte, 17)...),
	} {
		if _, err := unix.Write(c.frames, packet); err != nil {
			t.Fatal(err)
		}
		if m := c.message(); string(m.Packet) != string(packet) || m.Frame.Picture.Valid() {
			t.Errorf("%s became % x", name, m.Packet)
		}
	}
	turn, _ := c.lane.Take()
	now := media.Now()
	c.frame(1, now)
	m := c.message()
	if m.Frame.Capture != now || m.Frame.Repeat || m.Frame.Picture.Layout().Width != side {
		t.Errorf("frame %+v", m.Frame)
	}
	m.Frame.Picture.Release()
	if id := c.released(); id != 1 {
		t.Errorf("buffer %d came back", id)
	}
	c.lend(turn)
	if err := c.pipeline.ForceKey(); err != nil {
		t.Fatal(err)
	}
	c.frame(2, now)
	if u, err := c.pipeline.PullUnit(10 * time.Second); err != nil || !u.Key {
		t.Fatalf("a keyframe did not come through Go: key %v, %v", u.Key, err)
	}
	turn, _ = c.lane.Take()
	if !turn.Flight.Picture.Valid() {
		t.Error("the keyframe's picture landed by itself")
	}
	turn.Flight.Picture.Release()
}

// A picture before its time waits for Go's timer.
func TestLaneWaits(t *testing.T) {
	c := carry(t)
	c.first()
	turn, _ := c.lane.Take()
	turn.Due = media.Now().Add(time.Hour)
	c.lend(turn)
	c.frame(1, media.Now())
	c.nudged("a picture waits")
	turn, done := c.lane.Take()
	if !turn.Waiting.Picture.Valid() || done.In != 1 || done.Out != 0 {
		t.Errorf("turn %+v, done %+v", turn, done)
	}
	turn.Waiting.Picture.Release()
}

// A host runtime that is gone is told of once, and the lane is not lent then.
func TestLaneLosesHost(t *testing.T) {
	c := carry(t)
	c.first()
	if err := c.host.Close(); err != nil {
		t.Fatal(err)
	}
	c.frame(1, media.Now())
	c.nudged("the host runtime is gone")
	turn, done := c.lane.Take()
	if done.Err == nil || done.Writing {
		t.Errorf("done %+v", done)
	}
	if _, again := c.lane.Take(); again.Err != nil {
		t.Error("told twice:", again.Err)
	}
	c.frame(2, media.Now())
	f := c.message().Frame
	f.Picture.Release()
	turn.Last.Picture.Release()
}

// A host runtime that does not read holds up the chain and nothing else, and shutting its socket down sets the chain free.
func TestLaneHostStalls(t *testing.T) {
	c := carry(t)
	if err := unix.SetsockoptInt(c.units, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	c.first()
	if err := unix.SetsockoptTimeval(c.frames, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	for id := uint32(1); ; id = (id + 1) % bufferCount {
		c.frame(id, media.Now())
		if _, err := unix.Read(c.frames, b); err != nil { // the buffer before does not come back
			break
		}
	}
	turn, done := c.lane.Take()
	if !done.Writing || done.Err != nil {
		t.Fatalf("done %+v", done)
	}
	if err := unix.Shutdown(c.units, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if !c.lane.Settle(10 * time.Second) {
		t.Fatal("the chain is not free")
	}
	if _, done = c.lane.Take(); done.Err == nil || done.Writing {
		t.Errorf("done %+v", done)
	}
	for _, f := range []*Frame{&turn.Waiting, &turn.Last, &turn.Flight} {
		f.Picture.Release()
	}
}
