package gstpipe

// #include "pictures.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/wavry/fleet/hostruntime/media"
)

// The names of a chain's ends.
const (
	SourceName = "src"  // an appsrc: Push, PushBytes, End
	SinkName   = "sink" // an appsink: PullUnit, PullPicture, ForceKey
)

// Source is the appsrc of a chain that is fed by Push. It holds at most one buffer, which the caller guarantees.
func Source(caps string) Element {
	return Element{Factory: "appsrc", Name: SourceName, Props: []Prop{
		P("caps", caps), P("format", "time"), P("is-live", true), P("block", false), P("do-timestamp", false),
		P("min-latency", 0), Maybe("max-buffers", 0), P("max-bytes", 0), P("stream-type", "stream"),
	}}
}

// Sink is the appsink of a chain. It holds all units that were not pulled.
func Sink() Element {
	return Element{Factory: "appsink", Name: SinkName, Props: []Prop{
		P("sync", false), P("async", false), P("emit-signals", false), P("enable-last-sample", false), P("wait-on-eos", false),
		P("qos", false),
	}}
}

// Push sends a picture into the chain at the given time. The picture stays the caller's and can be pushed again.
func (p *Pipeline) Push(picture *Picture, at, duration time.Duration) error {
	if C.wavry_push(p.element(SourceName), picture.buffer, C.gint64(at), C.gint64(duration)) == 0 {
		return p.because(ErrClosed)
	}
	return nil
}

// PushBytes sends a copy of data into the chain.
func (p *Pipeline) PushBytes(data []byte, at time.Duration) error {
	if len(data) == 0 {
		return nil
	}
	if C.wavry_push_bytes(p.element(SourceName), unsafe.Pointer(&data[0]), C.gsize(len(data)), C.gint64(at)) == 0 {
		return p.because(ErrClosed)
	}
	return nil
}

// End tells the chain that nothing more will be pushed.
func (p *Pipeline) End() { C.wavry_end(p.element(SourceName)) }

// ForceKey asks the encoder to make the next picture pushed a keyframe; it must hold none.
func (p *Pipeline) ForceKey() error {
	if C.wavry_force_key(p.element(SinkName)) == 0 {
		return fmt.Errorf("no element took the request for a keyframe")
	}
	return nil
}

// Unit is one buffer that came out of the chain.
type Unit struct {
	Data []byte        // the caller's
	At   time.Duration // the time its picture was pushed with; -1 when the encoder lost it
	Key  bool          // as the encoder marked it
}

// PullUnit waits for a unit, at most timeout (0: without limit), and copies it. It returns ErrTimeout, the pipeline's first error, or
// ErrClosed at the stream's end and after Stop. One goroutine pulls from a pipeline.
func (p *Pipeline) PullUnit(timeout time.Duration) (Unit, error) {
	var u C.wavry_unit
	if err := p.await(timeout, func() bool { return C.wavry_pull_unit(p.element(SinkName), &u) != 0 }); err != nil {
		return Unit{}, err
	}
	defer C.wavry_unit_done(&u)
	out := Unit{At: time.Duration(u.running), Key: u.key != 0, Data: make([]byte, int(u._map.size))}
	copy(out.Data, unsafe.Slice((*byte)(unsafe.Pointer(u._map.data)), int(u._map.size)))
	return out, nil
}

// Pictures readies a pipeline that is not started for PullPicture. With latest one picture is held for it and older ones go back,
// otherwise all are.
func (p *Pipeline) Pictures(latest bool) {
	p.inbox = C.wavry_inbox_new(p.element(SinkName), C.int(p.wake.Fd()), cbool(latest))
}

// PullPicture waits for a raw picture and takes it over without a copy: as long as it lives, its producer lacks one buffer. Capture is the
// buffer's own time on CLOCK_MONOTONIC (if the pipeline was started so), 0 when it has none, and Handoff when it came to the sink. Errors
// are PullUnit's, ErrIncomplete for a buffer to skip, and ErrLayout for caps that make no sense.
func (p *Pipeline) PullPicture(timeout time.Duration) (Frame, error) {
	var r C.wavry_raw
	if err := p.await(timeout, func() bool { return C.wavry_inbox_pull(p.inbox, &r) != 0 }); err != nil {
		return Frame{}, err
	}
	f := Frame{Capture: media.Time(max(r.taken, 0)), Handoff: media.Time(r.arrived)}
	if r.buffer == nil {
		if r.size == 0 {
			return f, ErrIncomplete
		}
		return f, ErrLayout
	}
	f.Picture = Picture{buffer: r.buffer, layout: goLayout(&r.layout, goString(r.format)), dmabuf: r.dmabuf != 0}
	if r.fourcc != 0 {
		f.Picture.layout.Format, f.Picture.layout.Modifier = media.FourCC(r.fourcc), uint64(r.modifier)
	}
	if err := whole(&f.Picture, int64(r.size), goString(r.format)); err != nil {
		f.Picture.Release()
		return f, err
	}
	return f, nil
}

// whole refuses a picture that the CPU could not read to its end. What a DMA-BUF holds only its driver knows.
func whole(p *Picture, size int64, format string) error {
	if p.layout.Format == 0 {
		return fmt.Errorf("%w: format %s", ErrLayout, format)
	}
	if p.dmabuf {
		return nil
	}
	end, err := extent(p.layout)
	if err == nil && end > size {
		err = fmt.Errorf("%w: %d bytes of %d", ErrIncomplete, size, end)
	}
	return err
}

func goLayout(l *C.wavry_layout, format string) media.Layout {
	out := media.Layout{Width: int(l.width), Height: int(l.height), Format: formatOf(format)}
	for i := range min(int(l.planes), C.GST_VIDEO_MAX_PLANES) {
		out.Planes = append(out.Planes, media.Plane{Offset: int(l.offset[i]), Stride: int(l.stride[i])})
	}
	return out
}

// await tries to take something, and waits for the wake-up descriptor between the tries.
func (p *Pipeline) await(timeout time.Duration, take func() bool) error {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := p.wake.SetReadDeadline(deadline); err != nil {
		return ErrClosed
	}
	for {
		switch {
		case p.stopped.Load():
			return ErrClosed
		case take():
			return nil
		}
		if err := p.Err(); err != nil {
			return err
		}
		if C.wavry_is_eos(p.element(SinkName)) != 0 {
			return ErrClosed
		}
		if _, err := p.wake.Read(p.count[:]); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ErrTimeout
			}
			return ErrClosed
		}
	}
}
