package gstpipe

// #include "lane.h"
import "C"

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wavry/fleet/hostruntime/media"
)

// Frame is a picture with what is known about it. Whoever holds the frame holds the picture's reference.
type Frame struct {
	Picture Picture
	Capture media.Time
	Handoff media.Time
	Repeat  bool
}

// Lane carries pictures from their source into an encoder and units from it to the host runtime without waking Go (see lane.h). It is
// lent what its owner knows and decides nothing that the owner does not decide as well.
type Lane struct {
	c      *C.wavry_lane
	wake   *os.File
	nudged chan struct{}
	layout media.Layout // of the pictures it takes
}

// Terms are what stays the same as long as the lane is lent.
type Terms struct {
	Pipeline *Pipeline
	Layout   media.Layout  // of the pictures to take, which lie in memory that the CPU can read
	Base     media.Time    // the pipeline's time 0
	Duration time.Duration // of a picture
	Interval time.Duration // of the rate limit; 0: none
	Oldest   time.Duration // a capture time longer ago, or to come, is none
	Buffers  *Buffers      // that pictures lie in; nil: their source has enough
	Units    int           // the host runtime's socket
	Codec    media.Codec
}

// Turn is what changes with each picture. The references in it belong to whoever has it.
type Turn struct {
	Waiting, Last, Flight Frame
	Due                   media.Time // of the rate limit
	Sent                  media.Time // when the last picture went in
	At                    time.Duration
	Next                  uint64 // sequence of the next unit
}

// Done is what the lane did since it was made.
type Done struct {
	In, Out, Dropped uint64
	Captured         media.Time // of the newest picture
	Arrived          media.Time // the same one
	Writing          bool       // a unit is still on its way to the host runtime
	Err              error      // why a unit did not get there; told once
}

// NewLane makes a lane that is lent nothing. Close it after the pipelines that it carries for.
func NewLane() (*Lane, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	l := &Lane{c: C.wavry_lane_new(C.int(fd)), wake: os.NewFile(uintptr(fd), "lane"), nudged: make(chan struct{}, 1)}
	go l.watch() // ends with Close
	return l, nil
}

func (l *Lane) watch() {
	defer close(l.nudged)
	var count [8]byte
	for {
		if _, err := l.wake.Read(count[:]); err != nil {
			return
		}
		select {
		case l.nudged <- struct{}{}:
		default:
		}
	}
}

// Nudged says that the lane should be taken back: something is due that it leaves alone.
func (l *Lane) Nudged() <-chan struct{} { return l.nudged }

// Close frees the lane, which is not lent then.
func (l *Lane) Close() {
	_ = l.wake.Close()
	for range l.nudged { // until watch is gone
	}
	C.wavry_lane_free(l.c)
}

// Lend lets the lane go on from turn. It reports false when pictures of the layout cannot be carried.
func (l *Lane) Lend(terms *Terms, turn *Turn) bool {
	size, err := extent(terms.Layout)
	if err != nil {
		return false
	}
	l.layout = terms.Layout
	t := C.wavry_terms{
		appsrc: terms.Pipeline.element(SourceName), base: C.gint64(terms.Base), duration: C.gint64(terms.Duration),
		interval: C.gint64(terms.Interval), oldest: C.gint64(terms.Oldest), layout: nativeLayout(terms.Layout), size: C.gsize(size),
		units: C.int(terms.Units), codec: C.guint8(terms.Codec),
	}
	if terms.Buffers != nil {
		t.buffers = terms.Buffers.c
	}
	n := C.wavry_turn{
		waiting: cFrame(&turn.Waiting), last: cFrame(&turn.Last), flight: cFrame(&turn.Flight),
		due: C.gint64(turn.Due), sent: C.gint64(turn.Sent), at: C.gint64(turn.At), next: C.guint64(turn.Next),
	}
	C.wavry_lane_lend(l.c, &t, &n)
	return true
}

// Take ends what Lend began. Until then all that was lent is the lane's.
func (l *Lane) Take() (Turn, Done) {
	var t C.wavry_turn
	var d C.wavry_done
	C.wavry_lane_take(l.c, &t, &d)
	done := Done{
		In: uint64(d.in), Out: uint64(d.out), Dropped: uint64(d.dropped), Captured: media.Time(d.captured), Arrived: media.Time(d.arrived),
		Writing: d.writing != 0,
	}
	if d.error != 0 {
		done.Err = fmt.Errorf("send access unit: %w", syscall.Errno(d.error))
	}
	return Turn{
		Waiting: goFrame(&t.waiting, l.layout, false), Last: goFrame(&t.last, l.layout, false), Flight: goFrame(&t.flight, l.layout, false),
		Due: media.Time(t.due), Sent: media.Time(t.sent), At: time.Duration(t.at), Next: uint64(t.next),
	}, done
}

// Settle waits until no unit is being written, and reports false when one still is after limit.
func (l *Lane) Settle(limit time.Duration) bool {
	return C.wavry_lane_settle(l.c, C.gint64(limit.Microseconds())) != 0
}

// CarryUnits lets the lane take what an encoder's pipeline makes.
func (l *Lane) CarryUnits(p *Pipeline) { C.wavry_lane_carry_units(l.c, p.element(SinkName)) }

// SameLayout reports whether pictures lie in memory alike.
func SameLayout(a, b media.Layout) bool {
	return a.Width == b.Width && a.Height == b.Height && a.Format == b.Format && a.Modifier == b.Modifier && slices.Equal(a.Planes, b.Planes)
}

func cFrame(f *Frame) C.wavry_frame {
	return C.wavry_frame{picture: f.Picture.buffer, capture: C.gint64(f.Capture), handoff: C.gint64(f.Handoff), repeat: cbool(f.Repeat)}
}

func goFrame(f *C.wavry_frame, layout media.Layout, dmabuf bool) Frame {
	if f.picture == nil {
		return Frame{}
	}
	return Frame{
		Picture: Picture{buffer: f.picture, layout: layout, dmabuf: dmabuf},
		Capture: media.Time(f.capture), Handoff: media.Time(f.handoff), Repeat: f.repeat != 0,
	}
}
