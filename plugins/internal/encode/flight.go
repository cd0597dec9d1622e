package encode

import (
	"fmt"

	"github.com/wavry/fleet/hostruntime/media"
	"github.com/wavry/fleet/hostruntime/pluginapi"
	"github.com/wavry/fleet/plugins/internal/gstpipe"
)

// flight is the picture in the encoder.
type flight struct {
	active bool
	frame  gstpipe.Frame
	pushed media.Time
	repeat bool
	key    bool // a keyframe was asked for
}

// faults count towards giving up.
type faults struct {
	pipelines int // failed in a row without a unit
	lost      int // pictures lost in a row
	keys      int // keyframe requests ignored in a row
}

// begin puts the waiting or the last picture into the encoder.
func (r *run) begin(act action, now media.Time) error {
	f, repeat := r.waiting, r.waiting.Repeat
	if act == actRepeat {
		f, repeat = r.last, true
		f.Handoff = now // it was here long before; the encode stage begins now
		r.last, r.plan.last = gstpipe.Frame{}, false
	} else {
		r.waiting, r.plan.waiting = gstpipe.Frame{}, false
	}
	r.flight = flight{frame: f, pushed: now, repeat: repeat, key: r.plan.key}
	if err := r.ready(f); err != nil {
		return r.pipelineFailed(err)
	}
	if err := r.encoder.push(&f.Picture, now, r.flight.key); err != nil {
		return r.pipelineFailed(err)
	}
	r.flight.active = true
	r.plan.sent(now)
	return nil
}

// ready makes sure that the pipeline takes pictures like f, with a new one if need be.
func (r *run) ready(f gstpipe.Frame) error {
	l := f.Picture.Layout()
	dmabuf := f.Picture.DMABuf() && !r.noDMABuf && r.method.dmabufCaps(r.codec, l) != ""
	if f.Picture.DMABuf() && !dmabuf && l.Modifier != 0 {
		return unreadable(r.method.Name, l)
	}
	if r.encoder != nil && r.encoder.fits(l, dmabuf) && r.fps <= r.encoder.in.FPS {
		return nil
	}
	r.closeEncoder()
	in := Input{Codec: r.codec, Layout: l, DMABuf: dmabuf, FPS: r.fps, BitsPerSecond: r.bps, Options: r.options}
	e, err := startEncoder(r.method, in, r.results)
	if err != nil {
		return err
	}
	r.encoder = e
	r.log.Info("encoder pipeline built", "backend", r.method.Name, "pipeline", e.pipeline.String())
	return nil
}

// unreadable says why a tiled picture cannot be encoded.
func unreadable(method string, l media.Layout) error {
	return &pluginapi.UnavailableError{
		Reason: fmt.Sprintf("method %s cannot import a DMA-BUF of format %v with modifier %#x, and the CPU cannot read it", method, l.Format, l.Modifier),
		Remedy: "let the capture plugin hand over linear DMA-BUFs or shared memory, or use an encoder on the GPU that renders",
	}
}

func (r *run) closeEncoder() {
	if r.encoder == nil {
		return
	}
	r.encoder.close()
	r.encoder, r.params = nil, nil
}

// pipelineFailed either lets the picture wait for another pipeline or gives up.
func (r *run) pipelineFailed(err error) error {
	r.again()
	r.noDMABuf = r.noDMABuf || (r.encoder != nil && r.encoder.in.DMABuf) // the next one reads the memory with the CPU
	r.closeEncoder()
	r.settle()
	r.plan.key = true
	r.faults.pipelines++
	if r.faults.pipelines >= rebuildLimit {
		return fmt.Errorf("encode with %s: %w", r.method.Name, r.method.explain(r.codec, err))
	}
	r.log.Warn("encoder pipeline failed, building another", "backend", r.method.Name, "err", err)
	return nil
}

// again lets the picture in flight wait once more, unless a newer one does.
func (r *run) again() {
	f, repeat := r.flight.frame, r.flight.repeat
	r.flight = flight{}
	if !f.Picture.Valid() {
		return
	}
	if r.plan.waiting {
		f.Picture.Release()
		r.stats.dropped++
		return
	}
	f.Repeat = repeat
	r.waiting, r.plan.waiting = f, true
}

// land takes the picture out of flight: it is kept as the last one if nothing newer waits and the source can spare it.
func (r *run) land() {
	f := r.flight.frame
	r.flight = flight{}
	if !f.Picture.Valid() {
		return
	}
	if r.plan.waiting || !r.spare() {
		f.Picture.Release()
		return
	}
	r.last, r.plan.last = f, true
}

// spare reports whether the source can go on while we keep one more picture.
func (r *run) spare() bool {
	buffers := r.in.buffers()
	return buffers == nil || buffers.Spare()
}

// settle notes whether a picture may go in: none does while one is in the encoder or its unit has not been taken.
func (r *run) settle() { r.plan.busy = r.flight.active || r.unit != nil }

// checkFlight notices pictures that the encoder swallowed.
func (r *run) checkFlight(now media.Time) error {
	if !r.flight.active || now.Sub(r.flight.pushed) < lostAfter {
		return nil
	}
	r.faults.lost++
	if r.faults.lost >= maxLost {
		return fmt.Errorf("%w: %d in a row, each for %v", ErrHung, r.faults.lost, lostAfter)
	}
	return r.pipelineFailed(ErrHung)
}
